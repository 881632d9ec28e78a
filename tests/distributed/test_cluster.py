"""Processes that run together: they agree, and none waits for one that has ended."""

import importlib.util
import signal
import socket
import time

import pytest

from cnn_jax.distributed import join, process_spec
from cnn_jax.distributed.cluster import Cluster
from cnn_jax.distributed.process_spec import ProcessSpec, detect_process
from cnn_jax.errors import UserError
from tests.distributed import processes
from tests.support.command_line import error_of

HOST = socket.gethostname()
GO_ON = (
    " A run needs all its processes: start the same command on all hosts again; with a --workdir "
    "it goes on from its newest checkpoint.\n"
)
SLURM = {
    "SLURM_JOB_ID": "5000",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NODELIST": "node[07-08]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}
MPI = {
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


# Real processes.


def test_processes_agree_and_leave_in_silence() -> None:
    first, second = processes.run("agree")
    said = "said by 0\nin two lines\n"
    # The sum of the indices 0 and 1 is 1; no signal has come. Gloo's greeting is not there.
    assert first[:3] == (0, f"2 True 0 -1\n{said}1.0 None\n", "")
    assert second[:3] == (0, f"2 False 0 -1\n{said}waited: True\n1.0 None\n", "")


def test_all_processes_say_which_one_differs() -> None:
    endings = processes.run("differ", count=3)
    for status, out, err, _ in endings:
        assert (status, out) == (2, "")
        assert err.startswith(f"error: the config of process 1 on {HOST} is not that of process 0")
        assert '"batch_size": 64} is not ' in err
        assert '"batch_size": 128}. Allowed is the same for all' in err


def test_a_stop_that_all_agree_on_is_no_failure() -> None:
    for ending in processes.run("are stopped"):
        assert ending[:3] == (128 + signal.SIGTERM, "", "stopped by SIGTERM: saved\n")


def test_others_hear_why_a_process_ends_while_they_are_within_a_sum() -> None:
    first, failed, third = processes.run("1 fails", count=3)
    assert failed[:3] == (2, "", "error: the disk is full:\nallowed is room. Make some.\n")
    why = f"process 1 on {HOST} has ended: the disk is full: allowed is room. Make some."
    for other in (first, third):
        assert other[:3] == (2, "", f"error: {why}{GO_ON}")
        assert other.seconds < 5


def test_others_hear_it_of_process_0_as_well_and_of_bugs() -> None:
    failed, other = processes.run("0 breaks")
    assert failed.status == 1
    assert failed.err.startswith("Traceback")
    assert failed.err.endswith("ZeroDivisionError: a bug\n")
    why = f"process 0 on {HOST} has ended: ZeroDivisionError: a bug."
    assert other[:3] == (2, "", f"error: {why}{GO_ON}")


@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_is_killed_ends_the_others(killed: int) -> None:
    endings = processes.run(f"{killed} is killed")
    assert endings[killed].status == -signal.SIGKILL
    status, out, err, seconds = endings[1 - killed]
    assert (status, out) == (2, "")
    assert err.startswith(f"error: process {killed} on {HOST} has ended without a word")
    assert err.endswith(GO_ON)
    assert err.count("\n") == 1
    assert seconds < processes.HEARTBEAT_SECONDS["1 is killed"] + 5


# A process alone.


def test_alone_everything_is_the_identity() -> None:
    with Cluster() as alone:
        assert (alone.index, alone.count, alone.is_first) == (0, 1, True)
        assert (alone.largest(-3), alone.smallest(-3), alone.broadcast_from_first("a")) == (
            -3,
            -3,
            "a",
        )
        alone.check_same("the config", "text")
        alone.barrier("here")
        with alone.first_then_others():
            pass
        assert (alone.agreed_signal(None), alone.agreed_signal(15)) == (None, 15)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {**SLURM, "SLURM_STEP_NUM_TASKS": "1"},  # `srun -n 1`, or the shell of `salloc -n 4`.
        {key: value for key, value in SLURM.items() if "STEP" not in key},  # A batch script.
        {"SLURM_JOB_ID": "5000", "SLURM_NTASKS": "4"},  # The shell of an older `salloc`.
        {**MPI, "OMPI_COMM_WORLD_SIZE": "1"},
        POD,
        {**POD, "JOB_COMPLETION_INDEX": "0"},  # Without the package that JAX asks with.
    ],
)
def test_a_process_that_is_by_itself_waits_for_nobody(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert detect_process(environment=environment) is None
    assert detect_process(None, 1, None, environment) is None
    assert detect_process("here:1", 1, 0, environment) is None


def test_one_process_is_alone_whatever_the_environment_says() -> None:
    assert detect_process(None, 1, None, SLURM) is None


# Where a process is.


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        # Job 5000 in step 2: 5002 % 4096 = 906, and 61440 + 906 = 62346.
        (SLURM, ProcessSpec("node07:62346", 4, 3, [1])),
        ({**SLURM, "SLURM_STEP_NODELIST": "a,b"}, ProcessSpec("a:62346", 4, 3, [1])),
        (
            {**SLURM, "SLURM_STEP_NODELIST": "rack[2,4-5]-n1,b"},
            ProcessSpec("rack2-n1:62346", 4, 3, [1]),
        ),
        # A process that is alone on its host, or is shown one GPU, has all that it sees.
        ({**SLURM, "SLURM_STEP_NUM_NODES": "4"}, ProcessSpec("node07:62346", 4, 3, None)),
        ({**SLURM, "CUDA_VISIBLE_DEVICES": "1"}, ProcessSpec("node07:62346", 4, 3, None)),
        ({**SLURM, "CUDA_VISIBLE_DEVICES": "0,1"}, ProcessSpec("node07:62346", 4, 3, [1])),
        ({**SLURM, "JAX_COORDINATOR_PORT": "99"}, ProcessSpec("node07:99", 4, 3, [1])),
        ({**SLURM, "JAX_COORDINATOR_ADDRESS": "c:9"}, ProcessSpec("c:9", 4, 3, [1])),
        # 1531576320 / 4096 = 373920 = 91 * 4096 + 1184, and 61440 + 1184 = 62624.
        (MPI, ProcessSpec("10.96.0.1:62624", 2, 1, [1])),
        ({**SLURM, **MPI}, ProcessSpec("10.96.0.1:62624", 2, 1, [1])),
    ],
)
def test_the_environment_says_which_process_this_is(
    environment: dict[str, str], place: ProcessSpec
) -> None:
    assert detect_process(environment=environment) == place


def test_flags_come_before_the_environment() -> None:
    assert detect_process("c:9", 2, 0, SLURM) == ProcessSpec("c:9", 2, 0)
    without_address = {key: value for key, value in MPI.items() if "orte" not in key}  # Version 5.
    assert detect_process("c:9", environment=without_address) == ProcessSpec("c:9", 2, 1, [1])
    with pytest.raises(UserError, match=r"Open MPI 5: allowed is it with --coordinator=HOST:PORT"):
        detect_process(environment=without_address)
    assert detect_process("[::1]:9", 2, 0).host == "::1"  # type: ignore[union-attr]


def test_a_broken_environment_is_named() -> None:
    with pytest.raises(UserError, match="SLURM_PROCID=one in the environment: allowed is a number"):
        detect_process(environment={**SLURM, "SLURM_PROCID": "one"})
    with pytest.raises(UserError, match="process 4 of 4: allowed are 0 to 3"):
        detect_process(environment={**SLURM, "SLURM_PROCID": "4"})


class _Asked:
    """What JAX says of a cluster that it has to ask."""

    count = 2

    @classmethod
    def is_env_present(cls) -> bool:
        return True

    @classmethod
    def get_process_count(cls) -> int:
        return cls.count

    @classmethod
    def get_process_id(cls) -> int:
        return 1

    @classmethod
    def get_coordinator_address(
        cls, timeout_secs: int | None, override_coordinator_port: str | None
    ) -> str:
        return f"pod-0:{override_coordinator_port or 55527}"


class _Silent(_Asked):
    @classmethod
    def is_env_present(cls) -> bool:
        time.sleep(1)
        return True


class _Forbidden(_Asked):
    @classmethod
    def get_process_count(cls) -> int:
        raise RuntimeError("Kubernetes API Error: 403")


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """In which JAX's detection can be replaced."""
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: process_spec if name == "kubernetes" else None,
    )
    return monkeypatch


def test_kubernetes_is_asked_by_jax(pod: pytest.MonkeyPatch) -> None:
    indexed = {**POD, "JOB_COMPLETION_INDEX": "1"}
    pod.setattr("jax._src.clusters.K8sCluster", _Asked)
    assert detect_process(environment=indexed) == ProcessSpec("pod-0:55527", 2, 1)
    pod.setattr(_Asked, "count", 1)
    assert detect_process(environment=indexed) is None
    pod.setattr("jax._src.clusters.K8sCluster", _Forbidden)
    with pytest.raises(UserError, match=r"Kubernetes, but not which one \(.*403\): allowed"):
        detect_process(environment=indexed)
    pod.setattr("jax._src.clusters.K8sCluster", _Silent)
    pod.setattr(process_spec, "_ASK_SECONDS", 0.05)
    with pytest.raises(UserError, match=r"\(no answer\).*--num_processes=1"):
        detect_process(environment=indexed)


# Flags.


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--coordinator=a:1", "--num_processes=2"], "no --process_id=0..N-1 given"),
        (["--coordinator=a", "--num_processes=2", "--process_id=0"], "a is not HOST:PORT"),
        (["--coordinator=a:1", "--num_processes=2", "--process_id=2"], "allowed are 0 to 1"),
        (
            ["--mode=describe", "--process_id=0"],
            "--process_id=0 has no effect with --mode=describe",
        ),
    ],
)
def test_wrong_flags_are_named(flags: list[str], error: str) -> None:
    assert error in error_of("--config=configs/digits.py", *flags)


def test_a_port_that_is_taken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen at port {port}"):
            join._check_port(ProcessSpec(f"127.0.0.1:{port}", 2, 0))
        join._check_port(ProcessSpec(f"127.0.0.1:{port}", 2, 1))  # Of another host.


def test_who_does_not_meet_the_others_says_so() -> None:
    assert "nobody answers there" in join._not_joined(ProcessSpec("127.0.0.1:1", 2, 1), "late")

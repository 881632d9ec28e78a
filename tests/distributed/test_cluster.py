"""Clusters: processes agree, none waits for one that has ended, and launchers are detected."""

import importlib.util
import re
import signal
import socket
import time

import pytest

from cnn_jax.distributed import join, process_spec
from cnn_jax.distributed.cluster import Cluster
from cnn_jax.distributed.process_spec import ProcessSpec, detect_process
from cnn_jax.errors import UserError
from tests.distributed import processes
from tests.support.command_line import error_message

HOST = socket.gethostname()
ADVICE = (
    " A run needs all its processes: start the same command on all hosts again; with a --workdir "
    "the run resumes from its newest checkpoint.\n"
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


# Several real processes.


@pytest.mark.cluster
def test_processes_agree_and_end_without_messages() -> None:
    first, second = processes.run_cluster("agree")
    broadcast = "text of 0\nin two lines\n"
    # The sum of the indices 0 and 1 is 1; no signal has come. Gloo's messages are suppressed.
    assert first[:3] == (0, f"2 True 0 -1\n{broadcast}1.0 None\n", "")
    assert second[:3] == (0, f"2 False 0 -1\n{broadcast}waited: True\n1.0 None\n", "")


@pytest.mark.cluster
def test_all_processes_name_the_one_that_differs() -> None:
    results = processes.run_cluster("differ", count=3)
    for status, out, err, _ in results:
        assert (status, out) == (2, "")
        assert err.startswith(
            f"error: the config of process 1 on {HOST} differs from that of process 0 on {HOST}: "
        )
        assert '"batch_size": 64} instead of ' in err
        assert '"batch_size": 128}. It must be the same in all processes' in err


@pytest.mark.cluster
def test_agreed_stop_is_not_reported_as_a_failure() -> None:
    for result in processes.run_cluster("stop"):
        assert result[:3] == (128 + signal.SIGTERM, "", "stopped by SIGTERM: saved\n")


@pytest.mark.cluster
def test_other_processes_report_why_one_has_ended_although_they_wait_in_xla() -> None:
    first, failed, third = processes.run_cluster("user error in 1", count=3)
    assert failed[:3] == (2, "", "error: the disk is full:\nit must have space. Free some.\n")
    reason = f"process 1 on {HOST} has ended: the disk is full: it must have space. Free some."
    for survivor in (first, third):
        assert survivor[:3] == (2, "", f"error: {reason}{ADVICE}")
        assert survivor.seconds < 5


@pytest.mark.cluster
def test_other_processes_report_a_bug_in_process_0() -> None:
    failed, survivor = processes.run_cluster("bug in 0")
    assert failed.status == 1
    assert failed.err.startswith("Traceback")
    assert failed.err.endswith("ZeroDivisionError: a bug\n")
    reason = f"process 0 on {HOST} has ended: ZeroDivisionError: a bug."
    assert survivor[:3] == (2, "", f"error: {reason}{ADVICE}")


@pytest.mark.cluster
@pytest.mark.parametrize("killed", [0, 1])
def test_killed_process_ends_the_other_ones(killed: int) -> None:
    results = processes.run_cluster(f"kill {killed}")
    assert results[killed].status == -signal.SIGKILL
    status, out, err, seconds = results[1 - killed]
    assert (status, out) == (2, "")
    assert err.startswith(f"error: process {killed} on {HOST} has ended: ")
    assert re.search(r": (it has sent no heartbeat for \d+ s, and|.* closed, and it) gave no", err)
    assert err.endswith(ADVICE)
    assert err.count("\n") == 1
    assert seconds < processes.HEARTBEAT_SECONDS["kill 1"] + 5


# A single process.


def test_collective_operations_of_a_single_process_return_their_argument() -> None:
    with Cluster() as cluster:
        assert (cluster.process_index, cluster.process_count, cluster.is_first) == (0, 1, True)
        assert cluster.all_reduce_max(-3) == cluster.all_reduce_min(-3) == -3
        assert cluster.broadcast_from_first("a") == "a"
        cluster.check_same("the config", "text")
        cluster.barrier("here")
        with cluster.first_then_others():
            pass
        assert (cluster.agree_on_signal(None), cluster.agree_on_signal(15)) == (None, 15)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {**SLURM, "SLURM_STEP_NUM_TASKS": "1"},  # `srun -n 1`, or the shell of `salloc -n 4`.
        {key: value for key, value in SLURM.items() if "STEP" not in key},  # A batch script.
        {"SLURM_JOB_ID": "5000", "SLURM_NTASKS": "4"},  # The shell of an older `salloc`.
        {**MPI, "OMPI_COMM_WORLD_SIZE": "1"},
        POD,
        {
            **POD,
            "JOB_COMPLETION_INDEX": "0",
        },  # Without the package that JAX needs for its requests.
    ],
)
def test_process_that_was_started_alone_waits_for_no_other(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert detect_process(environment=environment) is None
    assert detect_process(None, 1, None, environment) is None
    assert detect_process("here:1", 1, 0, environment) is None


def test_num_processes_1_overrides_the_environment() -> None:
    assert detect_process(None, 1, None, SLURM) is None


# The environment of launchers.


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        # Job 5000 in step 2: 5002 % 4096 = 906, and 61440 + 906 = 62346.
        (SLURM, ProcessSpec("node07:62346", 4, 3, [1])),
        ({**SLURM, "SLURM_STEP_NODELIST": "a,b"}, ProcessSpec("a:62346", 4, 3, [1])),
        (
            {**SLURM, "SLURM_STEP_NODELIST": "rack[2,4-5]-n1,b"},
            ProcessSpec("rack2-n1:62346", 4, 3, [1]),
        ),
        # A process that is alone on its host, or sees one GPU, uses all that it sees.
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
def test_process_is_detected_from_the_launcher(
    environment: dict[str, str], expected: ProcessSpec
) -> None:
    assert detect_process(environment=environment) == expected


def test_flags_override_the_environment() -> None:
    assert detect_process("c:9", 2, 0, SLURM) == ProcessSpec("c:9", 2, 0)
    without_address = {key: value for key, value in MPI.items() if "orte" not in key}  # Version 5.
    assert detect_process("c:9", environment=without_address) == ProcessSpec("c:9", 2, 1, [1])
    with pytest.raises(UserError, match=r"\(Open MPI 5 never does\): --coordinator must be given"):
        detect_process(environment=without_address)
    assert detect_process("[::1]:9", 2, 0).host == "::1"  # type: ignore[union-attr]


def test_invalid_environment_variable_is_named() -> None:
    message = "SLURM_PROCID=one in the environment is invalid: it must be an integer, as srun sets"
    with pytest.raises(UserError, match=message):
        detect_process(environment={**SLURM, "SLURM_PROCID": "one"})
    message = "process_id=4 is invalid with --num_processes=4: it must be an integer from 0 to 3"
    with pytest.raises(UserError, match=message):
        detect_process(environment={**SLURM, "SLURM_PROCID": "4"})


class _FakeCluster:
    """A cluster of two processes, in the place of those that JAX sends requests to."""

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


class _SlowCluster(_FakeCluster):
    @classmethod
    def is_env_present(cls) -> bool:
        time.sleep(1)
        return True


class _ForbiddenCluster(_FakeCluster):
    @classmethod
    def get_process_count(cls) -> int:
        raise RuntimeError("Kubernetes API Error: 403")


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Pretends that the package `kubernetes` is installed; returns a patch for JAX's class."""
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: process_spec if name == "kubernetes" else None,
    )
    return monkeypatch


def test_process_in_kubernetes_is_detected_by_jax(pod: pytest.MonkeyPatch) -> None:
    indexed = {**POD, "JOB_COMPLETION_INDEX": "1"}
    pod.setattr("jax._src.clusters.K8sCluster", _FakeCluster)
    assert detect_process(environment=indexed) == ProcessSpec("pod-0:55527", 2, 1)
    pod.setattr(_FakeCluster, "count", 1)
    assert detect_process(environment=indexed) is None
    pod.setattr("jax._src.clusters.K8sCluster", _ForbiddenCluster)
    message = r"which process of Kubernetes this is \(.*403\): its requests must be answered"
    with pytest.raises(UserError, match=message):
        detect_process(environment=indexed)
    pod.setattr("jax._src.clusters.K8sCluster", _SlowCluster)
    pod.setattr(process_spec, "_QUERY_TIMEOUT_SECONDS", 0.05)
    with pytest.raises(UserError, match=r"\(no answer\).*--num_processes=1"):
        detect_process(environment=indexed)


# Flags.


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--coordinator=a:1", "--num_processes=2"], "no --process_id=0..N-1 given"),
        (
            ["--coordinator=a", "--num_processes=2", "--process_id=0"],
            "--coordinator=a is invalid: it must be HOST:PORT",
        ),
        (
            ["--coordinator=a:1", "--num_processes=2", "--process_id=2"],
            "it must be an integer from 0 to 1",
        ),
        (
            ["--mode=describe", "--process_id=0"],
            "--process_id=0 has no effect with --mode=describe",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:the load_module.. method:DeprecationWarning")
def test_invalid_flags_are_named(flags: list[str], error: str) -> None:
    assert error in error_message("--config=configs/digits.py", *flags)


def test_port_in_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on port {port} .*must be free"):
            join._check_port(ProcessSpec(f"127.0.0.1:{port}", 2, 0))
        join._check_port(ProcessSpec(f"127.0.0.1:{port}", 2, 1))  # It is the port of another host.


def test_failure_to_join_tells_that_process_0_does_not_answer() -> None:
    message = join._join_failure(ProcessSpec("127.0.0.1:1", 2, 1), "late")
    assert "cannot join the others at 127.0.0.1:1 (late; no answer from that address: " in message

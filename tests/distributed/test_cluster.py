"""Clusters: processes agree, and none waits for one that has ended."""

import re
import signal
import socket

import pytest

from cnn_jax.distributed.cluster import Cluster
from tests.distributed import processes
from tests.support.command_line import error_message

HOST = socket.gethostname()
ADVICE = (
    " A run needs all its processes: start the same command on all hosts again; with a --workdir "
    "the run resumes from its newest checkpoint.\n"
)
# Several real processes.


@pytest.mark.cluster
def test_processes_agree_and_end_without_messages() -> None:
    first, second = processes.run_cluster("agree")
    broadcast = "text of 0\nin two lines\n"
    # The sum of the indices 0 and 1 is 1; no signal has come.
    assert first[:3] == (0, f"2 True 0 -1\n{broadcast}1.0 None\n", "")
    assert second[:3] == (0, f"2 False 0 -1\n{broadcast}waited: True\n1.0 None\n", "")


@pytest.mark.cluster
def test_processes_find_each_other_by_the_variables_of_a_launcher() -> None:
    first, second = processes.run_cluster("find each other")
    assert first[:3] == (0, "2 0\n", "")
    assert second[:3] == (0, "2 1\n", "")


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
    reason = "(it does not answer, and|its connection closed, and it) gave no reason"
    ended = f"process {killed} on {HOST} has ended: {reason}"
    if killed == 0:  # JAX may abort the process before its own threads have noticed.
        ended = f"{ended}|process 0 on {HOST} has probably ended, since JAX aborts process 1"
    assert re.match(f"error: ({ended}).{re.escape(ADVICE.rstrip())}", err)
    assert err.count("\n") == 1
    assert seconds < processes.HEARTBEAT_SECONDS["kill 1"] + 5


@pytest.mark.cluster
def test_process_that_aborts_says_so() -> None:
    survivor, aborted = processes.run_cluster("abort 1")
    assert aborted.status == 2
    assert aborted.err.startswith(
        f"error: process 0 on {HOST} has probably ended, since JAX aborts"
    )
    assert survivor.status == 2
    assert survivor.err.startswith(f"error: process 1 on {HOST} has ended: it does not answer")


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


# Flags.


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--coordinator=a:1", "--num_processes=2"], "only some of the flags --coordinator="),
        (["--num_processes=1"], "they must be given together"),
        (
            ["--coordinator=a", "--num_processes=2", "--process_id=0"],
            "--coordinator=a is invalid: it must be HOST:PORT",
        ),
        (
            ["--mode=describe", "--process_id=0"],
            "--process_id=0 has no effect with --mode=describe",
        ),
    ],
)
def test_invalid_flags_are_named(flags: list[str], error: str) -> None:
    assert error in error_message("--config=configs/digits.py", *flags)


def test_port_in_use_is_named() -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        flags = [f"--coordinator=localhost:{port}", "--num_processes=2", "--process_id=0"]
        error = error_message("--config=configs/digits.py", *flags)
    assert f"process 0 cannot listen on port {port} (Address already in use" in error

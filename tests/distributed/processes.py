"""Runs clusters of small processes on this host, each of which plays a scenario.

    python -m tests.distributed.processes COORDINATOR NUM_PROCESSES PROCESS_ID SCENARIO

An alarm ends each process after a minute, whatever happens to the test that started it.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from cnn_jax.distributed.cluster import Cluster
from tests.support.command_line import ROOT

TIMEOUT_SECONDS = 60
# Short for processes that wait for a killed one; longer for those that also compile. All others
# have the program's own timeout.
HEARTBEAT_SECONDS = {"kill 0": 2, "kill 1": 2, "abort 1": 2, "train until killed": 6}


class ProcessResult(NamedTuple):
    """Status and output of a process that ended `seconds` after the first of its cluster."""

    status: int
    out: str
    err: str
    seconds: float


def run_cluster(scenario: str, count: int = 2, **environment: str) -> list[ProcessResult]:
    """Runs a scenario in `count` processes, and returns their results in order of rank."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        coordinator = f"127.0.0.1:{server.getsockname()[1]}"
    local = {"JAX_PLATFORMS": "cpu", "http_proxy": "http://127.0.0.1:9"}
    module = "tests.distributed.processes"
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", module, coordinator, str(count), str(index), scenario],
            cwd=ROOT,
            env=os.environ | local | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]
    ended_at: dict[int, float] = {}
    while len(ended_at) < count:
        time.sleep(0.02)
        for index, process in enumerate(processes):
            if index not in ended_at and process.poll() is not None:
                ended_at[index] = time.monotonic()
    first = min(ended_at.values())
    return [
        ProcessResult(process.returncode, *process.communicate(), ended_at[index] - first)
        for index, process in enumerate(processes)
    ]


def _main(coordinator: str, num_processes: int, process_id: int, scenario: str) -> None:
    signal.alarm(TIMEOUT_SECONDS)
    from cnn_jax.distributed import join
    from cnn_jax.errors import Stopped, UserError

    timeout = HEARTBEAT_SECONDS.get(scenario, join.HEARTBEAT_TIMEOUT_SECONDS)
    position: dict[str, Any] = {
        "coordinator": coordinator,
        "num_processes": num_processes,
        "process_id": process_id,
    }
    if scenario == "find each other":
        position = {"distributed": True}
        _set_slurm_variables(coordinator, num_processes, process_id)
    try:
        with join.join(**position, heartbeat_timeout_seconds=timeout) as cluster:
            SCENARIOS[scenario](cluster)
    except UserError as error:
        print("error:", error, file=sys.stderr)
        join.exit_process(2)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        join.exit_process(128 + stopped.signal_number)
    join.exit_process(0)


def _set_slurm_variables(coordinator: str, num_processes: int, process_id: int) -> None:
    """Sets the environment variables that `srun` sets and JAX reads."""
    host, _, port = coordinator.rpartition(":")
    os.environ |= {
        "SLURM_JOB_ID": "5000",
        "SLURM_STEP_NODELIST": host,
        "SLURM_NTASKS": str(num_processes),
        "SLURM_PROCID": str(process_id),
        "SLURM_LOCALID": str(process_id),
        "JAX_COORDINATOR_PORT": port,
    }


def _agree(cluster: Cluster) -> None:
    index = cluster.process_index
    print(
        cluster.process_count,
        cluster.is_first,
        cluster.all_reduce_max(-index),
        cluster.all_reduce_min(-index),
    )
    print(cluster.broadcast_from_first(f"text of {index}\nin two lines"))
    cluster.check_same("the answer", "42")
    began = time.monotonic()
    with cluster.first_then_others():
        if cluster.is_first:
            time.sleep(1)
        else:
            print("waited:", time.monotonic() - began > 0.9)
    for number in range(100):
        assert cluster.all_reduce_max(number + index) == number + cluster.process_count - 1
    print(_sum_of_indices(cluster), cluster.agree_on_signal(None))


def _differ(cluster: Cluster) -> None:
    # Two of three processes have the same config, so the error must name the third.
    batch_size = 64 if cluster.process_index == 1 else 128
    cluster.check_same("the config", f'{{"activation": "relu", "batch_size": {batch_size}}}')


def _stop(cluster: Cluster) -> None:
    from cnn_jax.errors import Stopped

    number = cluster.agree_on_signal(signal.SIGTERM if cluster.process_index == 1 else None)
    assert number == signal.SIGTERM
    if cluster.process_index == 1:
        time.sleep(1)  # As if it had more to save than process 0; that is no failure.
    raise Stopped("stopped by SIGTERM: saved", number)


def _raise_user_error(cluster: Cluster, index: int) -> None:
    from cnn_jax.errors import UserError

    if cluster.process_index == index:
        time.sleep(0.5)  # By now the others wait in the sum.
        raise UserError("the disk is full:\nit must have space. Free some.")
    _sum_of_indices(cluster)


def _raise_bug(cluster: Cluster, index: int) -> None:
    if cluster.process_index == index:
        time.sleep(0.5)
        raise ZeroDivisionError("a bug")
    _sum_of_indices(cluster)


def _kill(cluster: Cluster, index: int) -> None:
    if cluster.process_index == index:
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    _sum_of_indices(cluster)


def _abort(cluster: Cluster) -> None:
    if cluster.process_index == 1:
        os.abort()
    _sum_of_indices(cluster)


def _train(cluster: Cluster) -> None:
    """Runs the small training that the variable TRAINING describes as JSON.

    `workdir` and `changes` are those of the run. Process 1 sends itself the signal `signal` before
    the step `before`, [epoch, first batch], unless that is null. With `lose_folder` the folder of
    the checkpoints is lost before the first save.
    """
    from absl import logging

    from cnn_jax import experiment
    from cnn_jax.checkpoint.manager import Checkpoints
    from cnn_jax.training.device_feed import DeviceFeed
    from tests.support.small import small_config

    training = json.loads(os.environ["TRAINING"])
    train = DeviceFeed.train

    def signal_and_train(
        self: DeviceFeed, state: Any, total: Any, epoch: int, first: int, end: int
    ) -> Any:
        if cluster.process_index == 1 and [epoch, first] == training.get("before"):
            os.kill(os.getpid(), training["signal"])
        return train(self, state, total, epoch, first, end)

    def lose_folder_and_save(self: Checkpoints, *arguments: Any) -> None:
        if cluster.is_first and training["lose_folder"]:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.write_text("")
        save(self, *arguments)

    save = Checkpoints.save
    setattr(Checkpoints, "save", lose_folder_and_save)  # noqa: B010  # mypy forbids the assignment.
    setattr(DeviceFeed, "train", signal_and_train)  # noqa: B010
    logging.set_verbosity(logging.FATAL)  # As main.py does.
    experiment.run(small_config(**training["changes"]), training["workdir"], cluster=cluster)


def _sum_of_indices(cluster: Cluster) -> float:
    """Returns the sum of all process indices, for which XLA waits for each process."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(np.array(jax.devices()), ("all",))
    num_devices = jax.local_device_count()
    local = np.full(num_devices, cluster.process_index / num_devices, np.float32)
    split = NamedSharding(mesh, PartitionSpec("all"))
    array = jax.make_array_from_process_local_data(split, local)
    compute_sum: Callable[[jax.Array], jax.Array] = jax.jit(
        jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec())
    )
    return float(compute_sum(array))


SCENARIOS: dict[str, Callable[[Cluster], None]] = {
    "agree": _agree,
    "find each other": lambda cluster: print(cluster.process_count, cluster.process_index),
    "differ": _differ,
    "stop": _stop,
    "user error in 1": lambda cluster: _raise_user_error(cluster, 1),
    "bug in 0": lambda cluster: _raise_bug(cluster, 0),
    "kill 0": lambda cluster: _kill(cluster, 0),
    "kill 1": lambda cluster: _kill(cluster, 1),
    "abort 1": _abort,
    "train": _train,
    "train until killed": _train,
}

if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])

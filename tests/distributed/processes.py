"""Small processes that form a cluster on this machine, and what each does there.

    python -m tests.distributed.processes COORDINATOR COUNT INDEX DEED

They are ended by an alarm after a minute, whatever becomes of the test that starts them.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from cnn_jax.distributed.cluster import Cluster
from tests.support.command_line import ROOT

LIMIT_SECONDS = 60
# For those who wait for a dead one; others may be busy for longer, as may those that compile.
HEARTBEAT_SECONDS = {"0 is killed": 2.0, "1 is killed": 2.0, "trains until killed": 6.0}


class Ending(NamedTuple):
    """How a process ended, `seconds` after the first one of its cluster."""

    status: int
    out: str
    err: str
    seconds: float


def run(deed: str, count: int = 2, **environment: str) -> list[Ending]:
    """How all processes of a cluster end that do `deed`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        coordinator = f"127.0.0.1:{server.getsockname()[1]}"
    local = {"JAX_PLATFORMS": "cpu", "http_proxy": "http://127.0.0.1:9"}
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.distributed.processes",
                coordinator,
                str(count),
                str(index),
                deed,
            ],
            cwd=ROOT,
            env=os.environ | local | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]
    ended: dict[int, float] = {}
    while len(ended) < count:
        time.sleep(0.02)
        for index, process in enumerate(processes):
            if index not in ended and process.poll() is not None:
                ended[index] = time.monotonic()
    first = min(ended.values())
    return [
        Ending(process.returncode, *process.communicate(), ended[index] - first)
        for index, process in enumerate(processes)
    ]


def _main(coordinator: str, count: int, index: int, deed: str) -> None:
    signal.alarm(LIMIT_SECONDS)
    from cnn_jax.distributed import join
    from cnn_jax.errors import Stopped, UserError

    seconds = HEARTBEAT_SECONDS.get(deed, join.HEARTBEAT_SECONDS)
    try:
        with join.join(coordinator, count, index, heartbeat_seconds=seconds) as cluster:
            DEEDS[deed](cluster)
    except UserError as error:
        print("error:", error, file=sys.stderr)
        join.end_process(2)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        join.end_process(128 + stopped.number)


def _agree(cluster: Cluster) -> None:
    index = cluster.index
    print(cluster.count, cluster.is_first, cluster.largest(-index), cluster.smallest(-index))
    print(cluster.broadcast_from_first(f"said by {index}\nin two lines"))
    cluster.check_same("the answer", "42")
    began = time.monotonic()
    with cluster.first_then_others():
        if cluster.is_first:
            time.sleep(1)
        else:
            print("waited:", time.monotonic() - began > 0.9)
    for number in range(100):
        assert cluster.largest(number + index) == number + cluster.count - 1
    print(_sum_of_indices(cluster), cluster.agreed_signal(None))


def _differ(cluster: Cluster) -> None:
    # Two processes say the same, and they are right.
    batch_size = 64 if cluster.index == 1 else 128
    cluster.check_same("the config", f'{{"activation": "relu", "batch_size": {batch_size}}}')


def _are_stopped(cluster: Cluster) -> None:
    from cnn_jax.errors import Stopped

    number = cluster.agreed_signal(signal.SIGTERM if cluster.index == 1 else None)
    assert number == signal.SIGTERM
    if cluster.index == 1:
        time.sleep(1)  # To save more than the other one, which is no failure.
    raise Stopped("stopped by SIGTERM: saved", number)


def _fails(cluster: Cluster, who: int) -> None:
    from cnn_jax.errors import UserError

    if cluster.index == who:
        time.sleep(0.5)  # The others are within the sum by now.
        raise UserError("the disk is full:\nallowed is room. Make some.")
    _sum_of_indices(cluster)


def _breaks(cluster: Cluster, who: int) -> None:
    if cluster.index == who:
        time.sleep(0.5)
        raise ZeroDivisionError("a bug")
    _sum_of_indices(cluster)


def _is_killed(cluster: Cluster, who: int) -> None:
    if cluster.index == who:
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    _sum_of_indices(cluster)


def _trains(cluster: Cluster) -> None:
    """The small run, as the environment says; a process may send itself a signal before a step."""
    from absl import logging

    from cnn_jax import experiment
    from cnn_jax.training.device_feed import DeviceFeed
    from tests.support.small import small_config

    wanted = json.loads(os.environ["TRAINING"])
    train = DeviceFeed.train

    def step(self: DeviceFeed, state: Any, total: Any, epoch: int, first: int, end: int) -> Any:
        if cluster.index == 1 and [epoch, first] == wanted.get("before"):
            os.kill(os.getpid(), wanted["signal"])
        return train(self, state, total, epoch, first, end)

    setattr(DeviceFeed, "train", step)  # noqa: B010  # Which mypy allows.
    logging.set_verbosity(logging.FATAL)  # As main.py does.
    experiment.run(small_config(**wanted["changes"]), wanted["workdir"], cluster=cluster)


def _sum_of_indices(cluster: Cluster) -> float:
    """Of all processes: XLA waits for each of them."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(np.array(jax.devices()), ("all",))
    share = np.full(jax.local_device_count(), cluster.index / jax.local_device_count(), np.float32)
    whole = jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("all")), share)
    added: Callable[[jax.Array], jax.Array] = jax.jit(
        jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec())
    )
    return float(added(whole))


DEEDS: dict[str, Callable[[Cluster], None]] = {
    "agree": _agree,
    "trains": _trains,
    "trains until killed": _trains,
    "differ": _differ,
    "are stopped": _are_stopped,
    "0 breaks": lambda cluster: _breaks(cluster, 0),
    "1 fails": lambda cluster: _fails(cluster, 1),
    "0 is killed": lambda cluster: _is_killed(cluster, 0),
    "1 is killed": lambda cluster: _is_killed(cluster, 1),
}

if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])

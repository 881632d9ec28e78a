"""Which process of which cluster this one is: by flags, or by what its environment says.

The environments are those that JAX knows. A process that is by itself must never wait for others:
so an environment counts only where it says that this very program was started several times.
"""

import dataclasses
import importlib.util
import os
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from cnn_jax.errors import UserError

T = TypeVar("T")

FLAGS = "--coordinator=HOST:PORT --num_processes=N --process_id=0..N-1"
_FIRST_PORT, _NUM_PORTS = 61440, 4096  # Above those that Linux gives to whoever asks for one.
_ASK_SECONDS = 120.0  # For names that a young pod's neighbours do not have yet.


@dataclasses.dataclass(frozen=True)
class ProcessSpec:
    """Where a process stands.

    Attributes:
      coordinator: HOST:PORT, where process 0 listens.
      count: of processes, at least 2.
      index: of this process.
      local_devices: those of this host that are this process's; None: all.
    """

    coordinator: str
    count: int
    index: int
    local_devices: list[int] | None = None

    @property
    def host(self) -> str:
        """Where process 0 is."""
        return self.coordinator.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.coordinator.rpartition(":")[2])


@dataclasses.dataclass(frozen=True)
class _Launcher:
    """What an environment says."""

    name: str
    count: int
    index: int
    coordinator: Callable[[], str]
    local_devices: list[int] | None = None


def detect_process(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> ProcessSpec | None:
    """Where this process stands, or None if it is alone.

    Args:
      coordinator: HOST:PORT of process 0, where a flag gives it.
      num_processes: likewise; 1: alone, whatever the environment says.
      process_id: likewise.
      environment: for what no flag gives.

    Raises:
      UserError: when only a part is known, or something is no such thing.
    """
    flags = coordinator is not None, num_processes is not None, process_id is not None
    around = None
    if not all(flags) and num_processes != 1:
        around = _detect_launcher(environment)
    if around:
        count = around.count if num_processes is None else num_processes
        index = around.index if process_id is None else process_id
        where = coordinator or environment.get("JAX_COORDINATOR_ADDRESS") or around.coordinator()
        return _checked(ProcessSpec(where, count, index, around.local_devices))
    if not any(flags):
        return None
    if num_processes == 1 and not coordinator and not process_id:
        return None
    missing = [word for word, given in zip(FLAGS.split(), flags, strict=True) if not given]
    if missing or coordinator is None or num_processes is None or process_id is None:
        raise UserError(
            f"no {' '.join(missing)} given, and the environment does not say it either: allowed "
            f"are {FLAGS}, all three or none. Add what is missing."
        )
    place = _checked(ProcessSpec(coordinator, num_processes, process_id))
    return place if place.count > 1 else None


def within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` returns or raises, done in a thread, so that signals are answered meanwhile.

    Raises:
      TimeoutError: when it takes longer. It is not stopped.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(timeout=seconds)


def _checked(place: ProcessSpec) -> ProcessSpec:
    host, _, port = place.coordinator.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
        raise UserError(
            f"--coordinator={place.coordinator} is not HOST:PORT: allowed is the host of process 0 "
            "with a free port there, 1 to 65535. Use one such as node1:61440."
        )
    if not 0 <= place.index < place.count:
        raise UserError(
            f"process {place.index} of {place.count}: allowed are 0 to {place.count - 1}. "
            "Mend --process_id or --num_processes."
        )
    return place


def _detect_launcher(environment: Mapping[str, str]) -> _Launcher | None:
    # Open MPI's mpirun is used within SLURM's jobs as well, and says more.
    for look in (_open_mpi, _slurm, _tpu, _kubernetes):
        if around := look(environment):
            return around
    return None


def _open_mpi(environment: Mapping[str, str]) -> _Launcher | None:
    if "OMPI_COMM_WORLD_SIZE" not in environment:
        return None
    count = _number(environment, "OMPI_COMM_WORLD_SIZE", "mpirun")
    if count < 2:
        return None

    def coordinator() -> str:
        uri = environment.get(
            "OMPI_MCA_orte_hnp_uri", ""
        )  # "1531576320.0;tcp://10.0.0.1,...:34911"
        job, address = re.match(r"\d+", uri), re.search(r"tcp://([^,:]+)", uri)
        if not job or not address:
            raise UserError(
                "mpirun does not say where process 0 is, as it is with Open MPI 5: allowed is it "
                f"with --coordinator=HOST:PORT, such as {_example_port()}. Add it."
            )
        return f"{address[1]}:{_port(environment, int(job[0]) // 4096)}"  # A multiple of 4096.

    local = _number(environment, "OMPI_COMM_WORLD_LOCAL_RANK", "mpirun")
    only = _number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE", "mpirun") == 1
    index = _number(environment, "OMPI_COMM_WORLD_RANK", "mpirun")
    devices = _local_devices(environment, local, only)
    return _Launcher("Open MPI", count, index, coordinator, devices)


def _slurm(environment: Mapping[str, str]) -> _Launcher | None:
    # In a batch script or in the shell of `salloc` there may be many tasks to come, but none yet.
    needed = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
    tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    if any(name not in environment for name in (*needed, tasks)):
        return None
    count = _number(environment, tasks, "srun")
    if count < 2:
        return None
    # "node1", "node1,login", "node[01-15]", "rack[1,3-4]-node".
    nodes = environment["SLURM_STEP_NODELIST"]
    first = re.match(r"([^,\[]*)(?:\[(\w+)[^\]]*\])?([^,\[]*)", nodes)
    host = "".join(part or "" for part in first.groups()) if first else ""
    step = environment.get("SLURM_STEP_ID", "0")
    job = _number(environment, "SLURM_JOB_ID", "srun") + (int(step) if step.isdigit() else 0)
    only = environment.get("SLURM_STEP_NUM_NODES") == str(count)
    local = _number(environment, "SLURM_LOCALID", "srun")
    return _Launcher(
        "SLURM",
        count,
        _number(environment, "SLURM_PROCID", "srun"),
        lambda: f"{host}:{_port(environment, job)}",
        _local_devices(environment, local, only),
    )


def _tpu(environment: Mapping[str, str]) -> _Launcher | None:
    platforms = environment.get("JAX_PLATFORMS", "")
    if platforms and "tpu" not in platforms:
        return None
    if importlib.util.find_spec("libtpu") is None:
        return None  # JAX knows a TPU's host by it.
    from jax._src.clusters import GceTpuCluster, GkeTpuCluster

    return _ask_jax("TPU pod", environment, GkeTpuCluster) or _ask_jax(
        "TPU pod", environment, GceTpuCluster
    )


def _kubernetes(environment: Mapping[str, str]) -> _Launcher | None:
    if not {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environment.keys():
        return None  # Not the pod of an indexed job: nobody could say which process this is.
    if importlib.util.find_spec("kubernetes") is None:
        return None  # JAX asks the cluster by means of it.
    from jax._src.clusters import K8sCluster

    return _ask_jax("Kubernetes", environment, K8sCluster)


def _ask_jax(name: str, environment: Mapping[str, str], cluster: Any) -> _Launcher | None:
    """What JAX finds out by asking others, which may take long and fail in many ways."""
    port = environment.get("JAX_COORDINATOR_PORT")

    def ask() -> _Launcher | None:
        if not cluster.is_env_present() or (count := cluster.get_process_count()) < 2:
            return None
        where = cluster.get_coordinator_address(
            timeout_secs=int(_ASK_SECONDS), override_coordinator_port=port
        )
        return _Launcher(name, count, cluster.get_process_id(), lambda: where)

    try:
        return within(_ASK_SECONDS, ask)
    except Exception as error:  # Of three libraries; or a TimeoutError.
        raise UserError(
            f"this is a process in a {name}, but not which one ({str(error) or 'no answer'}): "
            f"allowed is a {name} that says it, or {FLAGS}, or --num_processes=1 for a process "
            "alone. Mend it, or add flags."
        ) from error


def _local_devices(environment: Mapping[str, str], local: int, only: bool) -> list[int] | None:
    """One GPU for each process, as JAX has it, but all for a process that is alone on its host.

    Nor has a process anything to choose where its scheduler shows it a single one.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    one = visible is not None and "," not in visible
    return None if only or one or environment.get("JAX_LOCAL_DEVICE_IDS") else [local]


def _port(environment: Mapping[str, str], job: int) -> int | str:
    """The same for all processes of a job, and another one for its neighbours."""
    return environment.get("JAX_COORDINATOR_PORT") or _FIRST_PORT + job % _NUM_PORTS


def _example_port() -> str:
    return f"node1:{_FIRST_PORT}"


def _number(environment: Mapping[str, str], name: str, starter: str) -> int:
    value = environment.get(name, "")
    if not value.isascii() or not value.isdigit():
        raise UserError(
            f"{name}={value} in the environment: allowed is a number, as {starter} sets it. "
            f"Start with {starter}, or use {FLAGS}."
        )
    return int(value)

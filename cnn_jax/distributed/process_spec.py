"""Finds out from flags or a launcher's environment which process of a cluster this one is.

The launchers are those that JAX knows: SLURM, Open MPI, Kubernetes and TPU pods. A process that was
started alone must never wait for others, so an environment counts only if it says that the launcher
has started this program several times.
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
# Above the ports that Linux assigns by itself, so that they are usually free.
_FIRST_PORT, _NUM_PORTS = 61440, 4096
_EXAMPLE_ADDRESS = f"node1:{_FIRST_PORT}"
_QUERY_TIMEOUT_SECONDS = 120.0  # The pods of a new job take a while to get their DNS names.


@dataclasses.dataclass(frozen=True)
class ProcessSpec:
    """The position of a process in its cluster; the fields are as in `jax.distributed.initialize`.

    Attributes:
      coordinator: HOST:PORT where process 0 listens.
      num_processes: number of processes, at least 2.
      process_id: index of this process, 0..num_processes - 1.
      local_device_ids: indices of this host's devices that this process uses; None: all of them.
    """

    coordinator: str
    num_processes: int
    process_id: int
    local_device_ids: list[int] | None = None

    @property
    def host(self) -> str:
        """Host of process 0; an IPv6 address without its brackets."""
        return self.coordinator.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Port where process 0 listens."""
        return int(self.coordinator.rpartition(":")[2])


@dataclasses.dataclass(frozen=True)
class _Launcher:
    """The fields of a `ProcessSpec` as a launcher's environment gives them.

    The coordinator is a function, since it is not always known, and not needed if a flag gives it.
    """

    num_processes: int
    process_id: int
    coordinator: Callable[[], str]
    local_device_ids: list[int] | None = None


def detect_process(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> ProcessSpec | None:
    """Returns the position of this process in its cluster, or None if it was started alone.

    Args:
      coordinator: HOST:PORT of process 0 from its flag, or None.
      num_processes: number of processes from its flag, or None; 1 means alone, whatever the
        environment says.
      process_id: index of this process from its flag, or None.
      environment: the environment variables, for what no flag gives.

    Raises:
      UserError: when the position is incomplete or invalid, or Kubernetes or the TPU pod does not
        tell it.
    """
    is_given = coordinator is not None, num_processes is not None, process_id is not None
    launcher = None
    if not all(is_given) and num_processes != 1:
        launcher = _detect_launcher(environment)
    if launcher:
        address = environment.get("JAX_COORDINATOR_ADDRESS")
        return _checked(
            ProcessSpec(
                coordinator or address or launcher.coordinator(),
                launcher.num_processes if num_processes is None else num_processes,
                launcher.process_id if process_id is None else process_id,
                launcher.local_device_ids,
            )
        )
    if not any(is_given):
        return None
    if num_processes == 1 and not coordinator and not process_id:
        return None
    if coordinator is None or num_processes is None or process_id is None:
        flags = zip(FLAGS.split(), is_given, strict=True)
        missing = " ".join(flag for flag, flag_is_given in flags if not flag_is_given)
        raise UserError(
            f"no {missing} given: the flags {FLAGS} must be given together, unless a launcher such "
            f"as SLURM sets their values in the environment. Add {missing}."
        )
    spec = _checked(ProcessSpec(coordinator, num_processes, process_id))
    return spec if spec.num_processes > 1 else None


def run_with_timeout(seconds: float, function: Callable[[], T]) -> T:
    """Runs a function in a thread, so that this thread can handle signals meanwhile.

    Returns:
      The function's return value. Its exceptions are raised here.

    Raises:
      TimeoutError: when the function takes longer. Its thread keeps running.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(timeout=seconds)


def _checked(spec: ProcessSpec) -> ProcessSpec:
    """Returns the argument if its values are valid, and raises a UserError if not."""
    host, _, port = spec.coordinator.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
        raise UserError(
            f"--coordinator={spec.coordinator} is invalid: it must be HOST:PORT, the host of "
            f"process 0 and a free port there, 1 to 65535. Use for example {_EXAMPLE_ADDRESS}."
        )
    if not 0 <= spec.process_id < spec.num_processes:
        raise UserError(
            f"--process_id={spec.process_id} is invalid with --num_processes={spec.num_processes}: "
            f"it must be an integer from 0 to {spec.num_processes - 1}. Change one of the two."
        )
    return spec


def _detect_launcher(environment: Mapping[str, str]) -> _Launcher | None:
    """Returns the first launcher that has started several processes, or None."""
    # Open MPI's mpirun is also used within SLURM jobs, and is then the one that counts.
    for detect in (_detect_open_mpi, _detect_slurm, _detect_tpu, _detect_kubernetes):
        if launcher := detect(environment):
            return launcher
    return None


def _detect_open_mpi(environment: Mapping[str, str]) -> _Launcher | None:
    if "OMPI_COMM_WORLD_SIZE" not in environment:
        return None
    num_processes = _integer(environment, "OMPI_COMM_WORLD_SIZE", "mpirun")
    if num_processes < 2:
        return None

    def coordinator() -> str:
        # "1531576320.0;tcp://10.0.0.1,...:34911"
        uri = environment.get("OMPI_MCA_orte_hnp_uri", "")
        job, address = re.match(r"\d+", uri), re.search(r"tcp://([^,:]+)", uri)
        if not job or not address:
            raise UserError(
                "mpirun does not tell the host of process 0 (Open MPI 5 never does): "
                f"--coordinator must be given. Add --coordinator={_EXAMPLE_ADDRESS} with the "
                "name of that host."
            )
        # The job's number is a multiple of 4096.
        return f"{address[1]}:{_port(environment, int(job[0]) // 4096)}"

    local_rank = _integer(environment, "OMPI_COMM_WORLD_LOCAL_RANK", "mpirun")
    alone_on_host = _integer(environment, "OMPI_COMM_WORLD_LOCAL_SIZE", "mpirun") == 1
    rank = _integer(environment, "OMPI_COMM_WORLD_RANK", "mpirun")
    device_ids = _local_device_ids(environment, local_rank, alone_on_host)
    return _Launcher(num_processes, rank, coordinator, device_ids)


def _detect_slurm(environment: Mapping[str, str]) -> _Launcher | None:
    # A batch script and the shell of `salloc` have SLURM_NTASKS, but are not tasks of a step.
    required = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
    tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    if any(name not in environment for name in (*required, tasks)):
        return None
    num_processes = _integer(environment, tasks, "srun")
    if num_processes < 2:
        return None
    # "node1", "node1,login", "node[01-15]", "rack[1,3-4]-node".
    nodes = environment["SLURM_STEP_NODELIST"]
    first_node = re.match(r"([^,\[]*)(?:\[(\w+)[^\]]*\])?([^,\[]*)", nodes)
    host = "".join(part or "" for part in first_node.groups()) if first_node else ""
    step = environment.get("SLURM_STEP_ID", "0")
    job = _integer(environment, "SLURM_JOB_ID", "srun") + (int(step) if step.isdigit() else 0)
    alone_on_host = environment.get("SLURM_STEP_NUM_NODES") == str(num_processes)
    local_rank = _integer(environment, "SLURM_LOCALID", "srun")
    return _Launcher(
        num_processes,
        _integer(environment, "SLURM_PROCID", "srun"),
        lambda: f"{host}:{_port(environment, job)}",
        _local_device_ids(environment, local_rank, alone_on_host),
    )


def _detect_tpu(environment: Mapping[str, str]) -> _Launcher | None:
    platforms = environment.get("JAX_PLATFORMS", "")
    if platforms and "tpu" not in platforms:
        return None
    if importlib.util.find_spec("libtpu") is None:
        return None  # JAX, too, takes a host without this package for one without TPUs.
    from jax._src.clusters import GceTpuCluster, GkeTpuCluster

    return _query_jax("a TPU pod", environment, GkeTpuCluster) or _query_jax(
        "a TPU pod", environment, GceTpuCluster
    )


def _detect_kubernetes(environment: Mapping[str, str]) -> _Launcher | None:
    if not {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environment.keys():
        return None  # Only the pods of an indexed Job have process indices.
    if importlib.util.find_spec("kubernetes") is None:
        return None  # JAX needs this package to query the cluster.
    from jax._src.clusters import K8sCluster

    return _query_jax("Kubernetes", environment, K8sCluster)


def _query_jax(name: str, environment: Mapping[str, str], cluster: Any) -> _Launcher | None:
    """Returns the position of this process, which one of JAX's cluster classes requests.

    Args:
      name: of the kind of cluster, for the error message.
      environment: may set JAX_COORDINATOR_PORT.
      cluster: a subclass of JAX's `ClusterEnv`.

    Returns:
      The position of this process, or None if it is not one of several processes.

    Raises:
      UserError: when the requests fail or take too long.
    """
    port = environment.get("JAX_COORDINATOR_PORT")

    def query() -> _Launcher | None:
        if not cluster.is_env_present() or (num_processes := cluster.get_process_count()) < 2:
            return None
        address = cluster.get_coordinator_address(
            timeout_secs=int(_QUERY_TIMEOUT_SECONDS), override_coordinator_port=port
        )
        return _Launcher(num_processes, cluster.get_process_id(), lambda: address)

    try:
        return run_with_timeout(_QUERY_TIMEOUT_SECONDS, query)
    except Exception as error:  # Three libraries raise many types; or it is a TimeoutError.
        raise UserError(
            f"JAX cannot find out which process of {name} this is ({str(error) or 'no answer'}): "
            f"its requests must be answered. Fix that, or add {FLAGS}, or add --num_processes=1 to "
            "train with this process only."
        ) from error


def _local_device_ids(
    environment: Mapping[str, str], local_rank: int, alone_on_host: bool
) -> list[int] | None:
    """Returns the GPU of this process: the one with its rank on the host; None: all that it sees.

    A process takes all GPUs that it sees if it is alone on its host, if the launcher shows it only
    one, or if JAX_LOCAL_DEVICE_IDS, which JAX reads itself, names them.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    sees_one = visible is not None and "," not in visible
    if alone_on_host or sees_one or environment.get("JAX_LOCAL_DEVICE_IDS"):
        return None
    return [local_rank]


def _port(environment: Mapping[str, str], job: int) -> int | str:
    """Returns the coordinator's port: the same for all processes of a job, another for each job."""
    return environment.get("JAX_COORDINATOR_PORT") or _FIRST_PORT + job % _NUM_PORTS


def _integer(environment: Mapping[str, str], name: str, command: str) -> int:
    """Returns the value of an environment variable that a launcher's command has set."""
    value = environment.get(name, "")
    if not value.isascii() or not value.isdigit():
        raise UserError(
            f"{name}={value} in the environment is invalid: it must be an integer, as {command} "
            f"sets it. Start the program with {command}, or add {FLAGS}."
        )
    return int(value)

"""Joins the cluster of a process at its start, and ends the process without waiting for others."""

import contextlib
import errno
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from cnn_jax.distributed import process_spec
from cnn_jax.distributed.cluster import Cluster
from cnn_jax.distributed.process_spec import ProcessSpec
from cnn_jax.distributed.watchdog import exit_with_error, on_abort
from cnn_jax.errors import UserError

JOIN_TIMEOUT_SECONDS = 300.0  # A scheduler may start the processes minutes apart.
HEARTBEAT_TIMEOUT_SECONDS = 30.0

_uses_jax_distributed = False  # If so, JAX waits for the other processes when Python ends.


def join(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    join_timeout_seconds: float = JOIN_TIMEOUT_SECONDS,
    heartbeat_timeout_seconds: float = HEARTBEAT_TIMEOUT_SECONDS,
) -> Cluster:
    """Joins the cluster that the flags or the launcher's environment describe.

    Call it before JAX is used, and before JAX is imported if its messages are to be suppressed.

    Args:
      coordinator: HOST:PORT where process 0 listens, or None, like the next two arguments, to take
        it from the environment.
      num_processes: number of processes of the cluster; 1 means none but this one.
      process_id: index of this process, from 0.
      join_timeout_seconds: time within which all processes must have joined.
      heartbeat_timeout_seconds: time without heartbeats after which a process counts as dead.

    Returns:
      The cluster; of this process only, when it was started alone.

    Raises:
      UserError: when the flags or the environment are invalid, or not all processes join in time.
    """
    global _uses_jax_distributed
    spec = process_spec.detect_process(coordinator, num_processes, process_id)
    if spec is None:
        return Cluster()
    _set_environment(spec)
    _redirect_native_stdout()
    import jax
    from jax._src import distributed  # Orbax takes the client from this private module, too.

    jax.config.update("jax_check_proxy_envs", False)
    # The preemption service would handle SIGTERM, and `io.signals` would not hear of it.
    jax.config.update("jax_enable_preemption_service", False)
    _check_port(spec)
    on_abort(lambda: exit_with_error(_join_failure(spec, "JAX aborted this process")))
    _uses_jax_distributed = True
    is_loopback = spec.host in ("localhost", "127.0.0.1", "::1")

    def initialize() -> None:
        jax.distributed.initialize(
            spec.coordinator,
            spec.num_processes,
            spec.process_id,
            spec.local_device_ids,
            cluster_detection_method="deactivate",
            # Longer than the timeouts here, since JAX aborts the process when its own expire.
            initialization_timeout=int(join_timeout_seconds) + 60,
            heartbeat_timeout_seconds=2 * int(heartbeat_timeout_seconds) + 10,
            shutdown_timeout_seconds=60,
            coordinator_bind_address=spec.coordinator if is_loopback else None,
        )

    try:
        process_spec.run_with_timeout(join_timeout_seconds, initialize)
    except TimeoutError as error:
        reason = f"no success within {join_timeout_seconds:.0f} s"
        raise UserError(_join_failure(spec, reason)) from error
    except Exception as error:
        raise UserError(_join_failure(spec, str(error).partition("\n")[0])) from error
    return Cluster(spec, distributed.global_state.client, heartbeat_timeout_seconds)


def exit_process(status: int) -> NoReturn:
    """Ends this process without waiting for the other processes, as JAX would at Python's end."""
    if not _uses_jax_distributed:
        sys.exit(status)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _set_environment(spec: ProcessSpec) -> None:
    """Sets the environment variables of gRPC and of JAX's C++ code; before JAX is imported."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":  # 1 is JAX's own default.
        # 4 suppresses even the reason for an abort: `watchdog` prints its own line.
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "4"
    # Many clusters set a proxy for the internet, through which process 0 cannot be reached.
    no_proxy = "no_grpc_proxy"  # gRPC reads this name in lower case only.
    hosts = os.environ.get(no_proxy) or os.environ.get("no_proxy", "")
    os.environ[no_proxy] = f"{hosts},{spec.host}".lstrip(",")


def _redirect_native_stdout() -> None:
    """Discards what C++ code writes to standard output, where Gloo reports each connection.

    Python's `sys.stdout` keeps writing to the original file.
    """
    # NCCL writes its debug messages to standard output, if the user has asked for them.
    if sys.stdout is None or "NCCL_DEBUG" in os.environ:
        return
    sys.stdout.flush()
    original = os.dup(1)
    with Path(os.devnull).open("w") as null:
        os.dup2(null.fileno(), 1)
    sys.stdout = os.fdopen(
        original,
        "w",
        encoding=sys.stdout.encoding,
        errors=sys.stdout.errors,
        buffering=1 if os.isatty(original) else -1,
    )


def _check_port(spec: ProcessSpec) -> None:
    """Checks that process 0 can listen on its port; JAX would abort without a clear message.

    Raises:
      UserError: in process 0, when the port is in use or not permitted.
    """
    if spec.process_id != 0:
        return
    try:
        socket.create_server(("", spec.port)).close()
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise UserError(
                f"process 0 cannot listen on port {spec.port} ({os.strerror(error.errno)}): the "
                "port must be free and permitted. Choose another with --coordinator=HOST:PORT, or "
                "with JAX_COORDINATOR_PORT=PORT in the environment, on all hosts."
            ) from error


def _join_failure(spec: ProcessSpec, reason: str) -> str:
    """Returns the error message for a process that could not join its cluster."""
    with contextlib.suppress(OSError):
        if spec.process_id != 0:
            try:
                socket.create_connection((spec.host, spec.port), timeout=2).close()
            except OSError as error:
                reason += f"; no answer from that address: {error.strerror or error}"
    return (
        f"process {spec.process_id} of {spec.num_processes} on {socket.gethostname()} cannot join "
        f"the others at {spec.coordinator} ({reason}): {spec.num_processes} processes must run, "
        "each with its own index, and reach process 0 at that address. Read the errors of the "
        "other processes, fix the cause and start all of them again, or add --num_processes=1 to "
        "train with this process only."
    )

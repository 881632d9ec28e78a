"""Joins the cluster of a process at its start, and ends the process without waiting for others."""

import contextlib
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

from cnn_jax.distributed.cluster import Cluster
from cnn_jax.distributed.watchdog import set_abort_message
from cnn_jax.errors import UserError, translate_errors

FLAGS = "--coordinator=HOST:PORT --num_processes=N --process_id=0..N-1"
JOIN_TIMEOUT_SECONDS = 300  # A scheduler may start the processes minutes apart.
HEARTBEAT_TIMEOUT_SECONDS = 20  # After which JAX takes a process for dead.

_uses_jax_distributed = False  # If so, JAX waits for the other processes when Python ends.


def join(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    distributed: bool = False,
    heartbeat_timeout_seconds: int = HEARTBEAT_TIMEOUT_SECONDS,
) -> Cluster:
    """Joins a cluster if the arguments ask for it, with `jax.distributed.initialize`.

    Call it before JAX is used, and before JAX is imported if its messages are to be suppressed.

    Args:
      coordinator: HOST:PORT where process 0 listens.
      num_processes: number of processes of the cluster.
      process_id: index of this process, from 0.
      distributed: whether JAX finds out what the arguments before this one leave open, from SLURM,
        Open MPI, Kubernetes or a TPU pod.
      heartbeat_timeout_seconds: time without heartbeats after which a process counts as dead.

    Returns:
      The cluster; of this process only, when the arguments ask for no other.

    Raises:
      UserError: when the arguments are incomplete or invalid, or not all processes join in time.
    """
    global _uses_jax_distributed
    arguments = (coordinator, num_processes, process_id)
    if not distributed and arguments == (None, None, None):
        return Cluster()
    if not distributed and None in arguments:
        raise UserError(
            f"only some of the flags {FLAGS} are given: they must be given together. Add the "
            "others, or --distributed if a launcher such as SLURM sets their values."
        )
    if coordinator:
        _check_coordinator(coordinator, process_id)
    _set_environment()
    _redirect_native_stdout()
    import_jax()
    import jax
    from jax._src.distributed import global_state  # Orbax takes it from this private module, too.

    _configure_jax()
    set_abort_message(_join_failure(coordinator, f"JAX gave up within {JOIN_TIMEOUT_SECONDS} s"))
    _uses_jax_distributed = True
    try:
        # In a thread, so that this one can handle signals.
        joining = ThreadPoolExecutor().submit(
            jax.distributed.initialize,
            *arguments,
            cluster_detection_method=None if distributed else "deactivate",
            initialization_timeout=JOIN_TIMEOUT_SECONDS,
            heartbeat_timeout_seconds=heartbeat_timeout_seconds,
        )
        joining.result()
        return Cluster(global_state.client, global_state.process_id, global_state.num_processes)
    except Exception as error:  # Its launchers' libraries raise many types.
        reason = str(error).partition("\n")[0]
        raise UserError(_join_failure(coordinator, reason)) from error


def import_jax() -> None:
    """Imports JAX.

    Raises:
      UserError: where an environment variable has a value that JAX does not know.
    """
    advice = (
        "the environment variables JAX_... must have values that JAX knows. Change or unset it."
    )
    with translate_errors("cannot import JAX", advice, kind=ValueError):
        import jax  # noqa: F401


def exit_process(status: int) -> NoReturn:
    """Ends this process without waiting for the other processes, as JAX would at Python's end."""
    if not _uses_jax_distributed:
        sys.exit(status)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            if stream:  # None where the shell has closed it.
                stream.flush()
    os._exit(status)


def _check_coordinator(coordinator: str, process_id: int | None) -> None:
    """Checks an address, and in process 0 whether it can listen there: JAX would crash.

    Raises:
      UserError: when the address is invalid, or the port is in use or not permitted.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
        raise UserError(
            f"--coordinator={coordinator} is invalid: it must be HOST:PORT, the host of process 0 "
            "and a free port there, 1 to 65535. Use for example node1:61440."
        )
    if process_id != 0:
        return
    advice = (
        "the port must be free and permitted. Choose another with --coordinator=HOST:PORT, on all "
        "hosts."
    )
    with translate_errors(f"process 0 cannot listen on port {port}", advice):
        socket.create_server(("", int(port))).close()


def _set_environment() -> None:
    """Sets the environment variables of gRPC and of JAX's C++ code; before JAX is imported."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":  # 1 is JAX's own default.
        # 4 suppresses even the reason for an abort: `watchdog` prints its own line.
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "4"
    # Many clusters set a proxy for the internet, through which process 0 cannot be reached.
    os.environ.setdefault("grpc_proxy", "")


def _configure_jax() -> None:
    """Sets the options of JAX's coordination service."""
    import jax

    jax.config.update("jax_check_proxy_envs", False)
    # The preemption service would handle SIGTERM, and `io.signals` would not hear of it.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_enable_recoverability", True)  # As `watchdog` needs it.


def _redirect_native_stdout() -> None:
    """Discards what C++ code writes to standard output; `sys.stdout` keeps writing to the original.

    On CPUs the threads of Gloo report each connection there, in pieces, between the lines of a run.
    """
    # NCCL writes its debug messages to standard output, if the user has asked for them.
    if sys.stdout is None or "NCCL_DEBUG" in os.environ:
        return
    sys.stdout.flush()
    original = os.dup(1)
    with Path(os.devnull).open("wb") as null:
        os.dup2(null.fileno(), 1)
    sys.stdout = os.fdopen(
        original,
        "w",
        encoding=sys.stdout.encoding,
        errors=sys.stdout.errors,
        buffering=1 if os.isatty(original) else -1,
    )


def _join_failure(coordinator: str | None, reason: str) -> str:
    """Returns the error message for a process that could not join its cluster."""
    address = f" at {coordinator}" if coordinator else ""
    return (
        f"this process on {socket.gethostname()} cannot join the others ({reason}): all processes "
        f"must run and reach process 0{address}, each with its own index from the flags {FLAGS}, "
        "or from a launcher that JAX knows (SLURM, Open MPI, Kubernetes, TPU pods) with "
        "--distributed. Read the errors of the other processes, fix the cause and start all of "
        "them again, or leave out these flags to train with this process only."
    )

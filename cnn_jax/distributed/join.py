"""How a process joins its cluster, and how it ends then."""

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
from cnn_jax.distributed.watchdog import before_abort, end
from cnn_jax.errors import UserError

JOIN_SECONDS = 300.0  # A scheduler may start its processes minutes apart.
HEARTBEAT_SECONDS = 30.0

_begun = False  # Whether there is a client of JAX's, which at Python's end waits for the others.


def join(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    join_seconds: float = JOIN_SECONDS,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> Cluster:
    """Joins the cluster that flags or the environment name, if any.

    To be called before JAX is imported, if that shall be quiet, and before it does anything.

    Args:
      coordinator: HOST:PORT of process 0, or None, like the next two.
      num_processes: of the cluster.
      process_id: of this process.
      join_seconds: after which all must be there.
      heartbeat_seconds: after which a process that says nothing counts as dead.

    Raises:
      UserError: when flags or environment are wrong, or not all processes come.
    """
    global _begun
    place = process_spec.detect_process(coordinator, num_processes, process_id)
    if place is None:
        return Cluster()
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":  # JAX's own default.
        # Not even the reason for an abort is shown then: what there is to say is said here.
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "4"
    # No proxy leads to a neighbour, though many clusters name one for the world outside.
    no_proxy = "no_grpc_proxy"  # Which gRPC reads in lower case only.
    proxies = os.environ.get(no_proxy) or os.environ.get("no_proxy", "")
    os.environ[no_proxy] = f"{proxies},{place.host}".lstrip(",")
    _keep_stdout()
    import jax
    from jax._src import distributed  # Orbax, too, takes the client from there.

    jax.config.update("jax_check_proxy_envs", False)
    # It would take SIGTERM over, and nobody would hear of it.
    jax.config.update("jax_enable_preemption_service", False)
    _check_port(place)
    before_abort(lambda: end(_not_joined(place, "JAX refused it")))
    _begun = True
    loopback = place.host in ("localhost", "127.0.0.1", "::1")

    def initialize() -> None:
        jax.distributed.initialize(
            place.coordinator,
            place.count,
            place.index,
            place.local_devices,
            cluster_detection_method="deactivate",
            # The limits here are shorter, since JAX aborts the process at its own.
            initialization_timeout=int(join_seconds) + 60,
            heartbeat_timeout_seconds=2 * int(heartbeat_seconds) + 10,
            shutdown_timeout_seconds=60,
            coordinator_bind_address=place.coordinator if loopback else None,
        )

    try:
        process_spec.within(join_seconds, initialize)
    except TimeoutError as error:
        raise UserError(_not_joined(place, f"it took over {join_seconds:.0f} s")) from error
    except Exception as error:
        raise UserError(_not_joined(place, str(error).partition("\n")[0])) from error
    return Cluster(place, distributed.global_state.client, heartbeat_seconds)


def end_process(status: int) -> NoReturn:
    """Ends this process, without waiting for the others as JAX would."""
    if not _begun:
        sys.exit(status)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _keep_stdout() -> None:
    """Leaves standard output to Python: XLA's Gloo greets every connection there."""
    if sys.stdout is None or "NCCL_DEBUG" in os.environ:  # NCCL answers there, when asked.
        return
    sys.stdout.flush()
    ours = os.dup(1)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    sys.stdout = os.fdopen(
        ours,
        "w",
        encoding=sys.stdout.encoding,
        errors=sys.stdout.errors,
        buffering=1 if os.isatty(ours) else -1,
    )


def _check_port(place: ProcessSpec) -> None:
    """Finds out in time whether process 0 can listen: JAX would not say it in words."""
    if place.index != 0:
        return
    try:
        socket.create_server(("", place.port)).close()
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise UserError(
                f"process 0 cannot listen at port {place.port} ({os.strerror(error.errno)}): "
                "allowed is a free one. Choose it by --coordinator=HOST:PORT, or by "
                "JAX_COORDINATOR_PORT=PORT in the environment, on all hosts."
            ) from error


def _not_joined(place: ProcessSpec, why: str) -> str:
    with contextlib.suppress(OSError):
        if place.index != 0:
            try:
                socket.create_connection((place.host, place.port), timeout=2).close()
            except OSError as error:
                why += f"; nobody answers there: {error.strerror or error}"
    return (
        f"process {place.index} of {place.count} on {socket.gethostname()} could not meet the "
        f"others at {place.coordinator} ({why}): allowed are {place.count} processes, each with an "
        "index of its own, that reach process 0 there. See what the others say, mend it, and "
        "start all of them again; --num_processes=1 runs this one alone."
    )

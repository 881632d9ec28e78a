"""Ends a process soon, with one clear line, when another process of its cluster has ended.

A process that waits for another one waits in C++, within a collective operation, where no Python
exception reaches it. JAX would abort it after a while, with a page of C++ on standard error. So a
thread of each process sends a heartbeat, or the reason for its exit, to process 0 twice a second,
and process 0 tells all others which process ended first. The messages go through the key-value
store of JAX's coordination service, which runs in process 0. When process 0 ends, JAX aborts the
others at once; then a handler of the signal SIGABRT prints the line.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from cnn_jax.distributed.process_spec import ProcessSpec
from cnn_jax.io.console import printable

PERIOD_SECONDS = 0.5  # Between two heartbeats.
UNRESPONSIVE_SECONDS = 5.0  # Timeout for heartbeats once any process has lost a connection.
GRACE_SECONDS = 3.0  # For the others to read the reason before process 0 exits.
_EXIT_KEY, _HEARTBEATS_KEY = "cnn_jax/watchdog/exit", "cnn_jax/watchdog/heartbeats"
_CONNECTION_LOST = "its connection closed, and it gave no reason"

_exit_lock = threading.Lock()
_AbortHandler = ctypes.CFUNCTYPE(None, ctypes.c_int)
_abort_handlers: list[Any] = []  # C calls the last one, so it must not be garbage collected.


def exit_with_error(message: str) -> NoReturn:
    """Ends this process with status 2 and a line on standard error, whatever its threads do."""
    if not _exit_lock.acquire(blocking=False):
        threading.Event().wait()  # Another thread is about to exit.
    line = f"error: {printable(' '.join(message.split()))}\n"
    with contextlib.suppress(OSError):
        # On a terminal a progress bar may occupy the current line.
        os.write(2, b"\n" * os.isatty(2) + line.encode(errors="backslashreplace"))
    os._exit(2)


def on_abort(callback: Callable[[], None]) -> None:
    """Makes C++ code that aborts the process call a function first, in the aborting thread.

    Python's `signal.signal` would not do: it calls handlers in the main thread, which may be the
    one that waits in C++ forever.
    """

    def handle(signal_number: int) -> None:
        del signal_number
        callback()

    _abort_handlers.append(_AbortHandler(handle))
    ctypes.CDLL(None).signal(signal.SIGABRT, _abort_handlers[-1])


class Watchdog:
    """A thread that sends this process's heartbeats and ends it when another process has ended."""

    def __init__(
        self, client: Any, spec: ProcessSpec, hosts: Sequence[str], heartbeat_timeout_seconds: float
    ) -> None:
        """Starts the thread.

        Args:
          client: the client of JAX's coordination service.
          spec: the position of this process.
          hosts: host name of each process, by process index.
          heartbeat_timeout_seconds: time without heartbeats after which a process counts as dead.
            No heartbeats are sent while C code holds Python's lock.
        """
        self._client, self._spec, self._hosts = client, spec, hosts
        self._timeout_seconds = heartbeat_timeout_seconds
        self._num_heartbeats = 0
        self._exit_reason: str | None = None  # Of this process.
        self._connection_lost = False
        now = time.monotonic()
        # In process 0: number of the last heartbeat of each other process, and when it was read.
        self._last_heartbeats = dict.fromkeys(range(1, spec.num_processes), (-1, now))
        self._last_answer = now  # Of process 0.
        self._stop, self._announced = threading.Event(), threading.Event()
        on_abort(self._handle_abort)
        self._thread = threading.Thread(target=self._run, daemon=True, name="cluster watchdog")
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread; from now on other processes may end."""
        self._stop.set()
        self._thread.join()

    def announce_exit(self, reason: str) -> None:
        """Tells the other processes why this one is about to end.

        In process 0 this waits until they know, at most for the grace period.
        """
        self._exit_reason = reason
        if self._spec.process_id == 0:
            self._announced.wait(GRACE_SECONDS + 2 * PERIOD_SECONDS)
        else:
            with contextlib.suppress(Exception):  # Process 0 may have ended, too.
                self._send_heartbeat(acknowledged=False)

    def report_lost_connection(self) -> None:
        """Shortens the timeout, and waits for this process to be ended if another one is dead.

        To be called when a connection to another process was closed. If none is dead, this returns
        after a few seconds.
        """
        self._connection_lost = True
        self._announced.wait(UNRESPONSIVE_SECONDS + 4 * PERIOD_SECONDS)

    def _run(self) -> None:
        is_first = self._spec.process_id == 0
        check = self._check_heartbeats if is_first else self._check_first_process
        while not self._stop.wait(PERIOD_SECONDS):
            try:
                check()
            except Exception:  # JAX does not document the types that its client raises.
                if self._stop.is_set() or self._exit_reason is not None:
                    return
                if not is_first:
                    exit_with_error(self._exit_message(0, _CONNECTION_LOST))
                raise

    def _check_heartbeats(self) -> None:
        """Reads all heartbeats and, if a process has ended, ends the cluster; for process 0."""
        now = time.monotonic()
        heartbeats = self._read_heartbeats()
        for index, heartbeat in heartbeats.items():
            if heartbeat["number"] != self._last_heartbeats[index][0]:
                self._last_heartbeats[index] = heartbeat["number"], now
        self._connection_lost |= any(h["connection_lost"] for h in heartbeats.values())
        if first_exit := self._first_exit(heartbeats, now):
            self._end_cluster(*first_exit)
        self._write(_EXIT_KEY, {"exit": None})

    def _first_exit(self, heartbeats: dict[int, Any], now: float) -> tuple[int, str] | None:
        """Returns index and exit reason of the process that has ended, or None.

        Args:
          heartbeats: the last one of each process that has sent any, by process index.
          now: seconds, from `time.monotonic`.
        """
        if self._exit_reason is not None:
            return 0, self._exit_reason
        for index, heartbeat in heartbeats.items():
            if heartbeat["exit_reason"] is not None:
                return index, heartbeat["exit_reason"]
        timeout = self._timeout_seconds
        if self._connection_lost:
            timeout = min(timeout, UNRESPONSIVE_SECONDS)
        index, (_, last) = min(self._last_heartbeats.items(), key=lambda item: item[1][1])
        if now - last > timeout:
            return index, f"it has sent no heartbeat for {now - last:.0f} s, and gave no reason"
        return None

    def _end_cluster(self, index: int, reason: str) -> None:
        """Tells the others who has ended and why, waits until they know, and ends process 0."""
        self._write(_EXIT_KEY, {"exit": [index, reason]})
        survivors = self._last_heartbeats.keys() - {index}
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline:
            heartbeats = self._read_heartbeats()
            if all(i in heartbeats and heartbeats[i]["acknowledged"] for i in survivors):
                break
            time.sleep(PERIOD_SECONDS / 5)
        if self._exit_reason is None:
            exit_with_error(self._exit_message(index, reason))
        self._stop.set()
        self._announced.set()  # The main thread prints the error and exits.

    def _check_first_process(self) -> None:
        """Sends a heartbeat, and ends this process if another one has ended; not for process 0."""
        # The read comes first because it has a timeout, which the write of the heartbeat lacks.
        timeout_ms = int(1000 * self._timeout_seconds)
        content = json.loads(self._client.blocking_key_value_get(_EXIT_KEY, timeout_ms))
        self._last_answer = time.monotonic()
        self._send_heartbeat(acknowledged=content["exit"] is not None)
        if content["exit"] and self._exit_reason is None:
            exit_with_error(self._exit_message(*content["exit"]))

    def _send_heartbeat(self, *, acknowledged: bool) -> None:
        """Writes the state of this process to the store.

        Args:
          acknowledged: whether this process has read who ended first.
        """
        self._num_heartbeats += 1
        heartbeat = {
            "number": self._num_heartbeats,
            "exit_reason": self._exit_reason,
            "connection_lost": self._connection_lost,
            "acknowledged": acknowledged,
        }
        self._write(f"{_HEARTBEATS_KEY}/{self._spec.process_id}", heartbeat)

    def _read_heartbeats(self) -> dict[int, Any]:
        """Returns the last heartbeat of each process that has sent any, by process index."""
        items = self._client.key_value_dir_get(_HEARTBEATS_KEY)
        return {int(key.rpartition("/")[2]): json.loads(text) for key, text in items}

    def _write(self, key: str, content: dict[str, Any]) -> None:
        self._client.key_value_set(key, json.dumps(content), allow_overwrite=True)

    def _exit_message(self, index: int, reason: str) -> str:
        """Returns the message for the user of this process when a process of the cluster has ended.

        Args:
          index: of the process that has ended. It is this process if it was unresponsive, and so
            taken for dead.
          reason: a clause, or the message of an error.
        """
        process = f"process {index} on {self._hosts[index]}"
        subject = f"{process} has ended"
        if index == self._spec.process_id:
            subject = f"this is {process}, which the other processes gave up"
        return (
            f"{subject}: {reason.rstrip('.')}. A run needs all its processes: start the same "
            "command on all hosts again; with a --workdir the run resumes from its newest "
            "checkpoint."
        )

    def _handle_abort(self) -> None:
        """Prints why JAX aborts this process, if the reason is that process 0 has ended."""
        if self._stop.is_set():
            time.sleep(2 * GRACE_SECONDS)  # The main thread is about to exit normally.
        elif self._spec.process_id != 0 and self._first_process_is_gone():
            exit_with_error(self._exit_message(0, _CONNECTION_LOST))
        text = "error: JAX aborts this process. Set TF_CPP_MIN_LOG_LEVEL=0 to see its own message."
        os.write(2, f"{text}\n".encode())

    def _first_process_is_gone(self) -> bool:
        """Returns whether process 0 has not answered for a while, or accepts no connections."""
        # A hanging process still accepts connections.
        if time.monotonic() - self._last_answer > max(UNRESPONSIVE_SECONDS, 4 * PERIOD_SECONDS):
            return True
        deadline = time.monotonic() + GRACE_SECONDS
        # When a process ends, its connections may be closed shortly before its port.
        while time.monotonic() < deadline:
            try:
                socket.create_connection((self._spec.host, self._spec.port), timeout=2).close()
            except OSError:
                return True
            time.sleep(0.1)
        return False

"""Ends a process soon, with one clear line, when another process of its cluster has ended.

A process that waits for another one waits in C++, within a collective operation, where no Python
exception reaches it. So two threads of each process ask JAX's coordination service, which runs in
process 0: one whether all processes are alive, one whether any has said why it ends. When process 0
itself ends, they get no answer, and JAX aborts the process: if the abort comes first, a handler of
the signal SIGABRT prints the line.
"""

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from cnn_jax.io.console import printable

PERIOD_SECONDS = 1.0  # Between two questions whether all processes are alive.
GRACE_SECONDS = 1.0  # For the others to hear why process 0 ends before its service ends with it.
_EXIT_KEY = "cnn_jax/exit"  # In the service's key-value store.
_FOREVER_MS = 1000 * 3600 * 24 * 365
_ADVICE = (
    "A run needs all its processes: start the same command on all hosts again; with a --workdir "
    "the run resumes from its newest checkpoint."
)

# For the one thread that ends this process. It may ask for it again, after a signal for example.
_right_to_exit = threading.RLock()
_abort_message = ""


def exit_with_error(message: str) -> NoReturn:
    """Ends this process with status 2 and a line on standard error, whatever its threads do.

    If another thread is already ending the process, this waits for the end.
    """
    _right_to_exit.acquire()
    line = f"error: {printable(' '.join(message.split()))}\n"
    with contextlib.suppress(OSError):
        # On a terminal a progress bar may occupy the current line.
        os.write(2, b"\n" * os.isatty(2) + line.encode(errors="backslashreplace"))
    os._exit(2)


def set_abort_message(message: str) -> None:
    """Sets the line with which this process ends if JAX's C++ code aborts it."""
    global _abort_message
    _abort_message = message
    ctypes.CDLL(None).signal(signal.SIGABRT, _handle_abort)


# C calls it in the thread that aborts. A handler of Python's `signal.signal` would be called in the
# main thread, which may be the one that waits in C++ forever.
_handle_abort = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: exit_with_error(_abort_message))


class Watchdog:
    """Two threads that end this process when another one has ended."""

    def __init__(self, client: Any, process_index: int, process_count: int) -> None:
        """Starts the threads.

        Args:
          client: the client of JAX's coordination service, which has `jax_enable_recoverability`:
            without it the service would make JAX abort all processes when one of them ends.
          process_index: index of this process.
          process_count: number of processes.
        """
        self._client, self._process_index = client, process_index
        self.set_hosts(["an unknown host"] * process_count)

        def watch(check: Callable[[], str]) -> None:
            try:
                message = check()
            except Exception:  # The service does not answer; JAX documents no types for that.
                message = self._message(0, "its connection closed, and it gave no reason")
            if process_index == 0:
                time.sleep(GRACE_SECONDS)
            exit_with_error(message)

        for check in (self._wait_for_reason, self._wait_for_death):
            threading.Thread(target=watch, args=[check], daemon=True).start()

    def set_hosts(self, hosts: Sequence[str]) -> None:
        """Sets the host name of each process, by process index, for the messages."""
        self.hosts = hosts
        reason = (
            f"process 0 on {hosts[0]} has probably ended, since " if self._process_index else ""
        )
        set_abort_message(
            f"{reason}JAX aborts process {self._process_index}. {_ADVICE} With "
            "TF_CPP_MIN_LOG_LEVEL=0 in the environment JAX shows its own message."
        )

    def stop(self) -> None:
        """Makes the threads end nothing: this process is about to end by itself."""
        _right_to_exit.acquire()

    def announce_exit(self, reason: str) -> None:
        """Stops the threads, and tells the other processes why this one is about to end.

        Args:
          reason: a clause, or the message of an error.
        """
        self.stop()
        self.try_to_set(_EXIT_KEY, self._message(self._process_index, reason))
        if self._process_index == 0:
            time.sleep(GRACE_SECONDS)

    def try_to_set(self, key: str, value: str) -> None:
        """Sets a key of the store, unless it is set, or process 0 has ended or does not answer."""

        def set_value() -> None:
            with contextlib.suppress(Exception):
                self._client.key_value_set(key, value)

        thread = threading.Thread(target=set_value, daemon=True)
        thread.start()
        thread.join(GRACE_SECONDS)

    def _wait_for_reason(self) -> str:
        """Returns the message of the first process that says why it ends."""
        message: str = self._client.blocking_key_value_get(_EXIT_KEY, _FOREVER_MS)
        return message

    def _wait_for_death(self) -> str:
        """Returns a message when a process has ended without a word."""
        everyone = range(len(self.hosts))
        while True:
            # Returns when all that are alive have called it, so that slow processes are waited for.
            alive = self._client.get_live_nodes(list(everyone))
            if dead := set(everyone) - set(alive):
                return self._message(min(dead), "it does not answer, and gave no reason")
            time.sleep(PERIOD_SECONDS)

    def _message(self, process_index: int, reason: str) -> str:
        """Returns the message for the user when a process of the cluster has ended."""
        process = f"process {process_index} on {self.hosts[process_index]}"
        return f"{process} has ended: {reason.rstrip('.')}. {_ADVICE}"

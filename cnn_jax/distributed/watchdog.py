"""Ends a process soon, and with words, when another one of its cluster has ended.

A process that waits for another one does so in C++, within a collective operation, where no Python
exception reaches it. JAX would abort it after a while, with a page of C++ on standard error. So a
thread of each process tells process 0 twice a second that it lives, or why it ends, and process 0
tells all others who ended first. That goes through the key-value store of JAX's coordination
service, which lives in process 0: once this is gone, JAX aborts the others at once, and a handler
of the signal SIGABRT has the last word.
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

PERIOD_SECONDS = 0.5
SUSPECT_SECONDS = 5.0  # Of silence are enough when somebody's connection was closed.
FAREWELL_SECONDS = 3.0  # For the others to hear of an end before process 0 goes.
_FIRST, _BEATS = "cnn_jax/watch/first", "cnn_jax/watch/beats"

_speaking = threading.Lock()
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int)
_handlers: list[Any] = []  # C calls the last one, which must not be collected.


def end(message: str) -> NoReturn:
    """Ends this process with a line, whatever its other threads do."""
    if not _speaking.acquire(blocking=False):
        threading.Event().wait()  # Another thread is about to do it.
    line = f"error: {printable(' '.join(message.split()))}\n"
    with contextlib.suppress(OSError):
        os.write(2, b"\n" * os.isatty(2) + line.encode(errors="backslashreplace"))
    os._exit(2)


def before_abort(say: Callable[[], None]) -> None:
    """Has `say` called when C++ code aborts the process, in the thread that does so.

    A handler of Python's would be called in the main thread, that is never.
    """

    def handle(number: int) -> None:
        del number
        say()

    _handlers.append(_Handler(handle))
    ctypes.CDLL(None).signal(signal.SIGABRT, _handlers[-1])


class Watchdog:
    """The thread of this process, and what it says to those of the others."""

    def __init__(
        self, client: Any, place: ProcessSpec, hosts: Sequence[str], heartbeat_seconds: float
    ) -> None:
        """Starts to watch.

        Args:
          client: of JAX's coordination service.
          place: of this process.
          hosts: of all processes.
          heartbeat_seconds: of silence after which a process counts as dead. Its thread is silent
            also while C code holds Python's lock.
        """
        self._client, self._place, self._hosts = client, place, hosts
        self._heartbeat_seconds = heartbeat_seconds
        self._number = 0
        self._words: str | None = None  # The last ones of this process.
        self._suspects = False
        self._ended: tuple[int, str] | None = None  # Who ended first, and why.
        self._heard = {index: (-1, time.monotonic()) for index in range(1, place.count)}
        self._answered = time.monotonic()
        self._stop, self._told = threading.Event(), threading.Event()
        before_abort(self._abort)
        self._thread = threading.Thread(target=self._run, daemon=True, name="cluster watch")
        self._thread.start()

    def stop(self) -> None:
        """Ends the watch: from now on, others may go."""
        self._stop.set()
        self._thread.join()

    def announce_exit(self, words: str) -> None:
        """Tells the others why this process ends; from process 0 they must hear it before."""
        self._words = words
        if self._place.index == 0:
            self._told.wait(FAREWELL_SECONDS + 2 * PERIOD_SECONDS)
        else:
            with contextlib.suppress(Exception):  # Process 0 may be gone, too.
                self._beat(seen=False)

    def find_lost(self) -> None:
        """Called when a connection was closed: ends this process if another one is dead."""
        self._suspects = True
        self._told.wait(SUSPECT_SECONDS + 4 * PERIOD_SECONDS)

    def _run(self) -> None:
        look = self._look_as_first if self._place.index == 0 else self._look_as_other
        while not self._stop.wait(PERIOD_SECONDS):
            try:
                look()
            except Exception:  # Of the client, for which JAX names no type.
                if self._stop.is_set() or self._words is not None:
                    return
                if self._place.index != 0:
                    end(self._about(0, "without a word"))
                raise

    def _look_as_first(self) -> None:
        now = time.monotonic()
        beats = self._beats()
        for index, beat in beats.items():
            if beat["number"] != self._heard[index][0]:
                self._heard[index] = beat["number"], now
        self._suspects |= any(beat["suspects"] for beat in beats.values())
        if ended := self._first_to_end(beats, now):
            self._take_leave(ended)
        self._tell(_FIRST, {"ended": None})

    def _first_to_end(self, beats: dict[int, Any], now: float) -> tuple[int, str] | None:
        if self._words is not None:
            return 0, self._words
        for index, beat in beats.items():
            if beat["words"] is not None:
                return index, beat["words"]
        patience = self._heartbeat_seconds
        if self._suspects:
            patience = min(patience, SUSPECT_SECONDS)
        index, (_, heard) = min(self._heard.items(), key=lambda item: item[1][1])
        if now - heard > patience:
            return index, f"without a word: it has been silent for {now - heard:.0f} s"
        return None

    def _take_leave(self, ended: tuple[int, str]) -> None:
        """Tells the others who has ended, waits until they know, and ends process 0 as well."""
        self._tell(_FIRST, {"ended": ended})
        others = self._heard.keys() - {ended[0]}
        until = time.monotonic() + FAREWELL_SECONDS
        while time.monotonic() < until:
            beats = self._beats()
            if all(index in beats and beats[index]["seen"] for index in others):
                break
            time.sleep(PERIOD_SECONDS / 5)
        if self._words is None:
            end(self._about(*ended))
        self._stop.set()
        self._told.set()  # The main thread says the rest.

    def _look_as_other(self) -> None:
        # A get has a time limit, and process 0 may have vanished: so it comes first.
        limit = int(1000 * self._heartbeat_seconds)
        first = json.loads(self._client.blocking_key_value_get(_FIRST, limit))
        self._answered = time.monotonic()
        self._beat(seen=first["ended"] is not None)
        if first["ended"] and self._words is None:
            end(self._about(*first["ended"]))

    def _beat(self, *, seen: bool) -> None:
        self._number += 1
        beat = {
            "number": self._number,
            "words": self._words,
            "suspects": self._suspects,
            "seen": seen,
        }
        self._tell(f"{_BEATS}/{self._place.index}", beat)

    def _beats(self) -> dict[int, Any]:
        said = self._client.key_value_dir_get(_BEATS)
        return {int(key.rpartition("/")[2]): json.loads(text) for key, text in said}

    def _tell(self, key: str, content: dict[str, Any]) -> None:
        self._client.key_value_set(key, json.dumps(content), allow_overwrite=True)

    def _about(self, index: int, why: str) -> str:
        who = f"process {index} on {self._hosts[index]}"
        if index == self._place.index:
            who = f"this is {who}, which, to the others,"
        separator = " " if why.startswith("without") else ": "
        return (
            f"{who} has ended{separator}{why.rstrip('.')}. A run needs all its processes: start "
            "the same command on all hosts again; with a --workdir it goes on from its newest "
            "checkpoint."
        )

    def _abort(self) -> None:
        """Says why JAX aborts this process, if it is for the end of process 0."""
        if self._stop.is_set():
            time.sleep(2 * FAREWELL_SECONDS)  # The main thread is about to end, as it should.
        elif self._place.index != 0 and self._first_is_gone():
            end(self._about(0, "without a word"))
        text = "error: JAX aborts this process. TF_CPP_MIN_LOG_LEVEL=0 in its environment says why."
        os.write(2, f"{text}\n".encode())

    def _first_is_gone(self) -> bool:
        if time.monotonic() - self._answered > max(SUSPECT_SECONDS, 4 * PERIOD_SECONDS):
            return True  # A process that hangs still takes connections.
        until = time.monotonic() + FAREWELL_SECONDS
        while time.monotonic() < until:  # Its connections may be closed a moment before its port.
            try:
                socket.create_connection((self._place.host, self._place.port), timeout=2).close()
            except OSError:
                return True
            time.sleep(0.1)
        return False

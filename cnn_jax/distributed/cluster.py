"""The processes that train one run together, on one host or many, through `jax.distributed`."""

import collections
import contextlib
import itertools
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from cnn_jax.distributed.watchdog import Watchdog
from cnn_jax.errors import Stopped, UserError

_POLL_MS = 500  # A waiting process handles signals after at most this time.
# In which a process that is dead is noticed: more than the heartbeats' timeout.
LOST_CONNECTION_SECONDS = 35.0
_GATHERS_KEY, _LEFT_KEY = "cnn_jax/gathers", "cnn_jax/left"
_EXCERPT_LENGTH, _CONTEXT_LENGTH = 60, 30  # Characters of differing texts in an error message.


class Cluster:
    """Collective operations of the host: agreement, broadcast, barrier.

    All processes make the same calls in the same order, and each waits for the slowest one, however
    long that takes. If a process ends, `watchdog.Watchdog` ends those that wait for it. With a
    single process each operation returns its argument at once.

    As a context manager it makes the processes leave together, or tells the others why this one
    fails.

    Attributes:
      process_index: index of this process; process 0 prints, and writes the result files.
      process_count: number of processes.
    """

    def __init__(self, client: Any = None, process_index: int = 0, process_count: int = 1) -> None:
        """Sets up a single process, or one of several for `join.join`, which passes arguments.

        Args:
          client: the client of JAX's coordination service.
          process_index: index of this process.
          process_count: number of processes.
        """
        self.process_index, self.process_count = process_index, process_count
        self._client, self._num_gathers = client, 0
        self._agreed_to_stop = False
        self._common_error: UserError | None = None
        self._watchdog = Watchdog(client, process_index, process_count) if client else None
        if self._watchdog:
            self._watchdog.set_hosts(self._gather("join", socket.gethostname()))

    @property
    def is_first(self) -> bool:
        """Returns whether this is process 0."""
        return self.process_index == 0

    def all_reduce_max(self, value: int) -> int:
        """Returns the largest of the processes' values, in every process."""
        return max(map(int, self._gather("all_reduce_max", str(value))))

    def all_reduce_min(self, value: int) -> int:
        """Returns the smallest of the processes' values, in every process."""
        return min(map(int, self._gather("all_reduce_min", str(value))))

    def agree_on_signal(self, signal_number: int | None) -> int | None:
        """Returns a stop signal that any process has received, or None if no process has.

        When there is one, all processes will raise `Stopped`, and the watchdogs will not report
        that as a failure.

        Args:
          signal_number: of the signal that this process has received, or None.
        """
        agreed = self.all_reduce_max(signal_number or 0) or None
        self._agreed_to_stop |= agreed is not None
        return agreed

    def broadcast_from_first(self, text: str) -> str:
        """Returns the text of process 0, in every process."""
        return self._gather("broadcast_from_first", text if self.is_first else "")[0]

    def check_same(self, name: str, text: str) -> None:
        """Checks that all processes pass the same text.

        Args:
          name: the subject of the error message, such as "the config".
          text: the value to be compared.

        Raises:
          UserError: in all processes, when the texts differ. It names a process whose text is not
            the most frequent one.
        """
        texts = self._gather(f"check_same {name}", text)
        (usual_text, _), *other_texts = collections.Counter(texts).most_common()
        if not other_texts or not self._watchdog:
            return
        hosts = self._watchdog.hosts
        different, usual = texts.index(other_texts[0][0]), texts.index(usual_text)
        different_excerpt, usual_excerpt = _excerpts(texts[different], usual_text)
        self._common_error = UserError(
            f"{name} of process {different} on {hosts[different]} differs from that of process "
            f"{usual} on {hosts[usual]}: {different_excerpt} instead of {usual_excerpt}. It must "
            "be the same in all processes: start the same command with the same software on all "
            "hosts."
        )
        raise self._common_error

    def barrier(self, name: str) -> None:
        """Waits until all processes have called it with the same name."""
        self._gather(f"barrier {name}", "")

    @contextlib.contextmanager
    def first_then_others(self) -> Iterator[None]:
        """Runs the body in process 0, and when that is done, in all others."""
        if not self.is_first:
            self.barrier("process 0 is done")
        yield
        if self.is_first:
            self.barrier("process 0 is done")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._watchdog is None:
            return
        is_agreed = self._agreed_to_stop and isinstance(error, Stopped)
        if error and error is not self._common_error and not is_agreed:
            self._fail(self._watchdog, error)
            return
        try:
            self._leave(self._watchdog)
        except BaseException as leave_error:
            self._fail(self._watchdog, leave_error)
            raise

    def _leave(self, watchdog: Watchdog) -> None:
        """Waits until all processes are about to end; process 0 ends last."""
        self.barrier("end")
        if self.is_first:
            for index in range(1, self.process_count):
                self._wait_for_value(f"{_LEFT_KEY}/{index}")
            watchdog.stop()
        else:
            watchdog.stop()
            watchdog.try_to_set(f"{_LEFT_KEY}/{self.process_index}", "")

    def _fail(self, watchdog: Watchdog, error: BaseException) -> None:
        """Tells the other processes why this one ends, and ends it if the error is a bug."""
        if _is_lost_connection(error):
            # If another process has ended, the watchdog soon ends this one, too.
            time.sleep(LOST_CONNECTION_SECONDS)
        # `main.py` prints expected errors as one line; all others are bugs.
        is_expected = isinstance(error, UserError | KeyboardInterrupt | BrokenPipeError)
        reason = str(error) if is_expected else f"{type(error).__name__}: {error}"
        watchdog.announce_exit(reason)
        if not is_expected:
            sys.excepthook(type(error), error, error.__traceback__)
            os._exit(1)  # A normal exit would wait for the other processes.

    def _gather(self, operation: str, text: str) -> list[str]:
        """Gathers a text from every process, in the order of their indices.

        `multihost_utils` gathers arrays of equal shapes, in C++ code that no signal can interrupt.

        Args:
          operation: name of the collective operation, the same in all processes.
          text: the text of this process.

        Raises:
          RuntimeError: when the processes call different operations, which is a bug.
        """
        if self._client is None:
            return [text]
        folder = f"{_GATHERS_KEY}/{self._num_gathers}"
        self._num_gathers += 1
        self._client.key_value_set(f"{folder}/{self.process_index}", f"{operation}\n{text}")
        gathered = [
            self._wait_for_value(f"{folder}/{index}").partition("\n")
            for index in range(self.process_count)
        ]
        if self.is_first:
            # All processes have arrived, so all of them have read the texts of the gather before.
            self._client.key_value_delete(f"{_GATHERS_KEY}/{self._num_gathers - 2}")
        operations = {gathered_operation for gathered_operation, _, _ in gathered}
        if operations != {operation}:
            raise RuntimeError(f"the processes call different operations: {sorted(operations)}")
        return [gathered_text for _, _, gathered_text in gathered]

    def _wait_for_value(self, key: str) -> str:
        """Returns a value of the coordination service's store as soon as a process has set it."""
        while True:
            try:
                value: str = self._client.blocking_key_value_get(key, _POLL_MS)
            except RuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise
            else:
                return value


def _is_lost_connection(error: BaseException | None) -> bool:
    """Returns whether an exception, or its cause, may come from the end of another process."""
    from jax.errors import JaxRuntimeError

    while error:
        text = str(error)
        is_lost = re.search("UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED|INTERNAL|NCCL", text)
        if "Gloo" in text or (isinstance(error, JaxRuntimeError) and is_lost):
            return True
        error = error.__cause__ or error.__context__
    return False


def _excerpts(text: str, other: str) -> tuple[str, str]:
    """Returns the parts of two different texts around their first difference."""
    pairs = enumerate(itertools.zip_longest(text, other))
    position = next(position for position, (character, its_pair) in pairs if character != its_pair)
    start = max(0, position - _CONTEXT_LENGTH)
    end = start + _EXCERPT_LENGTH
    return text[start:end], other[start:end]

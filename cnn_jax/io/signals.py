"""Handles stop signals: the process stops at once, or after the state of a run has been saved."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from cnn_jax.errors import Stopped

# Sent by Ctrl-C, by a scheduler, and by a terminal that closes: SIGHUP, or SIGBREAK on Windows.
STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
)
_SIGPIPE = 13  # Windows has no name for it.
DUPLICATE_SECONDS = 1.0  # Signals closer than this count as one request.


def install(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    """Sets the handler of all `STOP_SIGNALS`, except those that are ignored, as under `nohup`."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def raise_stopped(signal_number: int, frame: FrameType | None) -> None:
    """Signal handler that stops the program at once; for use while there is nothing to save.

    During an import it ends the process without an exception, because an extension module may
    crash if it is interrupted by an exception while it initializes. Meant for a program, not for
    library code.

    Raises:
      Stopped: unless an import is in progress.
    """
    stopped = _stopped(signal_number, "there was nothing to save")
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, f"{stopped}\n".encode())
            os._exit(128 + signal_number)
        frame = frame.f_back
    raise stopped


def exit_with_closed_pipe() -> NoReturn:
    """Ends this process silently, because the reader of its output has ended, as in `... | head`.

    SIGPIPE kills it; on Windows, which lacks that signal, the status is the one of a shell for it.
    """
    if hasattr(signal, "SIGPIPE"):
        # Not set earlier, because Orbax's threads write to pipes that are already closed.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.raise_signal(signal.SIGPIPE)
    # Python's regular shutdown would flush standard output again, and print the error.
    os._exit(128 + _SIGPIPE)


class StopRequest:
    """A request to stop, made by a signal.

    Attributes:
      signal_number: number of the signal, or None if no request has been made.
    """

    signal_number: int | None = None

    def raise_if_requested(self, message: str) -> None:
        """Raises an exception if a stop was requested.

        Args:
          message: one line that says how far the run is and what is saved.

        Raises:
          Stopped: if a stop was requested.
        """
        if self.signal_number is not None:
            raise _stopped(self.signal_number, message)


@contextlib.contextmanager
def defer_signals(clock: Callable[[], float] = time.monotonic) -> Iterator[StopRequest]:
    """Records stop signals in a `StopRequest` instead of stopping at once.

    The code inside the context checks the request where it can stop cleanly. A second signal stops
    the program at once. A signal less than `DUPLICATE_SECONDS` after the first is ignored: a
    terminal and a launcher may both forward the same Ctrl-C.

    Python allows only the main thread to set signal handlers; in other threads this context
    manager does nothing.

    Args:
      clock: returns the current time in seconds.

    Yields:
      The request, which is updated when a signal arrives.

    Raises:
      Stopped: on the second signal.
    """
    request = StopRequest()
    requested_at = 0.0

    def record(signal_number: int, frame: FrameType | None) -> None:
        nonlocal requested_at
        del frame
        if request.signal_number is None:
            request.signal_number, requested_at = signal_number, clock()
        elif clock() - requested_at >= DUPLICATE_SECONDS:
            raise _stopped(signal_number, "second stop request; earlier checkpoints are kept")

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    install(record)
    try:
        yield request
    finally:
        for number, handler in previous.items():
            # None means that the handler was not set by Python, which then cannot restore it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _stopped(signal_number: int, message: str) -> Stopped:
    return Stopped(f"stopped by {signal.Signals(signal_number).name}: {message}", signal_number)

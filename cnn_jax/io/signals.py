"""Requests to end: obeyed at once, but at the next good moment while work is under way."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from cnn_jax.errors import Stopped

STOP_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
)  # Ctrl-C, a scheduler, a lost terminal.
IMPATIENT_SECONDS = 1.0


def install(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    """Sets the handler of all `REQUESTS` but those that are ignored, as under `nohup`."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def raise_stopped(number: int, frame: FrameType | None) -> None:
    """A handler for when there is nothing to save: for a program, not for a library.

    Raises:
      Stopped: unless something is being imported. An extension that sees an exception while it
        starts may crash, so the process ends there and then.
    """
    stopped = _stopped(number, "nothing was to be saved")
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, f"{stopped}\n".encode())
            os._exit(128 + number)
        frame = frame.f_back
    raise stopped


class StopRequest:
    """The request that has come and is to be answered.

    Attributes:
      number: of its signal; None as long as there is none.
    """

    number: int | None = None

    def raise_if_requested(self, message: str) -> None:
        """Ends the work if that was asked for.

        Args:
          message: one line that says where it stands.

        Raises:
          Stopped: if a request has come.
        """
        if self.number is not None:
            raise _stopped(self.number, message)


@contextlib.contextmanager
def defer_signals(clock: Callable[[], float] = time.monotonic) -> Iterator[StopRequest]:
    """While it lasts, a request is noted, for the work to end well.

    One that comes a second later or more is obeyed at once: somebody is impatient. Before that it
    is the same one, sent by a terminal and by the program that runs this one.

    Only the main thread may handle signals: in another one nothing is held.

    Args:
      clock: seconds as a function of nothing.

    Raises:
      Stopped: on such a second request.
    """
    request = StopRequest()
    came = 0.0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        del frame
        if request.number is None:
            request.number, came = number, clock()
        elif clock() - came >= IMPATIENT_SECONDS:
            raise _stopped(number, "a second time; what was saved before stays")

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    install(note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            # None: set by other means than Python, which cannot set it again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _stopped(number: int, message: str) -> Stopped:
    return Stopped(f"stopped by {signal.Signals(number).name}: {message}", number)

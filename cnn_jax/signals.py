"""Requests to end: obeyed at once, but at the next good moment while work is under way."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from cnn_jax.errors import Stopped

REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, a scheduler, a lost terminal.


def install(handler: Callable[[int, FrameType | None], None]) -> None:
    """Sets the handler of all `REQUESTS` but those that are ignored, as under `nohup`."""
    for number in REQUESTS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


class Held:
    """The request that has come and is to be answered.

    Attributes:
      number: of its signal; None as long as there is none.
    """

    number: int | None = None

    def answer(self, message: str) -> None:
        """Ends the work if that was asked for.

        Args:
          message: one line that says where it stands.

        Raises:
          Stopped: if a request has come.
        """
        if self.number is not None:
            name = signal.Signals(self.number).name
            raise Stopped(f"stopped by {name}: {message}", self.number)


@contextlib.contextmanager
def held() -> Iterator[Held]:
    """While it lasts, a request is noted, for the work to end well; a second one is obeyed at once.

    Only the main thread may handle signals: in another one nothing is held.
    """
    request = Held()

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        request.number = number
        for other in REQUESTS:
            signal.signal(other, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in REQUESTS}
    install(note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            # None: set by other means than Python, which cannot set it again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

"""Exceptions that `main.py` turns into one line and an exit status."""

import contextlib
from collections.abc import Callable, Iterator


class UserError(Exception):
    """A flag, config, file or data set is invalid, and the user can fix it.

    The message is one line that says three things: what was given, what it must be, what to do.
    `main.py` prints it as `error: ...` and exits with status 2. Callers from Python catch it.
    """


class Stopped(KeyboardInterrupt):
    """A signal has stopped the work. The message is one line that says what has been saved.

    It is a KeyboardInterrupt because that is what Ctrl-C raises in Python. `main.py` prints the
    message and exits with status 128 + `signal_number`.

    Attributes:
      signal_number: number of the signal, for example 15 for SIGTERM.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


def short_reason(error: Exception) -> str:
    """Returns the operating system's message, or the first line of any other exception's text."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().partition("\n")[0] or type(error).__name__


@contextlib.contextmanager
def translate_errors(
    failed_action: str,
    advice: str,
    *,
    kind: type[Exception] = OSError,
    reason: Callable[[Exception], str] = short_reason,
) -> Iterator[None]:
    """Turns exceptions of the body into a UserError; a UserError passes unchanged.

    Args:
      failed_action: the beginning of the message, such as `cannot open runs/mnist/checkpoints`.
      advice: the end of the message: what must hold, and what the user can do. Full sentences.
      kind: class of the exceptions.
      reason: describes an exception in a few words.

    Raises:
      UserError: `{failed_action} ({reason}): {advice}`.
    """
    try:
        yield
    except UserError:
        raise
    except kind as error:
        raise UserError(f"{failed_action} ({reason(error)}): {advice}") from error

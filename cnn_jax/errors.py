"""Exceptions that `main.py` turns into one line and an exit status."""


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

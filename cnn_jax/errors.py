"""The two exceptions that `main.py` answers with a line and an exit status."""


class UserError(Exception):
    """A flag, config, file or data set is not usable as given.

    The message is one line and says three things: what was given, what is allowed, what to do.
    `main.py` prints it as `error: ...` and exits with status 2; library users catch it.
    """


class Stopped(KeyboardInterrupt):
    """A signal has ended the work; the message, one line, says where it stands.

    A KeyboardInterrupt, since that is what Ctrl-C is to a library's user. `main.py` prints the
    message and exits with status 128 + `number`.

    Attributes:
      number: of the signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number

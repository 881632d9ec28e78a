"""The one exception for everything that the person at the keyboard can mend."""


class UserError(Exception):
    """A flag, config, file or data set is not usable as given.

    The message is one line and says three things: what was given, what is allowed, what to do.
    `main.py` prints it as `error: ...` and exits with status 2; library users catch it.
    """

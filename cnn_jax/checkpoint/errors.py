"""Short messages for the errors of Orbax and TensorStore."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator

from cnn_jax.errors import UserError

# The file may be intact, and readable later: permissions, a failing disk or network, a full memory.
_TRANSIENT = (errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENOMEM)
_MAX_MESSAGE_LENGTH = 100


def is_transient(error: Exception) -> bool:
    """Returns whether a failed read says nothing about the file, which may be intact."""
    return _errno(error) in _TRANSIENT


def short_message(error: Exception) -> str:
    """Returns an error's message without TensorStore's trace, at most 100 characters long."""
    if number := _errno(error):
        return os.strerror(number)
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    # TensorStore writes "NOT_FOUND: Error opening ...: Error reading ...: the cause [details]".
    if re.match(r"[A-Z_]+: ", text):
        text = text.partition(" [")[0].rpartition(": ")[2]
    return text[:_MAX_MESSAGE_LENGTH]


def _errno(error: Exception) -> int | None:
    """Returns the operating system's error number, or None for an error of another origin."""
    if isinstance(error, OSError):
        return error.errno
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    match = re.search(r"os_error_code='(\d+)'", str(error))  # TensorStore's form of it.
    return int(match[1]) if match else None


@contextlib.contextmanager
def translate_errors(failed_action: str, advice: str) -> Iterator[None]:
    """Turns every exception of the body into a UserError; a UserError passes unchanged.

    Args:
      failed_action: the beginning of the message, such as `cannot open runs/mnist/checkpoints`.
      advice: the end of the message: what must hold, and what the user can do. Full sentences.

    Raises:
      UserError: `{failed_action} ({reason}): {advice}`.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Orbax and TensorStore raise many types.
        raise UserError(f"{failed_action} ({short_message(error)}): {advice}") from error

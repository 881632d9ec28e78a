"""Short messages for the errors of Orbax and TensorStore."""

import contextlib
import errno
import os
import re

from cnn_jax.errors import translate_errors

# The file is not there. After any other error of the operating system (permissions, a failing disk
# or network, a full memory) it may be intact, and readable later.
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
_MAX_MESSAGE_LENGTH = 100


def is_transient(error: Exception) -> bool:
    """Returns whether a failed read says nothing about the file, which may be intact."""
    number = _errno(error)
    return number is not None and number not in _MISSING


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


def translate_orbax_errors(
    failed_action: str, advice: str
) -> contextlib.AbstractContextManager[None]:
    """Turns every exception into a UserError: Orbax and TensorStore raise many types."""
    return translate_errors(failed_action, advice, kind=Exception, reason=short_message)

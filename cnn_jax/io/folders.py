"""The folders that the user names, and the user's cache folder."""

import os
import re
from pathlib import Path

from cnn_jax.errors import UserError


def local_folder(name: str, path: str | os.PathLike[str]) -> Path:
    """Returns a folder of this machine, with a leading `~` expanded. It need not exist.

    Args:
      name: the flag or config key whose value the path is, for the message.
      path: the folder.

    Raises:
      UserError: if the path is the address of a bucket or server, or starts with the `~` of a user
        without a home folder.
    """
    given = os.fspath(path)
    if not given:
        raise UserError(f"{name}= is invalid: it must be a folder. Name one, or omit it.")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", given):  # Windows' drives have one letter.
        raise UserError(
            f"{name}={given} is invalid: it must be a folder of this machine, not an address. "
            "Name its path; a bucket must be mounted, for instance with gcsfuse or s3fs."
        )
    expanded = os.path.expanduser(given)
    if expanded.startswith("~"):
        raise UserError(
            f"{name}={given} is invalid: there is no home folder that {Path(given).parts[0]} could "
            "stand for. Use an absolute path."
        )
    return Path(expanded)


def cache_folder() -> Path | None:
    """Returns the user's cache folder: `$XDG_CACHE_HOME/cnn_jax`, or `~/.cache/cnn_jax`.

    It is None for a user without a home folder, such as that of a container: there is no cache.
    """
    for base in (os.environ.get("XDG_CACHE_HOME", ""), "~/.cache"):
        path = Path(os.path.expanduser(base))
        if path.is_absolute():  # The XDG specification says to ignore relative paths.
            return path / "cnn_jax"
    return None

"""What Orbax and TensorStore raise, and what a folder of theirs holds, in words."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from cnn_jax.errors import UserError

# Not of the file, but of the moment: it may be whole, and read another time.
_PASSING = (errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENOMEM)


def is_transient(error: Exception) -> bool:
    """Whether what could not be read now may be whole nevertheless."""
    return _errno(error) in _PASSING


def describe_arrays(folder: Path) -> str:
    """What the arrays of anybody's checkpoint are called, in words."""
    names: list[str] = []
    for item in sorted(folder.glob("*/")):
        with contextlib.suppress(Exception), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as one:
            tree = one.metadata(item.absolute()).item_metadata.tree
            leaves = jax.tree.leaves(tree, is_leaf=lambda leaf: hasattr(leaf, "name"))
            names += [leaf.name for leaf in leaves]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "no arrays"


def _errno(error: Exception) -> int | None:
    """The operating system's number for what went wrong, where it was the operating system."""
    if isinstance(error, OSError):
        return error.errno
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    match = re.search(r"os_error_code='(\d+)'", str(error))  # As TensorStore writes it.
    return int(match[1]) if match else None


def short_message(error: Exception) -> str:
    """An error in a few words; of the stories that TensorStore tells only the end matters."""
    if number := _errno(error):
        return os.strerror(number)
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    if re.match(r"[A-Z_]+: ", text):
        text = text.partition(" [")[0].rpartition(": ")[2]
    return text[:100]


@contextlib.contextmanager
def translate_errors(what: str, advice: str) -> Iterator[None]:
    """Turns whatever Orbax raises into words."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what} ({short_message(error)}). {advice}.") from error

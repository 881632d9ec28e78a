"""Which files `--images` names: files, folders and patterns."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from cnn_jax.errors import UserError


def find_pictures(images: Sequence[str]) -> list[Path]:
    """The files that `--images` names, each once.

    Args:
      images: files, folders, of which those files are taken whose suffix Pillow reads, and
        patterns. What is not there, or has no picture in it, is taken for a file, so that reading
        it says so.

    Raises:
      UserError: when no name is given.
    """
    found: dict[str, Path] = {}
    for name in filter(None, images):
        for path in _files(os.path.expanduser(name)):
            found.setdefault(os.path.realpath(path), path)  # A link may lead to the same file.
    if not found:
        raise UserError(
            f"--images={','.join(images)} names no picture: allowed are files that Pillow opens, "
            "folders of them, and patterns. Use --images=FILE,FOLDER,'*.jpg'."
        )
    return list(found.values())


def _files(name: str) -> Iterator[Path]:
    matches: list[str] = []
    if os.path.isdir(name):  # pathlib's form raises where a path is too long.
        matches = list(map(str, _pictures(Path(name))))
    elif not os.path.lexists(name):
        matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - May be absolute.
    yield from [Path(match) for match in matches if not os.path.isdir(match)] or [Path(name)]


def _pictures(folder: Path) -> list[Path]:
    Image.init()
    readable = {s for s, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(
            f"--images={folder} cannot be listed ({error.strerror}): allowed is a folder that can "
            "be read. Change its permissions, or name another one."
        ) from error
    # Hidden files are none: macOS puts one beside every picture on foreign disks.
    return [p for p in entries if p.suffix.lower() in readable and not p.name.startswith(".")]

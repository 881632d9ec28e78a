"""Lists the picture files that `--images` names: files, folders and patterns."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from cnn_jax.errors import UserError, translate_errors


def find_pictures(images: Sequence[str]) -> list[Path]:
    """Returns the files that `--images` names, without duplicates.

    Args:
      images: names of files; of folders, for all files in them whose suffix Pillow decodes; and
        patterns such as `*.jpg`. A name that matches no file is returned as it is, so that the
        error of reading it names it.

    Raises:
      UserError: when no name is given, or a folder cannot be listed.
    """
    paths: dict[str, Path] = {}
    for name in filter(None, images):
        for path in _expand(os.path.expanduser(name)):
            paths.setdefault(os.path.realpath(path), path)  # Links may lead to the same file.
    if not paths:
        raise UserError(
            f"--images={','.join(images)} is invalid: it must name pictures, folders or patterns. "
            "Use --images=FILE,FOLDER,'*.jpg'."
        )
    return list(paths.values())


def _expand(name: str) -> Iterator[Path]:
    """Yields the files that one name stands for, or the name itself where there are none."""
    matches: list[str] = []
    if os.path.isdir(name):  # pathlib raises where a path is too long.
        matches = list(map(str, _list_pictures(Path(name))))
    elif not os.path.lexists(name):
        matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - May be absolute.
    yield from [Path(match) for match in matches if not os.path.isdir(match)] or [Path(name)]


def _list_pictures(folder: Path) -> list[Path]:
    """Returns the files of a folder whose suffix Pillow decodes, sorted by name."""
    Image.init()
    suffixes = {s for s, name in Image.registered_extensions().items() if name in Image.OPEN}
    advice = "it must be a readable folder. Change its permissions or name another folder."
    with translate_errors(f"cannot list --images={folder}", advice):
        entries = sorted(folder.iterdir())
    # Hidden files are skipped: macOS puts one beside every picture on a foreign disk.
    return [p for p in entries if p.suffix.lower() in suffixes and not p.name.startswith(".")]

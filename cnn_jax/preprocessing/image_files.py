"""Lists the picture files that `--images` names: files, folders and patterns."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cnn_jax.errors import UserError, translate_errors
from cnn_jax.preprocessing.formats import HEIC_ADVICE, HEIC_SUFFIXES, picture_suffixes
from cnn_jax.wording import pluralize

_MAX_NAMED_FILES = 5  # Files that the line about those passed over names.


class PictureFiles(NamedTuple):
    """Files that `--images` stands for.

    Attributes:
      pictures: files to read.
      passed_over: other files in the folders, and subfolders that cannot be listed.
    """

    pictures: list[Path]
    passed_over: list[Path]


def find_pictures(images: Sequence[str]) -> PictureFiles:
    """Returns the files that `--images` names, without duplicates.

    Args:
      images: names of files; of folders, for all files in them and in their subfolders whose suffix
        a decoder knows; and patterns such as `*.jpg`. A name that matches no file is returned as it
        is, so that the error of reading it names it.

    Raises:
      UserError: when no name is given, or a folder cannot be listed.
    """
    pictures: dict[str, Path] = {}
    others: dict[str, Path] = {}
    suffixes = picture_suffixes()
    for name in filter(None, images):
        expanded = os.path.expanduser(name)
        found = 0
        for path, is_named in _expand(expanded):
            # Links may lead to the same file.
            is_picture = is_named or (path.suffix.lower() in suffixes and not os.path.isdir(path))
            (pictures if is_picture else others).setdefault(os.path.realpath(path), path)
            found += is_picture
        if not found:
            pictures.setdefault(os.path.realpath(expanded), Path(expanded))
    if not pictures:
        raise UserError(
            f"--images={','.join(images)} is invalid: it must name pictures, folders or patterns. "
            "Use --images=FILE,FOLDER,'*.jpg'."
        )
    passed_over = [path for key, path in others.items() if key not in pictures]
    return PictureFiles(list(pictures.values()), passed_over)


def describe_passed_over(paths: Sequence[Path]) -> str:
    """Returns one line that counts the files passed over in folders, and names the first ones.

    Args:
      paths: at least one.
    """
    named = [f"{p} (cannot be listed)" if os.path.isdir(p) else str(p) for p in paths]
    more = f", and {len(paths) - _MAX_NAMED_FILES} more" if len(paths) > _MAX_NAMED_FILES else ""
    kind = "that is not known as a picture" if len(paths) == 1 else "that are not known as pictures"
    first = ", ".join(named[:_MAX_NAMED_FILES])
    line = f"passed over {pluralize(len(paths), 'file')} {kind}: {first}{more}"
    num_heic = sum(path.suffix.lower() in HEIC_SUFFIXES for path in paths)
    return f"{line}. To read the HEIC ones ({num_heic}): {HEIC_ADVICE}." if num_heic else line


def _expand(name: str) -> Iterator[tuple[Path, bool]]:
    """Yields the files that one name stands for, and whether it is a file's own name or pattern."""
    if os.path.isdir(name):  # pathlib raises where a path is too long.
        yield from ((path, False) for path in _walk(Path(name)))
    elif not os.path.lexists(name):
        for match in sorted(glob.glob(name, recursive=True)):  # noqa: PTH207 - May be absolute.
            if os.path.isdir(match):
                yield from ((path, False) for path in _walk(Path(match)))
            else:
                yield Path(match), True


def _walk(folder: Path) -> Iterator[Path]:
    """Yields the files in a folder and its subfolders, sorted, and unreadable subfolders."""
    advice = "it must be a readable folder. Change its permissions or name another folder."
    with translate_errors(f"cannot list --images={folder}", advice):
        remaining = _visible_entries(folder)
    root = Path(os.path.realpath(folder))
    walked: set[str] = set()
    while remaining:
        entry = remaining.pop()
        if not os.path.isdir(entry):
            yield entry
            continue
        real = os.path.realpath(entry)
        if real not in walked and not root.is_relative_to(real):  # Links may lead in circles.
            walked.add(real)
            try:
                remaining += _visible_entries(entry)
            except OSError:
                yield entry


def _visible_entries(folder: Path) -> list[Path]:
    """Returns a folder's entries, the last one by name first.

    Hidden ones are left out: macOS puts a hidden file beside every picture on a foreign disk.
    """
    return sorted((p for p in folder.iterdir() if not p.name.startswith(".")), reverse=True)

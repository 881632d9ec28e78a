"""Which files `--images` names: files, folders and patterns."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from cnn_jax.errors import UserError


def find_pictures(images: Sequence[str]) -> list[Path]:
    """The files that `--images` names, each once.

    Args:
      images: files, folders, of which those files are taken whose suffix Pillow knows, and
        patterns. What is not there is taken for a file, so that reading it says so.

    Raises:
      UserError: when there is none.
    """
    found: list[Path] = []
    suffixes = Image.registered_extensions()
    for name in images:
        path = os.path.expanduser(name)
        if os.path.isdir(path):  # pathlib's form raises where a path is too long.
            inside = sorted(p for p in Path(path).iterdir() if p.suffix.lower() in suffixes)
            if not inside:
                raise UserError(
                    f"--images={name} is a folder without pictures: allowed are files that Pillow "
                    "opens, folders of them, and patterns. Name another one."
                )
            found += inside
        elif os.path.lexists(path) or not glob.has_magic(path):
            found += [Path(path)] if path else []
        else:
            matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - May be absolute.
            found += [Path(match) for match in matches if not os.path.isdir(match)]
    if not found:
        raise UserError(
            f"--images={','.join(images)} names no picture: allowed are files that Pillow opens, "
            "folders of them, and patterns. Use --images=FILE,FOLDER,'*.jpg'."
        )
    return list(dict.fromkeys(found))

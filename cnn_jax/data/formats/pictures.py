"""Picture files, in folders, one for each class; and what all formats of picture files share."""

import dataclasses
import functools
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnn_jax.data.formats.split import SPLITS, Form, Found, Split, read_error
from cnn_jax.errors import UserError, translate_errors
from cnn_jax.preprocessing.decode import PhotoError, read_as_is
from cnn_jax.preprocessing.formats import HEIC_SUFFIXES, load_formats, picture_suffixes
from cnn_jax.preprocessing.processes import read_chunks

_CHUNK_SIZE = 1000  # Pictures that a process decodes at a time.
_ADVICE = "Free memory, or use dataset.feed=stream."


@dataclasses.dataclass(frozen=True)
class PictureSplit:
    """A split whose images are picture files, or their contents.

    Attributes:
      root: folder of the files, or the file that holds all contents.
      pictures: for each example its path in that folder, or its content.
      label: see `Split`.
      form: form of the images that `read` returns.
      class_names: see `Split`.
    """

    root: Path
    pictures: Sequence[str] | Sequence[bytes]
    label: npt.NDArray[np.int64]
    form: Form
    class_names: tuple[str, ...] = ()

    @functools.cached_property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the first image, and so of all."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(self.form, *self._item(0)).shape

    def key(self, row: int) -> str:
        picture = self.pictures[row]
        return picture.replace(os.sep, "/") if isinstance(picture, str) else str(row)

    def where(self, row: int) -> str:
        return self._item(row)[0]

    def read(self, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
        return decode_pictures(self.form, self.image_shape, self._items(rows))

    def read_chunks(self, rows: npt.NDArray[np.integer[Any]]) -> Iterator[npt.NDArray[np.uint8]]:
        decode = functools.partial(decode_pictures, self.form, self.image_shape)
        for _, images in read_chunks(decode, self._items(rows), _CHUNK_SIZE, _ADVICE):
            yield images

    def _items(self, rows: npt.NDArray[np.integer[Any]]) -> list[tuple[str, Path | bytes]]:
        return [self._item(row) for row in rows.tolist()]

    def _item(self, row: int) -> tuple[str, Path | bytes]:
        """Returns an example's file and row, for messages, and the picture."""
        picture = self.pictures[row]
        if isinstance(picture, str):
            path = self.root / picture
            return str(path), path
        return f"{self.root}, row {row}", picture


def decode_pictures(
    form: Form, shape: tuple[int, int, int], items: Sequence[tuple[str, Path | bytes]]
) -> npt.NDArray[np.uint8]:
    """Decodes pictures: uint8 [N, *shape].

    Args:
      form: form to which they are brought.
      shape: (height, width, channels) of the result.
      items: for each picture its name in messages, and its path or content.

    Raises:
      UserError: for one that cannot be decoded, or has another shape.
    """
    images = np.empty((len(items), *shape), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # About odd metadata.
        for index, (name, source) in enumerate(items):
            image = _decode(form, name, source)
            if image.shape != shape:
                raise _shape_error(name, image.shape, shape)
            images[index] = image
    return images


def _decode(form: Form, name: str, source: Path | bytes) -> npt.NDArray[np.uint8]:
    try:
        return form.convert(read_as_is(source))
    except PhotoError as error:
        raise UserError(
            f"cannot use {name} (it {error}): it must be a picture. Replace it, or remove it."
        ) from error


def _shape_error(name: str, given: Sequence[int], shape: tuple[int, int, int]) -> UserError:
    def describe(height: int, width: int, channels: int) -> str:
        return f"{height}x{width} and {'grey' if channels == 1 else 'has colours'}"

    return read_error(
        name,
        f"it is {describe(*given)}",
        f"be as the first picture, which is {describe(*shape)}",
        "Set dataset.image_size, and dataset.channels=1 or 3, to bring all to one form.",
    )


def find_folders(folder: Path) -> Found | None:
    """Returns the data set of a folder of folders, or None where there are none with pictures."""
    load_formats()
    subfolders = _subfolders(folder)
    parts = {SPLITS[path.name.lower()]: path for path in subfolders if path.name.lower() in SPLITS}
    if "train" not in parts or not _subfolders(parts["train"]):  # `train` may be a class.
        parts = {"train": folder}
    pictures = {name: _list_classes(part) for name, part in parts.items()}
    files = [
        part / picture
        for name, part in parts.items()
        for listed in pictures[name].values()
        for picture in listed
    ]
    if not files:
        return None

    def open_splits(form: Form) -> Mapping[str, Split]:
        return {name: _open(part, pictures[name], form) for name, part in parts.items()}

    return Found("folders of pictures", files, open_splits)


def has_classes(folder: Path) -> bool:
    """Returns whether a folder has pictures of several classes, in a folder each."""
    load_formats()
    return sum(map(bool, _list_classes(folder).values())) > 1


def _open(folder: Path, pictures: Mapping[str, Sequence[str]], form: Form) -> PictureSplit:
    for name, listed in pictures.items():
        if not listed:
            must, advice = "have pictures of its class", "Add some, or remove the folder."
            raise read_error(folder / name, "it has no pictures", must, advice)
    names = [picture for listed in pictures.values() for picture in listed]
    if not names:
        must, advice = "have a folder for each class", "Add them, or remove the folder."
        raise read_error(folder, "it has no folders of pictures", must, advice)
    label = np.repeat(np.arange(len(pictures)), [len(listed) for listed in pictures.values()])
    return PictureSplit(folder, names, label.astype(np.int64), form, tuple(pictures))


def _list_classes(folder: Path) -> dict[str, list[str]]:
    """Returns the paths in a folder of the pictures of each class, sorted, by the class's name.

    Files whose suffix no decoder knows, and hidden ones, are passed over.
    """
    suffixes = tuple(picture_suffixes() | HEIC_SUFFIXES)
    classes = {}
    for subfolder in _subfolders(folder):
        listed: list[str] = []
        for parent, folders, names in os.walk(subfolder, onerror=_raise):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            inner = os.path.relpath(parent, folder)
            for name in sorted(names):
                if name.lower().endswith(suffixes) and not name.startswith("."):
                    listed.append(f"{inner}{os.sep}{name}")
        classes[subfolder.name] = listed
    return classes


def _raise(error: OSError) -> None:
    raise error


def _subfolders(folder: Path) -> list[Path]:
    with translate_errors(f"cannot list {folder}", "it must be readable. Change that."):
        return sorted(
            path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
        )

"""`.npz` and `.npy` files: arrays of images and labels, as Keras and MedMNIST save them."""

import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from cnn_jax.data.formats.split import (
    NUM_CHANNELS,
    SPLITS,
    UNKNOWN,
    ArraySplit,
    Form,
    Found,
    Split,
    check_memory,
    check_packed_size,
    read_error,
)
from cnn_jax.errors import UserError, translate_errors

_IMAGES = "x|images?|imgs?|data"
_LABELS = "y|labels?|targets?"
_NAMES = "x_train and y_train, train_images and train_labels, or images and labels"
_AGAIN = "Save the arrays again with numpy.savez or numpy.save."


def find_npz(path: Path, needs_labels: bool = True) -> Found:
    """Returns the data set of an `.npz` file."""

    def open_splits(form: Form) -> Mapping[str, Split]:
        return _open(path, _read_npz(path), form, needs_labels)

    return Found("NumPy .npz", [path], open_splits)


def find_npy(folder: Path, needs_labels: bool = True) -> Found | None:
    """Returns the data set of the `.npy` files in a folder, or None where none is of images."""
    files = sorted(path for path in folder.glob("*.npy") if _role(path.stem))

    def open_splits(form: Form) -> Mapping[str, Split]:
        return _open(folder, _read_npy(files), form, needs_labels)

    return Found("NumPy .npy", files, open_splits) if files else None


def find_images(path: Path) -> Found:
    """Returns the data set of one `.npy` file of any name: images without labels."""

    def open_splits(form: Form) -> Mapping[str, Split]:
        (array,) = _read_npy([path]).values()
        image = _to_images(path, path.stem, array)
        return {"test": ArraySplit(path, image, np.full(len(image), UNKNOWN), form)}

    return Found("NumPy .npy", [path], open_splits)


def _role(name: str) -> tuple[str, str] | None:
    """Returns the split of an array and `image` or `label`, by the array's name; None: neither."""
    words = [word for word in re.split(r"[_\W]+", name.lower()) if word]
    splits = [SPLITS[word] for word in words if word in SPLITS]
    rest = [word for word in words if word not in SPLITS]
    if len(splits) > 1 or len(rest) != 1:
        return None
    for kind, pattern in (("image", _IMAGES), ("label", _LABELS)):
        if re.fullmatch(pattern, rest[0]):
            return (*splits, "train")[0], kind
    return None


def _read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Returns the arrays of images and labels in an `.npz` file, by their names."""
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {}
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if not _role(name):
                    continue
                check_packed_size(path, member.file_size, member.compress_size)
                with archive.open(member) as file:
                    arrays[name] = _read_array(path, name, file, member.file_size)
            return arrays
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        reason = f"it is damaged: {error}"
        raise read_error(path, reason, "be a whole .npz file", _AGAIN) from error
    except OSError as error:
        reason = str(error.strerror or error)
        raise read_error(path, reason, "be a readable .npz file", _AGAIN) from error


def _read_npy(files: list[Path]) -> dict[str, npt.NDArray[Any]]:
    arrays = {}
    for path in files:
        with (
            translate_errors(f"cannot read {path}", "it must be readable. Change that."),
            path.open("rb") as file,
        ):
            arrays[path.stem] = _read_array(path, path.stem, file, path.stat().st_size)
    return arrays


def _read_array(path: Path, name: str, file: Any, num_bytes: int) -> npt.NDArray[Any]:
    """Reads an array of the format `.npy`, which is never a pickle.

    Args:
      path: the file, for messages.
      name: name of the array.
      file: stream at the first byte of the array's header.
      num_bytes: from there to the end.
    """
    where = f"{path}, array {name}"
    try:
        version = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read_header(file)
    except (ValueError, SyntaxError, TypeError) as error:
        reason = f"it is damaged: {' '.join(str(error).split())}"
        raise read_error(where, reason, "be a whole array of NumPy", _AGAIN) from error
    if dtype.hasobject:
        reason = "it holds Python objects, which can run code"
        raise read_error(where, reason, "hold numbers or strings", _AGAIN)
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size > num_bytes:
        reason = f"it declares {size:,} bytes and has {num_bytes:,}"
        raise read_error(where, reason, "be whole", _AGAIN)
    check_memory(where, size)
    content = _read_exactly(file, size)
    if len(content) < size:
        reason = f"it is truncated: {len(content):,} of {size:,} bytes"
        raise read_error(where, reason, "be whole", _AGAIN)
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    content = file.read(size)
    while len(content) < size and (more := file.read(size - len(content))):
        content += more
    file.read(1)  # At the end, zipfile checks the member's CRC.
    return content


def _open(
    path: Path, arrays: Mapping[str, npt.NDArray[Any]], form: Form, needs_labels: bool
) -> dict[str, Split]:
    """Returns the splits of arrays by their names."""
    names: dict[str, dict[str, str]] = {}
    for name in arrays:
        split, kind = _role(name) or ("", "")
        if other := names.setdefault(split, {}).get(kind):
            reason = f"its arrays {other} and {name} are both the {kind}s of the split {split}"
            raise read_error(path, reason, f"have one of each: {_NAMES}", "Remove one of them.")
        names[split][kind] = name
    advice = "Rename the arrays."
    if "train" not in names and len(names) != 1:
        reason = f"it has {', '.join(sorted(arrays)) or 'no such arrays'}"
        raise read_error(path, reason, f"have the arrays {_NAMES}", advice)
    splits: dict[str, Split] = {}
    for split, kinds in names.items():
        needed = {"image", "label"} if needs_labels else {"image"}
        if missing := needed - kinds.keys():
            reason = f"the split {split} has no {missing.pop()}s, but {', '.join(kinds.values())}"
            raise read_error(path, reason, f"have the arrays {_NAMES}", advice)
        image = _to_images(path, kinds["image"], arrays[kinds["image"]])
        if "label" not in kinds:
            splits[split] = ArraySplit(path, image, np.full(len(image), UNKNOWN), form)
            continue
        label, class_names = to_labels(f"{path}, array {kinds['label']}", arrays[kinds["label"]])
        if len(image) != len(label):
            reason = f"{kinds['image']} has {len(image):,} rows, {kinds['label']} {len(label):,}"
            raise read_error(path, reason, "have a label for each image", _AGAIN)
        splits[split] = ArraySplit(path, image, label, form, class_names)
    return splits


def _to_images(path: Path, name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Returns an array of images as uint8 [N, h, w, c]."""
    where = f"{path}, array {name}"
    must = "be [N, height, width] or [N, height, width, 1 or 3], without an empty axis"
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or array.shape[3] not in NUM_CHANNELS or not array.size:
        given = "x".join(map(str, array.shape))
        raise read_error(where, f"its shape is {given}", must, "Reshape or transpose it.")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "biuf":
        raise read_error(where, f"its dtype is {array.dtype}", "be uint8", "Save it as uint8.")
    check_memory(where, array.size)
    image_u8 = np.empty(array.shape, np.uint8)
    for row, image in enumerate(array):
        if not np.all((image >= 0) & (image <= 255) & (image == np.floor(image))):  # NaN: False.
            wrong = image[~((image >= 0) & (image <= 255) & (image == np.floor(image)))][0]
            raise read_error(
                f"{where}, row {row}",
                f"it has the pixel {wrong:g}",
                "have whole numbers from 0 to 255",
                "Scale the images to 0..255 and save them as uint8.",
            )
        image_u8[row] = image
    return image_u8


def to_labels(where: str, array: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Returns labels as int64 [N], and the names of their classes if the labels are strings.

    Args:
      where: the file and the array or column, for messages.
      array: [N] or [N, 1].

    Raises:
      UserError: for other shapes, and a label that is no integer.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        given = "x".join(map(str, array.shape))
        advice = "Save the number of the class of each image."
        raise read_error(where, f"its shape is {given}", "be [N] or [N, 1]", advice)
    if array.dtype.kind in "US":
        class_names, label = np.unique(array.astype(str), return_inverse=True)
        return label.astype(np.int64), tuple(map(str, class_names))
    if array.dtype.kind not in "biuf":
        must = "have whole numbers or strings"
        raise read_error(where, f"its dtype is {array.dtype}", must, "Save them as int64.")
    with np.errstate(invalid="ignore"):
        label = array.astype(np.int64)
    if len(wrong := np.flatnonzero(label != array)):
        row = int(wrong[0])
        raise label_error(f"{where}, row {row}", str(array[row]))
    return label, ()


def label_error(where: str, label: str) -> UserError:
    """Returns the error for a label that is no integer."""
    advice = "Correct the row, or remove it."
    return read_error(where, f"its label is {label!r}", "be a whole number", advice)

"""Tests of `.npz` and `.npy` files."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_jax.data import Examples
from tests.data.formats.making import check, check_one_line, error_of, examples, load
from tests.support.hostile import damaged_bytes, hostile

TRAIN, TEST = examples(20), examples(9)


def save(path: Path, names: str = "x_train y_train x_test y_test", **changes: Any) -> Path:
    """Saves `TRAIN` and `TEST` under four names, some of them changed."""
    arrays: list[Any] = [TRAIN.image, TRAIN.label, TEST.image, TEST.label]
    np.savez(path, **(dict(zip(names.split(), arrays, strict=True)) | changes))
    return path


@pytest.mark.parametrize(
    "names",
    [
        "x_train y_train x_test y_test",
        "train_images train_labels test_images test_labels",
        "images labels test_images test_labels",
        "X_train Y_train X_test Y_test",
    ],
)
def test_arrays_are_found_by_their_names(tmp_path: Path, names: str) -> None:
    loaded = load(save(tmp_path / "a.npz", names))
    check(loaded.train, TRAIN)
    check(loaded.test, TEST)


def test_validation_arrays_are_a_split_of_their_own(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", val_images=TEST.image[:3], val_labels=TEST.label[:3, None])
    check(load(path, test_split="val").test, Examples(TEST.image[:3], TEST.label[:3]))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint16])
def test_whole_numbers_of_other_dtypes_are_pixels(tmp_path: Path, dtype: Any) -> None:
    path = save(
        tmp_path / "a.npz",
        x_train=np.asfortranarray(TRAIN.image[..., 0].astype(dtype)),
        y_train=TRAIN.label.astype(np.float64),
    )
    check(load(path).train, TRAIN)


@pytest.mark.parametrize("chosen", ["", "images.npy"])
def test_npy_files_of_a_folder(tmp_path: Path, chosen: str) -> None:
    folder = tmp_path / "数字, 2 types"
    folder.mkdir()
    np.save(folder / "images.npy", TRAIN.image)
    np.save(folder / "labels.npy", np.array(["b", "a", "ç"])[TRAIN.label])
    loaded = load(folder / chosen, train_split="train+test")
    # The classes are sorted: a, b, ç.
    assert sorted(np.bincount(loaded.train.label)) == [6, 7, 7]
    assert loaded.train.label[0] == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_train": TRAIN.image / 255}, "array x_train, row 0 (it has the pixel 0."),
        ({"x_train": np.where(TRAIN.image > 250, np.nan, TRAIN.image)}, "it has the pixel nan"),
        ({"x_train": TRAIN.image[:19]}, "(x_train has 19 rows, y_train 20): it must have a label"),
        ({"x_train": TRAIN.image.reshape(20, 16)}, "(its shape is 20x16)"),
        ({"x_train": TRAIN.image.reshape(20, 1, 4, 4)}, "(its shape is 20x1x4x4)"),
        ({"x_train": TRAIN.image[:0], "y_train": TRAIN.label[:0]}, "(its shape is 0x4x4x1)"),
        ({"x_train": TRAIN.image.astype(complex)}, "(its dtype is complex128)"),
        ({"x_train": np.array([None] * 20)}, "(it holds Python objects, which can run code)"),
        ({"y_train": TRAIN.label + 0.5}, "array y_train, row 0 (its label is '0.5')"),
        ({"y_train": np.eye(3)[TRAIN.label]}, "array y_train (its shape is 20x3)"),
        ({"y_train": TRAIN.label - 1}, "row 0 (its label is -1): it must be at least 0"),
        ({"y_train": TRAIN.label * 50}, "row 2 (its label is 100): it must be below the number"),
        ({"y_train": TRAIN.label * 2}, "(the class 1 has no training examples"),
        ({"y_train": TRAIN.label * 0, "y_test": TEST.label * 0}, "all examples are of the class 0"),
        ({"y_test": TEST.label + 1}, "row 2 (its label is 3): it must be from 0 to 2"),
        ({"x_test": TEST.image[:, :3]}, "(the images of the test part are 3x4x1): they must be"),
        ({"images": TRAIN.image}, "its arrays x_train and images are both the images of the split"),
    ],
)
def test_invalid_arrays_are_refused(tmp_path: Path, changes: Any, words: str) -> None:
    path = save(tmp_path / "a.npz", **changes)
    message = error_of(path)
    assert words in message
    assert str(path) in message


def test_missing_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=TRAIN.image, other=TRAIN.label)
    assert "(the split train has no labels, but x_train)" in error_of(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", one=TRAIN.image, two=TRAIN.label)
    assert "(it has no such arrays): it must have the arrays" in error_of(tmp_path / "b.npz")


def test_declared_sizes_are_checked_before_memory_is_used(tmp_path: Path) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (10**12, 28, 28)}
    with (tmp_path / "images.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    np.save(tmp_path / "labels.npy", TRAIN.label)
    words = "array images (it declares 784,000,000,000,000 bytes and has 128)"
    assert words in error_of(tmp_path)
    # A member that says that it unpacks to more than its packed bytes can hold.
    path = save(tmp_path / "a.npz")
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\1\2")
    content[directory + 24 : directory + 28] = (2**32 - 2).to_bytes(4, "little")
    path.write_bytes(content)
    assert "it declares 4,294,967,294 bytes in " in error_of(path)


@hostile
@given(content=st.data())
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, content: st.DataObject) -> None:
    intact = save(tmp_path / "intact.npz").read_bytes()
    path = tmp_path / "a.npz"
    path.write_bytes(content.draw(damaged_bytes(intact)))
    check_one_line(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz")
    path.write_bytes(path.read_bytes()[:-100])
    assert "File is not a zip file" in error_of(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", b"no array")
    assert "it is damaged" in error_of(path)

"""Tests of IDX files of any names, sizes and counts."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.formats.making import check, check_one_line, error_of, examples, load
from tests.support.hostile import damaged_bytes, hostile

TRAIN, TEST = examples(20, shape=(5, 7, 1)), examples(9, shape=(5, 7, 1))


def encode(array: Any, kind: int = 8) -> bytes:
    """Encodes an array as IDX; `kind` is the third byte."""
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + bytes(array.tobytes())


def write(folder: Path, name: str, shown: Any = TRAIN) -> Path:
    """Writes images and labels under names like those of EMNIST; returns the path of the images."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(encode(shown.image[..., 0])))
    (folder / f"{name}-labels-idx1-ubyte").write_bytes(encode(shown.label.astype(np.uint8)))
    return path


@pytest.mark.parametrize("test_name", ["emnist-letters-test", "t10k"])
def test_a_folder_of_files(tmp_path: Path, test_name: str) -> None:
    write(tmp_path, "emnist-letters-train")
    write(tmp_path, test_name, TEST)
    (tmp_path / "readme.txt").write_text("Not of this format.")
    loaded = load(tmp_path)
    check(loaded.train, TRAIN)
    check(loaded.test, TEST)


def test_files_chosen_from_several_sets(tmp_path: Path) -> None:
    folder = tmp_path / "手 , written"
    path = write(folder, "letters train")
    write(folder, "digits train", TEST)
    test = write(folder, "digits-test", TEST)
    assert "are both images of the train part" in error_of(folder)
    loaded = load(path, test_path=str(test))
    check(loaded.train, TRAIN)
    check(loaded.test, TEST)
    assert load(path, transpose=True).train.image.shape[1:] == (7, 5, 1)


def test_labels_with_more_columns_are_those_of_qmnist(tmp_path: Path) -> None:
    path = write(tmp_path, "qmnist-train")
    (tmp_path / "qmnist-train-labels-idx1-ubyte").unlink()
    rows = np.arange(160, dtype=">i4").reshape(20, 8)
    rows[:, 0] = TRAIN.label
    (tmp_path / "qmnist-train-labels-idx2-int.gz").write_bytes(gzip.compress(encode(rows, 12)))
    check(load(path, test_path=str(path)).train, TRAIN)


def test_invalid_files_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "train")
    labels = tmp_path / "train-labels-idx1-ubyte"
    assert "(it has 20 values of uint8): it must be a file of images" in error_of(labels)
    intact = labels.read_bytes()
    labels.write_bytes(intact[:-1])
    assert f"cannot use {labels} (it is truncated: 19 of 20 bytes)" in error_of(path)
    labels.write_bytes(intact + b"0")
    assert f"cannot use {labels} (it has data after its 20 bytes)" in error_of(path)
    labels.write_bytes(encode(TRAIN.label[:19].astype(np.uint8)))
    assert "(files of 20 labels beside it: none)" in error_of(path)
    labels.write_bytes(encode((TRAIN.label + 0.5).astype(">f4"), 13))
    assert "row 0 (its label is '0.5')" in error_of(path)
    labels.write_bytes(encode(TRAIN.label.astype(np.uint8) * 100))
    assert f"cannot use {path}, row 2 (its label is 200)" in error_of(path)


def test_a_header_that_declares_too_much_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "train")
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 20, 2**31, 2**31)
    path.write_bytes(gzip.compress(header))
    assert "it declares 92,233,720,368,547,758,080 bytes in" in error_of(path)
    path.write_bytes(gzip.compress(encode(TRAIN.image[..., 0]))[:-9])
    assert f"cannot use {path} (it is truncated" in error_of(path)


@hostile
@given(content=st.data())
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, content: st.DataObject) -> None:
    path = write(tmp_path, "train")
    path.write_bytes(content.draw(damaged_bytes(path.read_bytes())))
    check_one_line(path)

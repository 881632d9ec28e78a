"""Tests of the binary version of CIFAR."""

from pathlib import Path
from typing import Any

import numpy as np

from cnn_jax import data
from tests.data.formats.making import check, error_of, examples, load

TRAIN, TEST = examples(24, shape=(32, 32, 3)), examples(9, shape=(32, 32, 3))


def encode(shown: Any, *, fine: bool = False) -> bytes:
    """Encodes examples as records of CIFAR-10, or with a coarse label before it, of CIFAR-100."""
    planes = shown.image.transpose(0, 3, 1, 2).reshape(len(shown.label), -1)
    labels = [np.full_like(shown.label, 7), shown.label] if fine else [shown.label]
    columns = [label[:, None].astype(np.uint8) for label in labels]
    return bytes(np.concatenate([*columns, planes], axis=1).tobytes())


def write_10(folder: Path) -> Path:
    content = encode(TRAIN)
    (folder / "data_batch_1.bin").write_bytes(content[: 10 * 3073])
    (folder / "data_batch_2.bin").write_bytes(content[10 * 3073 :])
    (folder / "test_batch.bin").write_bytes(encode(TEST))
    return folder


def test_cifar_10(tmp_path: Path) -> None:
    (write_10(tmp_path) / "batches.meta.txt").write_text("airplane\nautomobile\nbird\n\n")
    loaded = load(tmp_path)
    check(loaded.train, TRAIN)
    check(loaded.test, TEST)
    info = data.describe("files", path=str(tmp_path))
    assert info.class_names == ("airplane", "automobile", "bird")
    assert info.source == "CIFAR-10, binary: 24 train, 9 test"


def test_cifar_100_has_fine_labels(tmp_path: Path) -> None:
    (tmp_path / "train.bin").write_bytes(encode(TRAIN, fine=True))
    (tmp_path / "test.bin").write_bytes(encode(TEST, fine=True))
    loaded = load(tmp_path)
    check(loaded.train, TRAIN)
    check(loaded.test, TEST)


def test_one_file(tmp_path: Path) -> None:
    path = write_10(tmp_path) / "test_batch.bin"
    check(load(path, test_path=str(path)).train, TEST)


def test_the_pickled_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02}q\x01")
    words = "data_batch_1 (it is a pickle, which can run code): it must be of the binary version"
    assert words in error_of(tmp_path)
    assert words in error_of(tmp_path / "data_batch_1")
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b")
    words = "(it is an archive, which must be unpacked first)"
    assert words in error_of(tmp_path / "cifar-10-python.tar.gz")


def test_invalid_files_are_refused(tmp_path: Path) -> None:
    path = write_10(tmp_path) / "data_batch_2.bin"
    (tmp_path / "batches.meta.txt").write_text("airplane\nautomobile\n")
    words = "data_batch_1.bin, row 2 (its label is 2): it must be below 2, the number of names"
    assert words in error_of(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert f"cannot use {path} (it has 43,021 bytes): it must have records of" in error_of(tmp_path)
    path.write_bytes(b"")
    assert f"cannot use {path} (it has 0 bytes)" in error_of(tmp_path)

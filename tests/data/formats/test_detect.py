"""Tests that each form of `docs/data.md` is found, and that other files are not."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cnn_jax import data
from tests.data.formats import test_cifar, test_csv_pixels, test_idx_files, test_tables
from tests.data.formats.making import error_of, examples
from tests.data.formats.test_pictures import ALL, lines_of, write_folders, write_names
from tests.support.command_line import ROOT


def write_npz(path: Path) -> None:
    shown = examples(30)
    np.savez(path, x_train=shown.image, y_train=shown.label)


def write_npy(path: Path) -> None:
    shown = examples(30)
    np.save(path, shown.image)
    np.save(path.with_name("labels.npy"), shown.label)


def write_cifar(path: Path) -> None:
    path.mkdir()
    test_cifar.write_10(path)


MAKERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pictures": (write_folders, "folders of pictures"),
    "labels.csv": (
        lambda path: write_names(path.parent, lines_of(ALL.label)),
        "CSV of file names and labels",
    ),
    "train.csv": (
        lambda path: test_csv_pixels.write(path, test_csv_pixels.rows()),
        "CSV of labels and pixels",
    ),
    "digits.npz": (write_npz, "NumPy .npz"),
    "images.npy": (write_npy, "NumPy .npy"),
    "digits.parquet": (
        lambda path: test_tables.write(path, test_tables.table_of(test_tables.TRAIN)),
        "Parquet of pictures",
    ),
    "emnist": (lambda path: test_idx_files.write(path, "train"), "IDX"),
    "cifar": (write_cifar, "CIFAR-10, binary"),
}


def test_every_form_of_the_documentation_is_tested() -> None:
    page = (ROOT / "docs" / "data.md").read_text()
    section = page.partition("## Your own files")[2].partition("\n## ")[0]
    paths = re.findall(r"^\| `([\w.]+)` \|", section, re.MULTILINE)
    assert [path for path in paths if path != "dataset.path"] == list(MAKERS)


@pytest.mark.parametrize("name", MAKERS)
def test_the_form_is_found(tmp_path: Path, name: str) -> None:
    write, source = MAKERS[name]
    write(tmp_path / name)
    info = data.describe("files", path=str(tmp_path / name))
    assert info.source.startswith(f"{source}: ")
    assert info.num_classes == 3


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.doc"
    path.write_bytes(b"notes")
    assert "(its format is not known): it must be one of those in docs/data.md" in error_of(path)

"""Rows of a data set read where they lie, against the same rows of the whole set in memory."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn_jax import data
from cnn_jax.data import Examples, array_record
from cnn_jax.errors import UserError
from tests.data.small_mnist import NUM_TEST, NUM_TRAIN, take_for_originals, write_originals


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Where the small MNIST comes from and goes to, as arguments."""
    write_originals(tmp_path / "originals")
    take_for_originals(monkeypatch)
    return {"data_dir": str(tmp_path / "data"), "manual_dir": str(tmp_path / "originals")}


def in_memory(name: str, **arguments: Any) -> Examples:
    """What a source promises to give access to."""
    dataset = data.load(name, **arguments)
    return Examples(
        np.concatenate([dataset.train.image, dataset.test.image]),
        np.concatenate([dataset.train.label, dataset.test.label]),
    )


def check(source: data.Source, expected: Examples) -> None:
    """Whether all rows, in an order of their own and some of them twice, are the expected ones."""
    assert len(source) == len(expected.label)
    rows = np.random.default_rng(0).permutation(len(source))
    rows = np.concatenate([rows, rows[:3]])
    found = source.read(rows)
    assert found.image.dtype == np.uint8
    assert found.label.dtype == np.int32
    np.testing.assert_array_equal(found.image, expected.image[rows])
    np.testing.assert_array_equal(found.label, expected.label[rows])


SPLITS = [
    {},
    {"train_split": "train[:20]+train[25:]", "test_split": "test[50%:]"},
    {"train_split": "test[3:5]+train[-4:]", "test_split": "train[:5]+test"},
    {"train_split": "train[7:8]", "test_split": "train[7:8]"},
]


@pytest.mark.parametrize("splits", SPLITS)
def test_rows_of_a_prepared_set_are_those_in_memory(
    folders: dict[str, Any], splits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(array_record, "read", None)  # Would raise if called: nothing is read whole.
        source = data.open_source("mnist", **folders, **splits)
    check(source, in_memory("mnist", **folders, **splits))


@pytest.mark.parametrize("splits", SPLITS)
def test_rows_of_digits_are_those_in_memory(splits: dict[str, Any]) -> None:
    source = data.open_source("digits", **splits)
    check(source, in_memory("digits", **splits))


def test_no_rows_are_an_empty_split(folders: dict[str, Any]) -> None:
    found = data.open_source("mnist", **folders).read(np.zeros(0, np.int32))
    assert (found.image.shape, found.label.shape) == ((0, 28, 28, 1), (0,))


@pytest.mark.parametrize("index", [-1, NUM_TRAIN + NUM_TEST])
def test_a_row_that_is_not_there_is_refused(folders: dict[str, Any], index: int) -> None:
    source = data.open_source("mnist", **folders)
    with pytest.raises(IndexError, match=r"is not in 0\.\.39"):
        source.read(np.array([0, index]))


@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_a_source_can_be_pickled_before_and_after_it_is_read(
    folders: dict[str, Any], name: str
) -> None:
    source = data.open_source(name, **folders)
    before = pickle.dumps(source)
    expected = source.read(np.arange(5))
    after = pickle.dumps(source)
    assert len(after) == len(before)  # Neither open files nor pictures travel.
    for copy in (pickle.loads(before), pickle.loads(after)):
        np.testing.assert_array_equal(copy.read(np.arange(5)).image, expected.image)


def test_damaged_records_are_said(folders: dict[str, Any]) -> None:
    source = data.open_source("mnist", **folders)
    (path,) = (Path(folders["data_dir"]) / "mnist" / "3.0.1").glob("mnist-test*")
    path.write_bytes(b"x" * path.stat().st_size)
    source.read(np.arange(NUM_TRAIN))  # Of another file.
    with pytest.raises(UserError, match=r"mnist/3\.0\.1 is damaged and cannot be read"):
        source.read(np.array([NUM_TRAIN]))


def test_labels_outside_the_classes_are_said(
    folders: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = data.open_source("mnist", **folders)
    # The labels are 0..9: of five classes, some of them are outside.
    monkeypatch.setattr(array_record, "describe", lambda _: ((28, 28, 1), tuple("01234")))
    with pytest.raises(UserError, match=r"is damaged .*labels outside 0\.\.4"):
        source.read(np.arange(NUM_TRAIN))


def test_a_set_that_is_not_there_is_refused_as_load_does(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cifar10 is not prepared in"):
        data.open_source("cifar10", data_dir=str(tmp_path))
    with pytest.raises(UserError, match="is no folder"):
        data.open_source("mnist", data_dir=str(tmp_path), manual_dir=str(tmp_path / "none"))

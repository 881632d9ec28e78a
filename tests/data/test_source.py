"""Tests of random access to a data set, against the same examples loaded into memory."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn_jax import data
from cnn_jax.data import Examples, array_record
from cnn_jax.errors import UserError
from tests.data.small_mnist import NUM_TEST, NUM_TRAIN, accept_as_originals, write_originals


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Returns `data_dir` and `manual_dir` of the small MNIST, as keyword arguments."""
    write_originals(tmp_path / "originals")
    accept_as_originals(monkeypatch)
    return {"data_dir": str(tmp_path / "data"), "manual_dir": str(tmp_path / "originals")}


def load_all(name: str, **arguments: Any) -> Examples:
    """Loads training and test examples, concatenated in the order of a source."""
    dataset = data.load(name, **arguments)
    return Examples(
        np.concatenate([dataset.train.image, dataset.test.image]),
        np.concatenate([dataset.train.label, dataset.test.label]),
    )


def check_source(source: data.Source, expected: Examples) -> None:
    """Asserts that a source returns the expected examples, in any order and with repetition."""
    assert len(source) == len(expected.label)
    indices = np.random.default_rng(0).permutation(len(source))
    indices = np.concatenate([indices, indices[:3]])
    examples = source.read(indices)
    assert examples.image.dtype == np.uint8
    assert examples.label.dtype == np.int32
    np.testing.assert_array_equal(examples.image, expected.image[indices])
    np.testing.assert_array_equal(examples.label, expected.label[indices])


SPLITS = [
    {},
    {"train_split": "train[:20]+train[25:]", "test_split": "test[50%:]"},
    {"train_split": "test[3:5]+train[-4:]", "test_split": "train[:5]+test"},
    {"train_split": "train[7:8]", "test_split": "train[7:8]"},
]


@pytest.mark.parametrize("splits", SPLITS)
def test_source_of_a_prepared_data_set_equals_the_loaded_arrays(
    folders: dict[str, Any], splits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            array_record, "read", None
        )  # Raises if it is called: a source must not read a split.
        source = data.open_source("mnist", **folders, **splits)
    check_source(source, load_all("mnist", **folders, **splits))


@pytest.mark.parametrize("splits", SPLITS)
def test_source_of_digits_equals_the_loaded_arrays(splits: dict[str, Any]) -> None:
    source = data.open_source("digits", **splits)
    check_source(source, load_all("digits", **splits))


def test_reading_no_indices_returns_no_examples(folders: dict[str, Any]) -> None:
    examples = data.open_source("mnist", **folders).read(np.zeros(0, np.int32))
    assert (examples.image.shape, examples.label.shape) == ((0, 28, 28, 1), (0,))


@pytest.mark.parametrize("index", [-1, NUM_TRAIN + NUM_TEST])
def test_index_out_of_range_is_refused(folders: dict[str, Any], index: int) -> None:
    source = data.open_source("mnist", **folders)
    with pytest.raises(IndexError, match=r"is not in 0\.\.39"):
        source.read(np.array([0, index]))


@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_source_can_be_pickled_before_and_after_reading(folders: dict[str, Any], name: str) -> None:
    source = data.open_source(name, **folders)
    unread = pickle.dumps(source)
    expected = source.read(np.arange(5))
    read = pickle.dumps(source)
    assert len(read) == len(unread)  # Contains neither open files nor decoded images.
    for copy in (pickle.loads(unread), pickle.loads(read)):
        np.testing.assert_array_equal(copy.read(np.arange(5)).image, expected.image)


def test_damaged_records_are_reported(folders: dict[str, Any]) -> None:
    source = data.open_source("mnist", **folders)
    (path,) = (Path(folders["data_dir"]) / "mnist" / "3.0.1").glob("mnist-test*")
    path.write_bytes(b"x" * path.stat().st_size)
    source.read(np.arange(NUM_TRAIN))  # The training examples are in another file.
    with pytest.raises(
        UserError, match=r"^cannot read .*mnist/3\.0\.1 \(.*\): it must be an intact"
    ):
        source.read(np.array([NUM_TRAIN]))


def test_labels_out_of_range_are_reported(
    folders: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = data.open_source("mnist", **folders)
    # The labels are 0..9, which does not fit a description of five classes.
    monkeypatch.setattr(array_record, "describe", lambda _: ((28, 28, 1), tuple("01234")))
    with pytest.raises(
        UserError, match=r"^cannot read .* \(its labels are not in 0\.\.4\): it must be an intact"
    ):
        source.read(np.arange(NUM_TRAIN))


def test_data_set_that_is_not_prepared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cifar10 is not prepared in"):
        data.open_source("cifar10", data_dir=str(tmp_path))
    with pytest.raises(UserError, match=r"dataset\.manual_dir=.* is invalid: it must be a folder"):
        data.open_source("mnist", data_dir=str(tmp_path), manual_dir=str(tmp_path / "missing"))

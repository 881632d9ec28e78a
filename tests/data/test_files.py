"""Tests of data sets of people's own files: parts, settings, caches, streams, runs."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn_jax import data
from cnn_jax.commands.describe import describe
from cnn_jax.commands.evaluate import evaluate
from cnn_jax.config import schema
from cnn_jax.data import Examples
from cnn_jax.data.formats import csv_pixels
from cnn_jax.errors import UserError
from tests.data.formats.making import check, error_of, examples, load
from tests.support.small import run, small_config

TRAIN, TEST = examples(60, shape=(8, 8, 1)), examples(12, shape=(8, 8, 1))


def save(path: Path, train: Examples = TRAIN, test: Examples | None = TEST) -> Path:
    """Saves examples as `.npz`."""
    arrays: dict[str, Any] = {"x_train": train.image, "y_train": train.label}
    if test:
        arrays |= {"x_test": test.image, "y_test": test.label}
    np.savez(path, **arrays)
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives each test a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


# --- Parts


def test_a_test_part_in_files_of_its_own(tmp_path: Path) -> None:
    train = save(tmp_path / "train.npz", test=None)
    test = save(tmp_path / "test.npz", TEST, None)
    loaded = load(train, test_path=str(test), train_split="train[10:]")
    check(loaded.train, Examples(TRAIN.image[10:], TRAIN.label[10:]))
    check(loaded.test, TEST)


def test_without_a_test_part_each_example_is_in_one_part(tmp_path: Path) -> None:
    loaded = load(save(tmp_path / "a.npz", test=None))
    images = np.concatenate([loaded.train.image, loaded.test.image])
    assert sorted(map(bytes, images)) == sorted(map(bytes, TRAIN.image))
    assert 0 < len(loaded.test.label) < 20


def test_the_same_images_in_both_parts_are_counted(tmp_path: Path) -> None:
    images = np.concatenate([TEST.image, TRAIN.image[:2]])
    test = Examples(images, np.concatenate([TEST.label, TRAIN.label[:2]]))
    loaded = load(save(tmp_path / "a.npz", test=test))
    assert data.count_shared(loaded.train.image, loaded.test.image) == 2


# --- Settings


def test_channels_size_and_transposition(tmp_path: Path) -> None:
    flat = np.full((30, 4, 6, 3), (255, 0, 0), np.uint8)
    flat[:, :, 3:] = (0, 0, 255)
    path = save(tmp_path / "a.npz", Examples(flat, np.arange(30, dtype=np.int32) % 3), None)
    image = load(path, channels=1, transpose=True).train.image
    # Luma of red 0.299 * 255 = 76, of blue 0.114 * 255 = 29; columns became rows.
    assert image.shape[1:] == (6, 4, 1)
    assert (image[:, :3] == 76).all()
    assert (image[:, 3:] == 29).all()
    image = load(path, image_size=(2,)).train.image
    assert image.shape[1:] == (2, 2, 3)
    image = load(path, image_size=(8, 12)).train.image
    assert (image[:, :, 0] == (255, 0, 0)).all()
    assert image.shape[1:] == (8, 12, 3)


def test_grey_images_as_colour(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz")
    image = load(path, channels=3).test.image
    np.testing.assert_array_equal(image, np.repeat(TEST.image, 3, axis=3))


def test_labels_that_start_at_one(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", Examples(TRAIN.image, TRAIN.label + 1), None)
    assert data.describe("files", path=str(path)).class_names == ("1", "2", "3")
    assert set(load(path).train.label) == {0, 1, 2}


def test_names_of_the_classes_from_a_file(tmp_path: Path) -> None:
    path, names = save(tmp_path / "a.npz"), tmp_path / "names.txt"
    names.write_text("cat, big\nイヌ\n bird \n", "utf-8")
    info = data.describe("files", path=str(path), label_names=str(names))
    assert info.class_names == ("cat, big", "イヌ", "bird")
    names.write_text("cat\ndog\n")
    words = "row 2 (its label is 2): it must be below the number of names in dataset.label_names, 2"
    assert words in error_of(path, label_names=str(names))
    names.write_text("cat\ndog\nbird\ncow")
    assert "(the class cow has no training examples)" in error_of(path, label_names=str(names))
    names.write_text("cat\n\nbird")
    assert "(line 2 is empty)" in error_of(path, label_names=str(names))
    names.write_text("cat\ncat\nbird")
    assert "(line 2 has cat again)" in error_of(path, label_names=str(names))
    assert "(No such file" in error_of(path, label_names=str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("dataset.channels", 2, "dataset.channels=2 is invalid: it must be 0, 1 or 3."),
        ("dataset.image_size", (28, 0), "dataset.image_size=28,0 is invalid: it must be 0, or one"),
        ("dataset.image_size", (1, 2, 3), "dataset.image_size=1,2,3 is invalid"),
        ("dataset.path", "", "dataset.path= is invalid: it must be a file or folder"),
        ("dataset.path", "/no such, file", "cannot read dataset.path=/no such, file (No such file"),
        ("dataset.path", "/dev/null", "cannot use dataset.path=/dev/null ("),
    ],
)
def test_invalid_settings_are_refused(key: str, value: Any, words: str) -> None:
    with pytest.raises(UserError) as error:
        schema.check(small_config(**{"dataset.name": "files", key: value}))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("dataset.path", "a.csv", "dataset.path=a.csv is invalid: it must be empty with"),
        ("dataset.image_size", (32,), "dataset.image_size=32 is invalid: it must be 0 with"),
    ],
)
def test_settings_of_files_need_their_name(key: str, value: Any, words: str) -> None:
    with pytest.raises(UserError) as error:
        schema.check(small_config(**{key: value}))
    assert words in str(error.value)
    assert "Use dataset.name=files." in str(error.value)


# --- Caches and streams


def test_a_second_start_parses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    flat = np.concatenate([TRAIN.label[:, None], TRAIN.image.reshape(60, -1)], axis=1)
    np.savetxt(path, flat, "%d", ",")
    first, info = load(path), data.describe("files", path=str(path))
    with monkeypatch.context() as patch:
        patch.setattr(csv_pixels, "read_lines", None)  # Raises if it is called.
        assert data.describe("files", path=str(path)) == info
        check(load(path).test, first.test)
    np.savetxt(path, flat[::-1], "%d", ",")
    os.utime(path, (1, 1))
    check(load(path, train_split="train+test").train, load(path, train_split="train+test").train)
    assert data.describe("files", path=str(path)).digest != info.digest


def test_hashing_shows_its_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"path": str(save(tmp_path / "a.npz")), "test_path": str(save(tmp_path / "b.npz"))}
    info = data.describe("files", **settings, show_progress=True)
    assert "Hashing:   0%|          | 0/2" in capsys.readouterr().err
    assert data.describe("files", **settings, show_progress=True) == info
    data.describe("files", path=settings["path"])
    assert capsys.readouterr().err == ""  # The first is cached, the second has no bar.


def test_a_copy_has_the_same_digest(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(path.read_bytes())
    os.utime(path, (1, 1))
    digests = {
        data.describe("files", path=str(tmp_path / name)).digest for name in ("a.npz", "b.npz")
    }
    assert len(digests) == 1
    other = data.describe("files", path=str(path), transpose=True).digest
    assert other not in digests


def test_a_source_equals_the_loaded_arrays(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", test=None)
    splits: dict[str, Any] = {"train_split": "train[5:]", "test_split": "test+train[:5]"}
    loaded = load(path, **splits)
    source = data.open_source("files", path=str(path), **splits)
    copy = pickle.loads(pickle.dumps(source))
    indices = np.random.default_rng(0).permutation(len(source))
    check(copy.read(indices), loaded.read(indices))


# --- Runs


def settings(path: Path, **changes: Any) -> dict[str, Any]:
    """Returns the changes of `small_config` for a data set of files."""
    dataset = {"dataset.name": "files", "dataset.path": str(path)}
    return dataset | {"dataset.train_split": "train", "dataset.test_split": "test"} | changes


def test_a_run_is_printed_resumed_and_evaluated(tmp_path: Path) -> None:
    path, workdir, out = save(tmp_path / "a.npz"), tmp_path / "w", io.StringIO()
    straight = run(None, out=out, **settings(path, num_epochs=2))
    assert out.getvalue().startswith("Data: NumPy .npz: 60 train, 12 test\n")
    run(workdir, **settings(path, num_epochs=1))
    moved = path.rename(tmp_path / "moved.npz")
    resumed = run(workdir, **settings(moved, num_epochs=2))
    assert resumed.params_sha256 == straight.params_sha256
    config = small_config(**settings(moved))
    report = evaluate(str(workdir), config, out=io.StringIO(), err=io.StringIO())
    assert report["test_accuracy"] == resumed.test_accuracy
    save(moved, Examples(255 - TRAIN.image, TRAIN.label))
    with pytest.raises(UserError, match=r"another run: the data had the SHA-256 \w{12} and have"):
        run(workdir, **settings(moved, num_epochs=3))


def test_a_stream_gives_the_same_bits(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", test=None)
    streamed = run(None, **settings(path, **{"dataset.feed": "stream"}))
    assert streamed.params_sha256 == run(None, **settings(path)).params_sha256


def test_warnings_of_a_run(tmp_path: Path) -> None:
    label = np.where(np.arange(60) < 5, np.arange(60) % 3, 0).astype(np.int32)  # 56, 2 and 2.
    test = Examples(TRAIN.image[:3], label[:3])
    path, err = save(tmp_path / "a.npz", Examples(TRAIN.image, label), test), io.StringIO()
    run(None, err=err, **settings(path, num_epochs=1))
    first, second = err.getvalue().splitlines()
    words = "the class 0 has 57 training examples, 2 only 1: a model may prefer"
    assert first.startswith(f"warning: {words}")
    assert second.startswith("warning: 3 test images of 3 are also in the training part")


def test_describe_names_the_files(tmp_path: Path) -> None:
    line, table = describe(small_config(**settings(save(tmp_path / "a.npz"))))
    assert line == "Data: NumPy .npz: 60 train, 12 test\n"
    assert "8x8x1" in table

"""Tests of preparing and loading data sets, with small files in place of the originals."""

import gzip
import http.server
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds
from PIL import Image

from cnn_jax import data
from cnn_jax.data import array_record, digits, mnist, prepared
from cnn_jax.data.originals import FILE_NAMES, _read_split, find_originals, read_originals
from cnn_jax.errors import UserError
from tests.data.prepare import prepare
from tests.data.small_mnist import (
    NUM_TEST,
    NUM_TRAIN,
    check_small_mnist,
    encode_idx,
    sorted_examples,
)


def message_of(load: Any, **changes: Any) -> str:
    """Returns the message of the UserError that `load` raises."""
    with pytest.raises(UserError) as error:
        load(**changes)
    return str(error.value)


# --- Preparation


def test_originals_are_prepared_and_read(load: Any, tmp_path: Path) -> None:
    check_small_mnist(load())
    folder = tmp_path / "data" / "mnist" / "3.0.1"
    info = tfds.builder_from_directory(folder).info
    assert (info.name, info.file_format.value) == ("mnist", "array_record")


def test_unpacked_and_recompressed_files_are_accepted(load: Any, originals: Path) -> None:
    first, second, *_ = sorted(originals.iterdir())
    first.with_suffix("").write_bytes(gzip.decompress(first.read_bytes()))
    first.unlink()
    second.write_bytes(gzip.compress(gzip.decompress(second.read_bytes()), 1, mtime=7))
    check_small_mnist(load())


def test_every_preparation_gives_the_same_order(load: Any, tmp_path: Path) -> None:
    first, second = load(), load(data_dir=str(tmp_path / "other"))
    np.testing.assert_array_equal(first.train.image, second.train.image)


def test_missing_original_is_reported(load: Any, originals: Path) -> None:
    (originals / "t10k-labels-idx1-ubyte.gz").unlink()
    words = "it must hold all four original files, and lacks t10k-labels-idx1-ubyte.gz (or "
    assert f"dataset.manual_dir={originals} is invalid: {words}" in message_of(load)


def test_damaged_original_is_reported_and_no_folder_is_created(
    load: Any, originals: Path, tmp_path: Path
) -> None:
    path = originals / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    assert f"cannot read {path} (it is truncated: " in message_of(load)
    assert not (tmp_path / "data").exists()


def test_label_out_of_range_is_reported(load: Any, originals: Path) -> None:
    path = originals / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(encode_idx(np.full(NUM_TEST, 10, np.uint8))))
    words = "(it has the label 10): its labels must be in 0..9."
    assert f"cannot use {path} {words}" in message_of(load)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"])
def test_files_of_another_data_set_are_refused(load: Any, originals: Path, name: str) -> None:
    path = originals / name
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1  # Still a valid pixel, or a label in 0..9.
    path.write_bytes(gzip.compress(bytes(content)))
    words = "(its contents are not those of mnist): it must be the original file."
    assert f"cannot use {path} {words}" in message_of(load)


def test_kmnist_is_verified_by_its_equal_class_sizes(originals: Path) -> None:
    paths = find_originals(originals)
    assert set(read_originals("kmnist", paths)) == {"train", "test"}
    unequal = np.zeros(NUM_TEST, np.uint8)  # All examples in one class.
    paths["t10k-labels-idx1-ubyte"].write_bytes(gzip.compress(encode_idx(unequal)))
    with pytest.raises(UserError, match=r"t10k-labels.*not those of kmnist"):
        read_originals("kmnist", paths)


def test_interrupted_preparation_is_not_used(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Image.Image.save
    calls = iter(range(NUM_TRAIN))

    def save(*args: Any, **kwargs: Any) -> None:
        if next(calls) == 20:
            raise KeyboardInterrupt
        encode(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", save)
        with pytest.raises(KeyboardInterrupt):
            load()
    # TFDS cannot delete this folder if its process is killed.
    incomplete = tmp_path / "data" / "mnist" / "incomplete.ABCDEF_3.0.1"
    incomplete.mkdir(parents=True)
    (incomplete / "dataset_info.json").write_text("{}")
    assert prepared.find(tmp_path / "data", "mnist") is None
    check_small_mnist(load())


def test_of_two_concurrent_preparations_the_first_one_remains(
    load: Any, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Image.Image.save
    started: list[bool] = []

    def save(*args: Any, **kwargs: Any) -> None:
        if not started:  # Runs a second preparation during the first image of the first one.
            started.append(True)
            mnist.prepare("mnist", tmp_path / "data", originals, show_progress=False)
        encode(*args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", save)
    check_small_mnist(load())
    assert [p.name for p in (tmp_path / "data" / "mnist").iterdir()] == ["3.0.1"]


def test_data_dir_that_cannot_be_written_is_reported(load: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = message_of(load, data_dir=str(tmp_path / "file"))
    assert message.startswith(f"cannot prepare mnist in {tmp_path / 'file'} (")
    assert "dataset.data_dir must be writable" in message


def test_alternatives_are_reported_at_once_without_network(load: Any) -> None:
    started = time.monotonic()
    message = message_of(load, manual_dir="")
    assert time.monotonic() - started < 5
    for alternative in ("network", "manual_dir=", "TFDS_DATA_DIR", "configs/digits.py"):
        assert alternative in message


def test_network_that_does_not_answer_times_out(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(*_: Any, **__: Any) -> None:
        released.wait(60)
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "head", hang)
    monkeypatch.setattr(mnist, "_PROBE_SECONDS", 0.1)
    message = message_of(load, manual_dir="")
    assert re.match(r"cannot download mnist from https://\S+ \(no answer\): ", message)
    released.set()


@pytest.fixture
def server(originals: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serves the small files over HTTP and points TFDS's builder to them; yields the URL."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(originals))

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(tfds.image_classification.MNIST, "URL", url)
        yield url
        server.shutdown()


@pytest.mark.usefixtures("server")
def test_originals_are_downloaded(load: Any) -> None:
    check_small_mnist(load(manual_dir=""))


@pytest.mark.usefixtures("server")
def test_originals_are_downloaded_without_array_record(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "array_record", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    check_small_mnist(load(manual_dir=""))
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["downloads"]


@pytest.mark.usefixtures("server")
def test_downloads_are_verified(load: Any, originals: Path) -> None:
    path = originals / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(encode_idx(np.zeros((NUM_TEST, 28, 28), np.uint8))))
    assert "contents are not those of mnist" in message_of(load, manual_dir="")


def test_download_with_a_wrong_checksum_is_reported(
    load: Any, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorflow_datasets.core.download import checksums

    known = checksums.get_all_url_infos()
    wrong = next(iter(known.values()))  # The checksum of another file.
    urls = {f"{server}{name}.gz" for names in FILE_NAMES.values() for name in names}
    monkeypatch.setattr(checksums, "get_all_url_infos", lambda: known | dict.fromkeys(urls, wrong))
    message = message_of(load, manual_dir="")
    assert message.startswith(f"cannot download mnist from {server} (")
    assert "wrong checksum" in message


def test_http_error_is_reported(load: Any, server: str, originals: Path) -> None:
    (originals / "train-images-idx3-ubyte.gz").unlink()
    assert f"cannot download mnist from {server} (HTTP status 404): " in message_of(
        load, manual_dir=""
    )


def test_server_that_lacks_a_file_is_reported(load: Any, originals: Path, server: str) -> None:
    (originals / "t10k-images-idx3-ubyte.gz").unlink()
    assert f"cannot download mnist from {server} (" in message_of(load, manual_dir="")


# --- Folders that TFDS has prepared


def test_prepared_image_classification_data_set_is_loaded(tmp_path: Path) -> None:
    prepare(tmp_path)
    info = data.describe("flags", data_dir=str(tmp_path))
    assert (info.image_shape, info.num_classes, info.num_train) == ((5, 4, 3), 2, 4)
    dataset = data.load("flags", data_dir=str(tmp_path))
    assert dataset.train.image.shape == (4, 5, 4, 3)
    # All pixels of an image equal its index 0..3, and the label is 1 if that is odd.
    np.testing.assert_array_equal(dataset.train.label, dataset.train.image[:, 0, 0, 0] % 2)
    assert sorted(dataset.train.image[:, 4, 3, 2].tolist()) == [0, 1, 2, 3]


def test_tfds_is_required_until_both_splits_are_cached(tmp_path: Path) -> None:
    assert data.needs_tfds("mnist", data_dir=str(tmp_path))  # Not prepared yet.
    prepare(tmp_path)
    assert data.needs_tfds("flags", data_dir=str(tmp_path))
    data.load("flags", data_dir=str(tmp_path), test_split="train")
    assert data.needs_tfds("flags", data_dir=str(tmp_path))  # The test split is not cached.
    data.load("flags", data_dir=str(tmp_path))
    assert not data.needs_tfds("flags", data_dir=str(tmp_path))
    assert not data.needs_tfds("digits")


def test_newest_version_is_used_unless_the_name_has_one(tmp_path: Path) -> None:
    prepare(tmp_path, version="1.9.0")
    prepare(tmp_path, version="1.10.0", sizes=(3, 2))
    assert data.describe("flags", data_dir=str(tmp_path)).num_train == 3
    assert data.describe("flags:1.9.0", data_dir=str(tmp_path)).num_train == 4
    with pytest.raises(UserError, match=r"flags:2\.0\.0 is not prepared"):
        data.describe("flags:2.0.0", data_dir=str(tmp_path))


def test_data_dir_defaults_to_tfds_data_dir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert data.describe("flags").num_classes == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": (None, None, 3)}, "must have uint8 images of one size"),
        ({"shape": (5, 4, 4)}, "must have uint8 images of one size with 1 or 3 channels"),
        ({"label": None}, "must have the features `image` and `label`"),
    ],
)
def test_data_set_without_equal_images_or_labels_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    prepare(tmp_path, **changes)
    with pytest.raises(UserError, match=words):
        data.describe("flags", data_dir=str(tmp_path))


@pytest.mark.parametrize("name", ["../etc", "a b", "flags:1", "/tmp", "flags/", "a" * 300])
def test_invalid_name_is_refused(name: str) -> None:
    with pytest.raises(
        UserError,
        match=r"^dataset\.name=.* is invalid: it must be NAME, NAME/CONFIG or NAME:1\.2\.3",
    ):
        data.describe(name)


def test_unknown_data_set_is_reported_with_the_available_ones(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"cifar10 is not prepared in .*: it must be one of mnist.*digits"
    ):
        data.describe("cifar10", data_dir=str(tmp_path))


def test_prepared_mnist_of_another_size_is_used_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path, name="mnist", shape=(28, 28, 1), sizes=(4, 2))
    info = data.describe("mnist", data_dir=str(tmp_path))
    assert (info.num_train, info.num_test) == (4, 2)
    assert len(data.load("mnist", data_dir=str(tmp_path)).train.label) == 4


@pytest.mark.parametrize("content", ["{}", '{"splits": [{"name": "train"}]}'])
def test_damaged_description_is_reported(tmp_path: Path, content: str) -> None:
    prepare(tmp_path)
    content = content.replace("{", '{"fileFormat": "array_record", ', 1).replace(", }", "}")
    (tmp_path / "flags" / "1.0.0" / "dataset_info.json").write_text(content)
    with pytest.raises(UserError, match=r"^cannot read .*flags"):
        data.describe("flags", data_dir=str(tmp_path))


def test_damaged_records_are_reported(tmp_path: Path) -> None:
    prepare(tmp_path)
    (path,) = (tmp_path / "flags" / "1.0.0").glob("flags-train*")
    for content in (b"", path.read_bytes()[:-40], b"x" * path.stat().st_size):
        path.write_bytes(content)
        with pytest.raises(
            UserError, match=r"^cannot read .*flags/1\.0\.0 \(.*\): it must be an intact data set"
        ):
            data.load("flags", data_dir=str(tmp_path))
    path.unlink()
    with pytest.raises(
        UserError, match=r"^cannot read .*flags/1\.0\.0 \(.*\): it must be an intact data set"
    ):
        data.load("flags", data_dir=str(tmp_path))


# --- The cache


def test_second_load_reads_the_cache(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load()
    monkeypatch.setattr(array_record, "read", None)  # Raises if it is called.
    second = load()
    np.testing.assert_array_equal(first.train.image, second.train.image)
    np.testing.assert_array_equal(first.test.label, second.test.label)


def test_cache_of_an_earlier_preparation_is_rebuilt(tmp_path: Path) -> None:
    prepare(tmp_path)
    data.load("flags", data_dir=str(tmp_path))
    for path in (tmp_path / "flags" / "1.0.0").iterdir():
        path.unlink()
    (tmp_path / "flags" / "1.0.0").rmdir()
    prepare(tmp_path, sizes=(6, 2))
    assert len(data.load("flags", data_dir=str(tmp_path)).train.label) == 6


def test_damaged_cache_is_rebuilt(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    expected = load()
    for path in (tmp_path / "cache" / "cnn_jax" / "data").iterdir():
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    np.testing.assert_array_equal(load().test.label, expected.test.label)


# --- Splits


@pytest.mark.parametrize(
    ("spec", "indices"),
    [
        ("train", range(NUM_TRAIN)),
        ("train[:20]", range(20)),
        ("train[20:]", range(20, NUM_TRAIN)),
        ("train[50%:]", range(15, NUM_TRAIN)),
        ("train[-3:]", range(27, NUM_TRAIN)),
        ("train[:2]+train[4:6]", (0, 1, 4, 5)),
        ("train[20:10]+train[:5]", range(5)),
    ],
)
def test_splits_follow_the_syntax_of_tfds(load: Any, spec: str, indices: Any) -> None:
    full, part = load(), load(train_split=spec)
    np.testing.assert_array_equal(part.train.image, full.train.image[list(indices)])
    np.testing.assert_array_equal(part.train.label, full.train.label[list(indices)])


def test_split_all_joins_training_and_test_examples(load: Any) -> None:
    assert len(load(train_split="all").train.label) == NUM_TRAIN + NUM_TEST


@pytest.mark.parametrize("spec", ["trian", "train[", "train[1:2:3]", "train[a:b]", "validation"])
def test_invalid_split_is_refused(spec: str) -> None:
    with pytest.raises(
        UserError, match=r"dataset\.test_split=.* is invalid: it must be one of train, test"
    ):
        data.describe("mnist", test_split=spec)


@pytest.mark.parametrize("spec", ["train[:0]", "train[60000:]", "train[20:10]"])
def test_empty_split_is_refused(spec: str) -> None:
    with pytest.raises(UserError, match="is invalid: it must contain at least one example"):
        data.describe("mnist", train_split=spec)


# --- Real data


def test_digits_have_the_shape_and_framing_of_mnist() -> None:
    dataset = data.load("digits")
    assert (len(dataset.train.label), len(dataset.test.label)) == (1797 - 360, 360)
    image = dataset.train.image
    assert image.shape[1:] == (28, 28, 1)
    assert image.dtype == np.uint8
    assert int(image.min()) == 0
    assert int(image.max()) == 255
    # A margin of 4 pixels on each side, like that of MNIST, and ink inside it in every image.
    assert not image[:, :4].any()
    assert not image[:, :, -4:].any()
    assert image.reshape(len(image), -1).max(1).min() > 100
    assert sorted(set(dataset.train.label.tolist())) == list(range(10))


def test_digits_are_in_the_order_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    dataset = data.load("digits")
    labels = np.concatenate([dataset.train.label, dataset.test.label])
    np.testing.assert_array_equal(labels, load_digits().target)
    # Resized back to 8x8, an image equals the original up to interpolation.
    resized = np.asarray(Image.fromarray(dataset.test.image[0, 4:-4, 4:-4, 0]).resize((8, 8)))
    original = load_digits().images[1437] * 255 / 16
    assert np.corrcoef(resized.ravel(), original.ravel())[0, 1] > 0.95


def test_description_of_digits_matches_the_arrays() -> None:
    info, dataset = data.describe("digits"), data.load("digits")
    assert dataset.train.image.shape == (info.num_train, *info.image_shape)
    assert len(digits.CLASS_NAMES) == info.num_classes == dataset.train.label.max() + 1


@pytest.mark.real_data
def test_real_mnist_has_its_published_class_sizes(mnist_files: Path) -> None:
    dataset = data.load("mnist", manual_dir=str(mnist_files))
    # Published number of examples of each class (LeCun et al.), and the first labels in the order
    # of TFDS.
    assert np.bincount(dataset.train.label).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert dataset.test.label[:5].tolist() == [2, 0, 4, 8, 7]
    paths = find_originals(mnist_files)
    images, labels = _read_split("mnist", "test", *(paths[n] for n in FILE_NAMES["test"]))
    assert sorted_examples(dataset.test.image, dataset.test.label) == sorted_examples(
        images, labels
    )
    started = time.perf_counter()
    cached = data.load("mnist")
    assert len(cached.train.label) == 60_000
    assert time.perf_counter() - started < 3  # Decoding would take longer.

"""Data sets from start to end, on tiny stand-ins for the originals and on the real ones."""

import gzip
import http.server
import io
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
from cnn_jax.data import Examples, array_record, digits, mnist
from cnn_jax.errors import UserError
from cnn_jax.io import files
from tests.data.small_mnist import (
    NUM_TEST,
    NUM_TRAIN,
    check_loaded,
    idx,
    sorted_rows,
    take_for_originals,
    write_originals,
)


@pytest.fixture
def originals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the four small files."""
    write_originals(tmp_path / "originals")
    take_for_originals(monkeypatch)
    return tmp_path / "originals"


@pytest.fixture
def load(originals: Path, tmp_path: Path) -> Any:
    """`data.load` of the small MNIST, from and into folders of the test."""

    def load(**changes: Any) -> data.Dataset:
        folders = {"data_dir": str(tmp_path / "data"), "manual_dir": str(originals)}
        return data.load("mnist", **(folders | changes))

    return load


def message_of(load: Any, **changes: Any) -> str:
    with pytest.raises(UserError) as error:
        load(**changes)
    return str(error.value)


# --- preparing


def test_originals_are_prepared_and_read(load: Any, tmp_path: Path) -> None:
    check_loaded(load())
    folder = tmp_path / "data" / "mnist" / "3.0.1"
    info = tfds.builder_from_directory(folder).info
    assert (info.name, info.file_format.value) == ("mnist", "array_record")


def test_unpacked_and_differently_wrapped_files_are_taken(load: Any, originals: Path) -> None:
    first, second, *_ = sorted(originals.iterdir())
    first.with_suffix("").write_bytes(gzip.decompress(first.read_bytes()))
    first.unlink()
    second.write_bytes(gzip.compress(gzip.decompress(second.read_bytes()), 1, mtime=7))
    check_loaded(load())


def test_the_order_is_the_same_whenever_it_is_prepared(load: Any, tmp_path: Path) -> None:
    once, again = load(), load(data_dir=str(tmp_path / "other"))
    np.testing.assert_array_equal(once.train.image, again.train.image)


def test_a_missing_file_is_named(load: Any, originals: Path) -> None:
    (originals / "t10k-labels-idx1-ubyte.gz").unlink()
    assert f"{originals} holds no t10k-labels-idx1-ubyte.gz and no" in message_of(load)


def test_damaged_files_are_named_and_leave_nothing(
    load: Any, originals: Path, tmp_path: Path
) -> None:
    path = originals / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{path} is truncated" in message_of(load)
    assert not (tmp_path / "data").exists()


def test_a_label_out_of_range_is_named(load: Any, originals: Path) -> None:
    path = originals / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.full(NUM_TEST, 10, np.uint8))))
    assert f"{path} has the label 10: allowed is 0..9" in message_of(load)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"])
def test_contents_of_another_data_set_are_refused(load: Any, originals: Path, name: str) -> None:
    path = originals / name
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1  # Still a pixel, or a label in 0..9: well formed.
    path.write_bytes(gzip.compress(bytes(content)))
    assert f"{path} is well formed, but its contents are not those of mnist" in message_of(load)


def test_kmnist_is_told_by_its_equal_classes(originals: Path) -> None:
    paths = mnist.find_originals(originals)
    assert set(mnist.read_originals("kmnist", paths)) == {"train", "test"}
    uneven = np.zeros(NUM_TEST, np.uint8)
    paths["t10k-labels-idx1-ubyte"].write_bytes(gzip.compress(idx(uneven)))
    with pytest.raises(UserError, match=r"t10k-labels.*not those of kmnist"):
        mnist.read_originals("kmnist", paths)


def test_what_a_cut_off_preparation_left_is_not_trusted(
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
    # A process that is killed cannot even tidy up: this is what TFDS would leave then.
    left = tmp_path / "data" / "mnist" / "incomplete.ABCDEF_3.0.1"
    left.mkdir(parents=True)
    (left / "dataset_info.json").write_text("{}")
    assert array_record.find(tmp_path / "data", "mnist") is None
    check_loaded(load())


def test_of_two_preparations_at_once_the_first_wins(
    load: Any, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Image.Image.save
    started: list[bool] = []

    def save(*args: Any, **kwargs: Any) -> None:
        if not started:  # While the outer one is at its first picture, the other one runs.
            started.append(True)
            mnist.prepare("mnist", tmp_path / "data", originals, show_progress=False)
        encode(*args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", save)
    check_loaded(load())
    assert [p.name for p in (tmp_path / "data" / "mnist").iterdir()] == ["3.0.1"]


def test_a_data_dir_that_cannot_be_written_is_said(load: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "mnist cannot be prepared in" in message_of(load, data_dir=str(tmp_path / "file"))


def test_without_network_the_ways_out_are_named_at_once(load: Any) -> None:
    started = time.monotonic()
    message = message_of(load, manual_dir="")
    assert time.monotonic() - started < 5
    for way_out in ("network", "manual_dir=", "TFDS_DATA_DIR", "configs/digits.py"):
        assert way_out in message


def test_a_network_that_does_not_answer_is_not_waited_for(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    forever = threading.Event()

    def hang(*_: Any, **__: Any) -> None:
        forever.wait(60)
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "head", hang)
    monkeypatch.setattr(mnist, "_PROBE_SECONDS", 0.1)
    assert "cannot be downloaded from https://" in message_of(load, manual_dir="")
    forever.set()


@pytest.fixture
def server(originals: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serves the small files on this machine, where TFDS's builder looks for the originals."""

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
def test_with_a_network_the_originals_are_downloaded(load: Any) -> None:
    check_loaded(load(manual_dir=""))


@pytest.mark.usefixtures("server")
def test_downloads_are_verified(load: Any, originals: Path) -> None:
    path = originals / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros((NUM_TEST, 28, 28), np.uint8))))
    assert "contents are not those of mnist" in message_of(load, manual_dir="")


def test_a_download_with_a_wrong_checksum_is_said(
    load: Any, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorflow_datasets.core.download import checksums

    known = checksums.get_all_url_infos()
    some = next(iter(known.values()))  # Of another file: TFDS will find that it does not match.
    urls = {f"{server}{name}.gz" for names in mnist.FILE_NAMES.values() for name in names}
    monkeypatch.setattr(checksums, "get_all_url_infos", lambda: known | dict.fromkeys(urls, some))
    message = message_of(load, manual_dir="")
    assert f"cannot be downloaded from {server}" in message
    assert "wrong checksum" in message


def test_a_server_that_is_out_of_order_is_not_waited_for(
    load: Any, server: str, originals: Path
) -> None:
    (originals / "train-images-idx3-ubyte.gz").unlink()
    assert f"downloaded from {server} (HTTP status 404)" in message_of(load, manual_dir="")


def test_a_server_without_the_files_is_named(load: Any, originals: Path, server: str) -> None:
    (originals / "t10k-images-idx3-ubyte.gz").unlink()
    assert f"cannot be downloaded from {server}" in message_of(load, manual_dir="")


# --- reading what TFDS has prepared


def prepare(data_dir: Path, *, name: str = "flags", **changes: Any) -> None:
    """Prepares six colour pictures of 5x4 pixels in two classes."""
    options: dict[str, Any] = {"shape": (5, 4, 3), "file_format": "array_record", "sizes": (4, 2)}
    options |= changes

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg, misc]
        VERSION = tfds.core.Version(options.get("version", "1.0.0"))

        def _info(self) -> Any:
            features = {"image": tfds.features.Image(shape=options["shape"])}
            if "label" not in changes:
                features["label"] = tfds.features.ClassLabel(names=["even", "odd"])
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, _: Any) -> Any:
            train, test = options["sizes"]
            return {"train": self._generate(range(train)), "test": self._generate(range(test))}

        def _generate_examples(self) -> Any:
            raise AssertionError

        def _generate(self, numbers: range) -> Iterator[Any]:
            height, width, channels = (size or 3 for size in options["shape"])
            for number in numbers:
                png = io.BytesIO()
                pixels = np.full((height, width, channels), number, np.uint8)
                Image.fromarray(pixels.squeeze()).save(png, "PNG")
                png.seek(0)
                example = {"image": png, "label": number % 2}
                yield number, {key: example[key] for key in self.info.features}

    Builder.name = name
    builder = Builder(data_dir=data_dir, file_format=options["file_format"])
    builder.download_and_prepare()


def test_any_prepared_image_classification_set_can_be_read(tmp_path: Path) -> None:
    prepare(tmp_path)
    info = data.describe("flags", data_dir=str(tmp_path))
    assert (info.image_shape, info.num_classes, info.num_train) == ((5, 4, 3), 2, 4)
    dataset = data.load("flags", data_dir=str(tmp_path))
    assert dataset.train.image.shape == (4, 5, 4, 3)
    # Each picture has the one value 0..3, and the label says whether it is odd.
    np.testing.assert_array_equal(dataset.train.label, dataset.train.image[:, 0, 0, 0] % 2)
    assert sorted(dataset.train.image[:, 4, 3, 2].tolist()) == [0, 1, 2, 3]


def test_tfds_is_needed_until_the_arrays_are_cached(tmp_path: Path) -> None:
    assert data.needs_tfds("mnist", data_dir=str(tmp_path))  # It is to be prepared.
    prepare(tmp_path)
    assert data.needs_tfds("flags", data_dir=str(tmp_path))
    data.load("flags", data_dir=str(tmp_path), test_split="train")
    assert data.needs_tfds("flags", data_dir=str(tmp_path))  # Its test split is not cached.
    data.load("flags", data_dir=str(tmp_path))
    assert not data.needs_tfds("flags", data_dir=str(tmp_path))
    assert not data.needs_tfds("digits")


def test_the_newest_version_is_taken_unless_one_is_named(tmp_path: Path) -> None:
    prepare(tmp_path, version="1.9.0")
    prepare(tmp_path, version="1.10.0", sizes=(3, 2))
    assert data.describe("flags", data_dir=str(tmp_path)).num_train == 3
    assert data.describe("flags:1.9.0", data_dir=str(tmp_path)).num_train == 4
    with pytest.raises(UserError, match=r"flags:2\.0\.0 is not prepared"):
        data.describe("flags:2.0.0", data_dir=str(tmp_path))


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert data.describe("flags").num_classes == 2


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"shape": (None, None, 3)}, "images of one size"),
        ({"shape": (5, 4, 4)}, "1 or 3 channels"),
        ({"label": None}, "has no class label"),
    ],
)
def test_what_is_no_set_of_equal_images_with_labels_is_refused(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    prepare(tmp_path, **changes)
    with pytest.raises(UserError, match=problem):
        data.describe("flags", data_dir=str(tmp_path))


def test_a_format_that_needs_tensorflow_is_refused(tmp_path: Path) -> None:
    prepare(tmp_path)
    info = tmp_path / "flags" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match="is prepared as tfrecord"):
        data.load("flags", data_dir=str(tmp_path))


@pytest.mark.parametrize("name", ["../etc", "a b", "flags:1", "/tmp", "flags/", "a" * 300])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="is not a name"):
        data.describe(name)


def test_a_set_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cifar10 is not prepared in .*mnist.*digits"):
        data.describe("cifar10", data_dir=str(tmp_path))


def test_a_part_of_mnist_that_tfds_prepared_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path, name="mnist", shape=(28, 28, 1), sizes=(4, 2))
    info = data.describe("mnist", data_dir=str(tmp_path))
    assert (info.num_train, info.num_test) == (4, 2)
    assert len(data.load("mnist", data_dir=str(tmp_path)).train.label) == 4


@pytest.mark.parametrize("content", ["{", "{}", '{"splits": [{"name": "train"}]}', "[]"])
def test_a_damaged_description_is_said(tmp_path: Path, content: str) -> None:
    prepare(tmp_path)
    content = content.replace("{", '{"fileFormat": "array_record", ', 1).replace(", }", "}")
    (tmp_path / "flags" / "1.0.0" / "dataset_info.json").write_text(content)
    with pytest.raises(UserError, match=r"flags"):
        data.describe("flags", data_dir=str(tmp_path))


def test_damaged_records_are_said(tmp_path: Path) -> None:
    prepare(tmp_path)
    (path,) = (tmp_path / "flags" / "1.0.0").glob("flags-train*")
    for content in (b"", path.read_bytes()[:-40], b"x" * path.stat().st_size):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"flags/1\.0\.0 is damaged"):
            data.load("flags", data_dir=str(tmp_path))
    path.unlink()
    with pytest.raises(UserError, match=r"flags/1\.0\.0 is damaged"):
        data.load("flags", data_dir=str(tmp_path))


# --- the cache


def test_the_second_start_reads_the_cache(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load()
    monkeypatch.setattr(array_record, "read", None)  # Would raise if called.
    second = load()
    np.testing.assert_array_equal(first.train.image, second.train.image)
    np.testing.assert_array_equal(first.test.label, second.test.label)


def test_a_cache_older_than_the_prepared_folder_is_rebuilt(tmp_path: Path) -> None:
    prepare(tmp_path)
    data.load("flags", data_dir=str(tmp_path))
    for path in (tmp_path / "flags" / "1.0.0").iterdir():
        path.unlink()
    (tmp_path / "flags" / "1.0.0").rmdir()
    prepare(tmp_path, sizes=(6, 2))
    assert len(data.load("flags", data_dir=str(tmp_path)).train.label) == 6


def test_a_damaged_cache_is_rebuilt(load: Any) -> None:
    expected = load()
    for path in (files.cache_folder() / "data").iterdir():
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    np.testing.assert_array_equal(load().test.label, expected.test.label)


# --- splits


@pytest.mark.parametrize(
    ("spec", "rows"),
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
def test_splits_in_the_syntax_of_tfds(load: Any, spec: str, rows: Any) -> None:
    whole, part = load(), load(train_split=spec)
    np.testing.assert_array_equal(part.train.image, whole.train.image[list(rows)])
    np.testing.assert_array_equal(part.train.label, whole.train.label[list(rows)])


def test_splits_can_be_joined(load: Any) -> None:
    assert len(load(train_split="all").train.label) == NUM_TRAIN + NUM_TEST


@pytest.mark.parametrize("spec", ["trian", "train[", "train[1:2:3]", "train[a:b]", "validation"])
def test_what_is_no_split_is_refused(spec: str) -> None:
    with pytest.raises(UserError, match=r"dataset\.test_split=.* is not a split: allowed are"):
        data.describe("mnist", test_split=spec)


@pytest.mark.parametrize("spec", ["train[:0]", "train[60000:]", "train[20:10]"])
def test_an_empty_split_is_refused(spec: str) -> None:
    with pytest.raises(UserError, match="holds no example"):
        data.describe("mnist", train_split=spec)


# --- real data


def test_digits_are_brought_to_the_form_of_mnist() -> None:
    dataset = data.load("digits")
    assert (len(dataset.train.label), len(dataset.test.label)) == (1797 - 360, 360)
    image = dataset.train.image
    assert image.shape[1:] == (28, 28, 1)
    assert image.dtype == np.uint8
    assert int(image.min()) == 0
    assert int(image.max()) == 255
    # A margin of 4 on each side, as MNIST has; inside it ink in every picture.
    assert not image[:, :4].any()
    assert not image[:, :, -4:].any()
    assert image.reshape(len(image), -1).max(1).min() > 100
    assert sorted(set(dataset.train.label.tolist())) == list(range(10))


def test_digits_keep_the_order_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    dataset = data.load("digits")
    both = np.concatenate([dataset.train.label, dataset.test.label])
    np.testing.assert_array_equal(both, load_digits().target)
    # Shrunk back to 8x8 the pictures are the originals, but for interpolation.
    small = np.asarray(Image.fromarray(dataset.test.image[0, 4:-4, 4:-4, 0]).resize((8, 8)))
    original = load_digits().images[1437] * 255 / 16
    assert np.corrcoef(small.ravel(), original.ravel())[0, 1] > 0.95


def test_digits_are_described_as_they_are() -> None:
    info, dataset = data.describe("digits"), data.load("digits")
    assert dataset.train.image.shape == (info.num_train, *info.image_shape)
    assert len(digits.CLASS_NAMES) == info.num_classes == dataset.train.label.max() + 1


def test_real_mnist(mnist_files: Path) -> None:
    dataset = data.load("mnist", manual_dir=str(mnist_files))
    # Known numbers of each class (LeCun et al.), and the labels that TFDS's order begins with.
    assert np.bincount(dataset.train.label).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert dataset.test.label[:5].tolist() == [2, 0, 4, 8, 7]
    paths = mnist.find_originals(mnist_files)
    images, labels = mnist._read_split(
        "mnist", "test", *(paths[n] for n in mnist.FILE_NAMES["test"])
    )
    found: Examples = dataset.test
    assert sorted_rows(found.image, found.label) == sorted_rows(images, labels)
    started = time.perf_counter()
    again = data.load("mnist")
    assert len(again.train.label) == 60_000
    assert time.perf_counter() - started < 3  # From the cache; decoding takes longer than that.

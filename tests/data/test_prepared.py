"""Tests of prepared folders that cannot be used, and of doing without the array_record format."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cnn_jax import data
from cnn_jax.data import mnist, prepared
from cnn_jax.data.originals import read_originals
from cnn_jax.errors import UserError
from tests.data.prepare import prepare
from tests.data.small_mnist import check_small_mnist
from tests.support.command_line import ROOT


def damage(folder: Path, how: str) -> None:
    """Makes a prepared folder one that cannot be used."""
    info = folder / "dataset_info.json"
    if how == "tfrecord":
        info.write_text(info.read_text().replace("array_record", "tfrecord"))
    elif how == "not JSON":
        info.write_text("{")
    else:
        (folder / how).unlink()


REASONS = {
    "tfrecord": "it is prepared as tfrecord, which requires TensorFlow",
    "not JSON": "its dataset_info.json is not what TFDS wrote",
    "dataset_info.json": "its dataset_info.json is missing or cannot be read",
    "features.json": "its features.json is missing or cannot be read",
}


@pytest.mark.parametrize("how", REASONS)
def test_mnist_is_prepared_beside_a_folder_that_cannot_be_used(
    load: Any, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    folder = tmp_path / "data" / "mnist" / "3.0.1"
    damage(folder, how)
    before = prepared.fingerprint(folder)
    with pytest.raises(UserError) as error:  # There is no network.
        load(manual_dir="")
    assert str(error.value).startswith(f"{folder} cannot be used, since {REASONS[how]}")
    assert "; cannot download mnist" in str(error.value)
    check_small_mnist(load())
    assert prepared.find(tmp_path / "data", "mnist") == (
        tmp_path / "data" / "array_record" / "mnist" / "3.0.1"
    )
    assert prepared.fingerprint(folder) == before
    monkeypatch.setattr(mnist, "prepare", None)  # Raises if it is called.
    check_small_mnist(load(manual_dir=""))


@pytest.mark.parametrize("how", REASONS)
def test_other_data_set_that_cannot_be_used_is_reported(tmp_path: Path, how: str) -> None:
    prepare(tmp_path)
    folder = tmp_path / "flags" / "1.0.0"
    damage(folder, how)
    with pytest.raises(UserError) as error:
        data.load("flags", data_dir=str(tmp_path))
    assert str(error.value).startswith(f"{folder} cannot be used, since {REASONS[how]}")
    assert "elete" not in str(error.value)  # The program could not prepare it again.
    assert "TensorFlow" in str(error.value)


def test_mnist_that_cannot_be_used_beside_either_is_reported(load: Any, tmp_path: Path) -> None:
    load()
    damage(tmp_path / "data" / "mnist" / "3.0.1", "tfrecord")
    load()
    beside = tmp_path / "data" / "array_record" / "mnist" / "3.0.1"
    damage(beside, "not JSON")
    with pytest.raises(UserError) as error:
        load()
    assert REASONS["tfrecord"] in str(error.value)
    assert REASONS["not JSON"] in str(error.value)
    assert str(error.value).endswith(f"; rename {beside}, and mnist is prepared again")


def test_folder_that_another_process_prepares_meanwhile_is_used(
    load: Any, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*arguments: Any) -> Any:  # After the search for the folder.
        monkeypatch.setattr(mnist, "read_originals", read_originals)
        mnist.prepare("mnist", tmp_path / "data", originals, show_progress=False)
        return read_originals(*arguments)

    monkeypatch.setattr(mnist, "read_originals", read)
    check_small_mnist(load())
    assert [path.name for path in (tmp_path / "data").glob("*/mnist")] == []


def test_folder_without_permission_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path)

    def refuse(path: Path) -> None:  # The superuser may list every folder.
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=r"^cannot list .*flags \(Permission denied\): it must"):
        data.load("flags", data_dir=str(tmp_path))


def test_older_version_is_used_where_the_newest_cannot(tmp_path: Path) -> None:
    for version in ("1.0.0", "2.0.0"):
        prepare(tmp_path, version=version)
    damage(tmp_path / "flags" / "2.0.0", "tfrecord")
    assert prepared.find(tmp_path, "flags") == tmp_path / "flags" / "1.0.0"
    assert prepared.find(tmp_path, "flags:2.0.0") is None


def test_second_format_of_a_folder_is_used(tmp_path: Path) -> None:
    prepare(tmp_path)
    info = tmp_path / "flags" / "1.0.0" / "dataset_info.json"
    content = json.loads(info.read_text())
    content |= {"fileFormat": "tfrecord", "alternativeFileFormats": ["array_record"]}
    info.write_text(json.dumps(content))
    assert len(data.load("flags", data_dir=str(tmp_path)).train.label) == 4


def test_damaged_folder_is_not_to_be_deleted(load: Any, tmp_path: Path) -> None:
    load()
    for path in (tmp_path / "data" / "mnist" / "3.0.1").glob("*train.array_record*"):
        path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(UserError, match=r"Rename that folder, and mnist is prepared again\.$"):
        load()


def test_split_without_labels_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # TFDS gives the label -1 to the test examples of data sets that keep their labels secret.
    monkeypatch.setattr(tfds.features.ClassLabel, "encode_example", lambda _, label: -1)
    prepare(tmp_path)
    with pytest.raises(UserError, match=r"split test of .*flags/1\.0\.0 has examples without a la"):
        data.load("flags", data_dir=str(tmp_path), train_split="test")


def test_names_with_a_dot_are_taken(load: Any, originals: Path) -> None:
    for path in list(originals.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    check_small_mnist(load())


FULL_DISK = """
import resource, sys
import pytest
from cnn_jax import data
from cnn_jax.errors import UserError
from tests.data.small_mnist import accept_as_originals

accept_as_originals(pytest.MonkeyPatch())
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))  # Bytes per file; the records take more.
try:
    data.load("mnist", data_dir=sys.argv[1], manual_dir=sys.argv[2])
except UserError as error:
    print(error)
"""


def test_disk_that_fills_during_the_preparation_is_reported(
    originals: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / "data", originals],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    folder = tmp_path / "data"
    assert done.stdout.startswith(f"cannot prepare mnist in {folder} (File too large): dataset.da")
    assert prepared.find(folder, "mnist") is None
    assert list((folder / "mnist").iterdir()) == []


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_missing_certificates_are_reported(
    load: Any, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(variable, "/nowhere/ca.pem")
    with pytest.raises(UserError, match=f"^{variable}=/nowhere/ca.pem is invalid: it must be a fi"):
        load(manual_dir="")


# --- Without the package array_record, which TFDS installs on Linux alone


@pytest.fixture
def no_array_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "array_record", None)


def test_originals_are_read_in_the_order_of_tfds(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, originals: Path
) -> None:
    expected = load()
    monkeypatch.setitem(sys.modules, "array_record", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    dataset = load(data_dir=str(tmp_path / "other"))
    np.testing.assert_array_equal(dataset.train.image, expected.train.image)
    np.testing.assert_array_equal(dataset.train.label, expected.train.label)
    np.testing.assert_array_equal(dataset.test.image, expected.test.image)
    assert (dataset.test.image.dtype, dataset.test.label.dtype) == (np.uint8, np.int32)
    assert not (tmp_path / "other").exists()  # Nothing is prepared.
    (originals / "t10k-images-idx3-ubyte.gz").unlink()  # The cache has them.
    np.testing.assert_array_equal(load().test.label, expected.test.label)


@pytest.mark.usefixtures("no_array_record")
def test_stream_is_not_available_without_array_record(originals: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^dataset\.feed=stream is not available here"):
        data.open_source("mnist", data_dir=str(tmp_path), manual_dir=str(originals))


def test_prepared_data_set_is_refused_without_array_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path)
    monkeypatch.setitem(sys.modules, "array_record", None)
    with pytest.raises(
        UserError,
        match=r"flags/1\.0\.0 cannot be used, since .* array_record, wh",
    ):
        data.load("flags", data_dir=str(tmp_path))

"""Tests of the folders that users name, and of users without a home folder."""

import pwd
from pathlib import Path

import pytest

from cnn_jax import data
from cnn_jax.engine import compilation_cache
from cnn_jax.errors import UserError
from cnn_jax.evaluation.loading import load
from cnn_jax.io.folders import cache_folder, local_folder
from tests.support.command_line import error_message


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Takes the home folder away, as in a container with `--user`; returns the current folder."""

    def no_entry(_: object) -> None:
        raise KeyError("no passwd entry")

    for name in ("HOME", "XDG_CACHE_HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert local_folder("--workdir", "~/runs") == Path("/home/somebody/runs")
    assert local_folder("--workdir", Path("a/~")) == Path("a/~")


@pytest.mark.parametrize("address", ["gs://bucket/run", "s3://bucket/run", "hdfs://host:9000/run"])
def test_address_is_refused(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = f"={address} is invalid: it must be a folder of this machine, not an address. Name"
    digits = "--config=configs/digits.py"
    assert f"--workdir{words}" in error_message(digits, f"--workdir={address}")
    assert f"--workdir{words}" in error_message("--mode=evaluate", f"--workdir={address}")
    with pytest.raises(UserError, match=f"^--workdir{words}"):
        load(address)
    with pytest.raises(UserError, match=f"^dataset.data_dir{words}"):
        data.load("mnist", data_dir=address)
    with pytest.raises(UserError, match=f"^dataset.manual_dir{words}"):
        data.load("mnist", data_dir=str(tmp_path), manual_dir=address)
    monkeypatch.setenv("TFDS_DATA_DIR", address)
    with pytest.raises(UserError, match=f"^TFDS_DATA_DIR{words}"):
        data.load("mnist")
    assert list(tmp_path.iterdir()) == []  # No folder called `gs:`.


def test_cache_folder_follows_xdg_cache_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/folder")
    assert cache_folder() == Path("/some/folder/cnn_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "cnn_jax"


@pytest.mark.parametrize("value", ["", "relative/folder"])
def test_relative_xdg_cache_home_is_ignored(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A relative path would create a cache in each working directory.
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/cnn_jax")


def test_user_without_home_has_no_cache(no_home: Path) -> None:
    assert cache_folder() is None
    assert compilation_cache.folder() is None
    compilation_cache.enable()
    assert len(data.load("digits").test.label) == 360
    assert list(no_home.iterdir()) == []  # No folder called `~`.


def test_user_without_home_must_name_the_folders(no_home: Path) -> None:
    with pytest.raises(UserError, match=r"^dataset\.data_dir=~/tensorflow_datasets is"):
        data.load("mnist")
    words = "--workdir=~/run is invalid: there is no home folder"
    assert words in error_message("--config=configs/digits.py", "--workdir=~/run")
    assert list(no_home.iterdir()) == []

import hashlib
from pathlib import Path

import numpy as np
import pytest

from cnn_jax.data import Examples, cache
from cnn_jax.io import files


def check_equal(found: Examples | None, expected: Examples) -> None:
    assert found is not None
    np.testing.assert_array_equal(found.image, expected.image)
    np.testing.assert_array_equal(found.label, expected.label)
    assert found.image.dtype == np.uint8
    assert found.label.dtype == np.int32


def test_what_is_saved_comes_back(tmp_path: Path, random_split: Examples) -> None:
    path = tmp_path / "deep" / "down"
    cache.save(path, "v1", random_split)
    check_equal(cache.load(path, "v1"), random_split)


def test_parts_of_larger_arrays_come_back(tmp_path: Path, random_split: Examples) -> None:
    part = Examples(random_split.image[::2, :, 3:9], random_split.label[::2])  # Not contiguous.
    cache.save(tmp_path / "file", "v1", part)
    check_equal(cache.load(tmp_path / "file", "v1"), part)


def test_what_was_made_from_something_else_is_not_taken(
    tmp_path: Path, random_split: Examples
) -> None:
    cache.save(tmp_path / "file", "v1", random_split)
    assert cache.load(tmp_path / "file", "v2") is None


def test_what_an_older_program_wrote_is_not_taken(tmp_path: Path) -> None:
    # Whole by its digest, but of the time before the header said its format.
    body = b'{"fingerprint": "v1", "image_shape": [0, 1, 1, 1]}\n'
    (tmp_path / "file").write_bytes(hashlib.sha256(body).hexdigest().encode() + body)
    assert cache.load(tmp_path / "file", "v1") is None


def test_a_missing_file_is_not_there(tmp_path: Path) -> None:
    assert cache.load(tmp_path / "file", "v1") is None


def test_damage_anywhere_is_noticed(tmp_path: Path, random_split: Examples) -> None:
    path = tmp_path / "file"
    cache.save(path, "v1", random_split)
    whole = path.read_bytes()
    for place in (0, 63, 64, 70, 120, len(whole) // 2, len(whole) - 1):
        broken = bytearray(whole)
        broken[place] ^= 1
        path.write_bytes(broken)
        assert cache.load(path, "v1") is None
    for size in (0, 10, 64, 65, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert cache.load(path, "v1") is None


def test_a_folder_that_cannot_be_written_costs_only_the_cache(
    tmp_path: Path, random_split: Examples
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache.save(tmp_path / "file" / "below", "v1", random_split)
    assert cache.load(tmp_path / "file" / "below", "v1") is None


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, random_split: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    cache.save(path, "v1", random_split)

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    cache.save(path, "v2", random_split)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    check_equal(cache.load(path, "v1"), random_split)


def test_the_folder_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert files.cache_folder() == Path("/some/where/cnn_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert files.cache_folder() == Path.home() / ".cache" / "cnn_jax"


@pytest.mark.parametrize("given", ["", "relative/folder"])
def test_a_relative_cache_folder_is_ignored(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Or each working directory would get one of its own.
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert files.cache_folder() == Path("/home/somebody/.cache/cnn_jax")

import hashlib
from pathlib import Path

import numpy as np
import pytest

from cnn_jax.data import Examples, cache


def check_equal(examples: Examples | None, expected: Examples) -> None:
    """Asserts that examples have the expected values, as uint8 images and int32 labels."""
    assert examples is not None
    np.testing.assert_array_equal(examples.image, expected.image)
    np.testing.assert_array_equal(examples.label, expected.label)
    assert examples.image.dtype == np.uint8
    assert examples.label.dtype == np.int32


def test_saved_examples_are_loaded(tmp_path: Path, random_examples: Examples) -> None:
    path = tmp_path / "new" / "folder"
    cache.save(path, "v1", random_examples)
    check_equal(cache.load(path, "v1"), random_examples)


def test_slices_of_larger_arrays_are_loaded(tmp_path: Path, random_examples: Examples) -> None:
    examples = Examples(
        random_examples.image[::2, :, 3:9], random_examples.label[::2]
    )  # Not contiguous.
    cache.save(tmp_path / "file", "v1", examples)
    check_equal(cache.load(tmp_path / "file", "v1"), examples)


def test_file_with_another_fingerprint_is_ignored(
    tmp_path: Path, random_examples: Examples
) -> None:
    cache.save(tmp_path / "file", "v1", random_examples)
    assert cache.load(tmp_path / "file", "v2") is None


def test_file_of_an_older_version_is_ignored(tmp_path: Path) -> None:
    # Its digest is right, but it was written before the header had a format number.
    body = b'{"fingerprint": "v1", "image_shape": [0, 1, 1, 1]}\n'
    (tmp_path / "file").write_bytes(hashlib.sha256(body).hexdigest().encode() + body)
    assert cache.load(tmp_path / "file", "v1") is None


def test_missing_file_is_loaded_as_none(tmp_path: Path) -> None:
    assert cache.load(tmp_path / "file", "v1") is None


def test_damaged_file_is_loaded_as_none(tmp_path: Path, random_examples: Examples) -> None:
    path = tmp_path / "file"
    cache.save(path, "v1", random_examples)
    intact = path.read_bytes()
    for offset in (0, 63, 64, 70, 120, len(intact) // 2, len(intact) - 1):
        damaged = bytearray(intact)
        damaged[offset] ^= 1
        path.write_bytes(damaged)
        assert cache.load(path, "v1") is None
    for size in (0, 10, 64, 65, len(intact) - 1):
        path.write_bytes(intact[:size])
        assert cache.load(path, "v1") is None


def test_cache_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, random_examples: Examples
) -> None:
    (tmp_path / "file").write_text("a file instead of a folder")
    cache.save(tmp_path / "file" / "below", "v1", random_examples)
    assert cache.load(tmp_path / "file" / "below", "v1") is None


def test_failed_write_leaves_only_the_old_file(
    tmp_path: Path, random_examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    cache.save(path, "v1", random_examples)

    def raise_disk_full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", raise_disk_full)
    cache.save(path, "v2", random_examples)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    check_equal(cache.load(path, "v1"), random_examples)

"""Property tests: invalid files and flags are refused with a message, and take little memory."""

import contextlib
import gzip
import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import absl.flags
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict, config_flags

from cnn_jax.config import fields, flag_errors, schema
from cnn_jax.config.config_file import ConfigParser
from cnn_jax.data import Examples, cache
from cnn_jax.data.idx import read_idx
from cnn_jax.errors import UserError
from cnn_jax.io import files
from tests.support.hostile import JSON, damaged_bytes, hostile
from tests.support.small import small_config

SHAPE = (2, 3, 4)
IDX = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]) + bytes(range(24))


def peak_bytes(work: Callable[[], Any]) -> int:
    """Returns the peak number of bytes that Python allocates during a call."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def read_or_refuse(path: Path) -> None:
    """Asserts that an IDX file has the expected shape or is refused with a UserError."""
    try:
        shape = read_idx(path, SHAPE).shape
    except UserError:
        shape = SHAPE
    assert shape == SHAPE


@hostile
@given(content=damaged_bytes(IDX))
def test_damaged_idx_file_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert peak_bytes(lambda: read_or_refuse(tmp_path / "file")) < 200_000


@hostile
@given(content=damaged_bytes(gzip.compress(IDX, mtime=0)) | damaged_bytes(IDX).map(gzip.compress))
def test_damaged_gzip_file_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.gz").write_bytes(content)
    assert peak_bytes(lambda: read_or_refuse(tmp_path / "file.gz")) < 400_000


@pytest.mark.parametrize("header", [IDX, IDX[:3], b""])
def test_gzip_bomb_takes_little_memory(tmp_path: Path, header: bytes) -> None:
    # 100 kB, which unpack to 100 MB.
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(header + bytes(10**8)))
    assert (tmp_path / "bomb.gz").stat().st_size < 120_000
    assert peak_bytes(lambda: read_or_refuse(tmp_path / "bomb.gz")) < 400_000


def parse(*arguments: str) -> ConfigDict:
    """Parses and checks config flags like `main.py`, with separate flag objects."""
    argv = ["main.py", "--config=configs/mnist.py", *arguments]
    values = absl.flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", flag_values=values)
    values["config"].parser = ConfigParser()
    with mock.patch.object(sys, "argv", argv):
        flag_errors.check_config_arguments(argv)
        try:
            values(argv)
        except Exception as error:
            raise flag_errors.translate_flag_error(error) from error
    schema.check(config.value)
    return config.value


@hostile
@given(
    key=st.sampled_from([*fields.FIELDS, "dataset", "model", "", "model.", "seed.seed"]),
    value=st.text(max_size=20)
    | JSON.map(str)
    | st.sampled_from(
        ["1e999", "nan", "-inf", "9" * 5000, "(" * 300, "/", "~x", "1,2,3", "()", "0x10", "1e-400"]
    ),
)
def test_config_override_is_accepted_or_refused(key: str, value: str) -> None:
    with contextlib.suppress(UserError):
        parse(f"--config.{key}={value}")


def test_valid_config_overrides_are_accepted() -> None:
    # A parser that refuses every override would pass the test above.
    config = parse("--config.model.features=4,8", "--config.learning_rate=1e-3", "--config.seed=7")
    assert (config.model.features, config.learning_rate, config.seed) == ((4, 8), 1e-3, 7)


EXAMPLES = Examples(
    np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4, 1), np.arange(2, dtype=np.int32)
)


@hostile
@given(content=st.data())
def test_damaged_cache_file_is_never_loaded_with_wrong_content(
    tmp_path: Path, content: Any
) -> None:
    path = tmp_path / "file"
    cache.save(path, "v1", EXAMPLES)
    path.write_bytes(content.draw(damaged_bytes(path.read_bytes())))
    loaded = cache.load(path, "v1")
    assert loaded is None or np.array_equal(loaded.image, EXAMPLES.image)


@hostile
@given(
    header=st.fixed_dictionaries(
        {"format": st.just(1), "fingerprint": st.just("v1")},
        optional={"image_shape": JSON | st.lists(st.integers(-3, 2**70), max_size=5)},
    ).map(lambda header: json.dumps(header).encode() + b"\n")
    | JSON.map(lambda value: json.dumps(value).encode() + b"\n")
    | st.sampled_from(
        [b"", b"{", b"[" * 2000 + b"\n", b'{"format": 1e999}\n', b"9" * 5000 + b"\n"]
    ),
    body=st.binary(max_size=100),
)
def test_forged_cache_file_is_read_or_refused(tmp_path: Path, header: bytes, body: bytes) -> None:
    # Anybody can compute the digest: it detects damage, not forgery.
    files.write_checksummed(tmp_path / "file", header, body)

    def load() -> None:
        loaded = cache.load(tmp_path / "file", "v1")
        if loaded is not None:
            assert len(loaded.image) == len(loaded.label)
            assert loaded.image.nbytes + 4 * len(loaded.label) == len(body)

    assert peak_bytes(load) < 200_000


def test_split_of_thousands_of_parts_is_refused() -> None:
    with pytest.raises(UserError, match="is invalid: it must be one of train, test"):
        schema.check(small_config(**{"dataset.train_split": "+".join(["train"] * 20_000)}))

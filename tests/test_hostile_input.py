"""Whatever others wrote is read, or refused in words: no traceback, no hang, no flood of memory."""

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

from cnn_jax.config import flags, schema
from cnn_jax.data import Examples, cache
from cnn_jax.data.idx import read_idx
from cnn_jax.errors import UserError
from cnn_jax.io import files
from tests.support.hostile import JSON, hostile, spoilt
from tests.support.small import small_config

pytestmark = pytest.mark.durability

SHAPE = (2, 3, 4)
IDX = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]) + bytes(range(24))


def peak_of(work: Callable[[], Any]) -> int:
    """The most bytes that were in use at once, beyond those before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def read_or_refuse(path: Path) -> None:
    try:
        shape = read_idx(path, SHAPE).shape
    except UserError:
        shape = SHAPE
    assert shape == SHAPE


@hostile
@given(content=spoilt(IDX))
def test_idx_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert peak_of(lambda: read_or_refuse(tmp_path / "file")) < 200_000


@hostile
@given(content=spoilt(gzip.compress(IDX, mtime=0)) | spoilt(IDX).map(gzip.compress))
def test_gzip_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.gz").write_bytes(content)
    assert peak_of(lambda: read_or_refuse(tmp_path / "file.gz")) < 400_000


@pytest.mark.parametrize("header", [IDX, IDX[:3], b""])
def test_a_bomb_takes_no_memory(tmp_path: Path, header: bytes) -> None:
    # 100 kB that unpack to 100 MB.
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(header + bytes(10**8)))
    assert (tmp_path / "bomb.gz").stat().st_size < 120_000
    assert peak_of(lambda: read_or_refuse(tmp_path / "bomb.gz")) < 400_000


def parse(*arguments: str) -> ConfigDict:
    """What `main.py` does with the config's flags, with flags of its own."""
    argv = ["main.py", "--config=configs/mnist.py", *arguments]
    values = absl.flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", flag_values=values)
    with mock.patch.object(sys, "argv", argv):
        flags.check_overrides(argv)
        try:
            values(argv)
        except Exception as error:
            raise flags.translate_flag_error(error) from error
    schema.check(config.value)
    return config.value


# ml_collections loads config files in an old way.
old_way = pytest.mark.filterwarnings("ignore:the load_module.. method:DeprecationWarning")


@old_way
@hostile
@given(
    key=st.sampled_from([*schema.FIELDS, "dataset", "model", "", "model.", "seed.seed"]),
    value=st.text(max_size=20)
    | JSON.map(str)
    | st.sampled_from(
        ["1e999", "nan", "-inf", "9" * 5000, "(" * 300, "/", "~x", "1,2,3", "()", "0x10", "1e-400"]
    ),
)
def test_config_overrides(key: str, value: str) -> None:
    with contextlib.suppress(UserError):
        parse(f"--config.{key}={value}")


@old_way
def test_config_overrides_that_are_fine_pass() -> None:
    # Or the test above could not tell a parser that refuses everything.
    config = parse("--config.model.features=4,8", "--config.learning_rate=1e-3", "--config.seed=7")
    assert (config.model.features, config.learning_rate, config.seed) == ((4, 8), 1e-3, 7)


SPLIT = Examples(
    np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4, 1), np.arange(2, dtype=np.int32)
)


@hostile
@given(content=st.data())
def test_cache_files(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "file"
    cache.save(path, "v1", SPLIT)
    path.write_bytes(content.draw(spoilt(path.read_bytes())))
    found = cache.load(path, "v1")
    assert found is None or np.array_equal(found.image, SPLIT.image)


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
def test_cache_files_with_a_right_digest(tmp_path: Path, header: bytes, body: bytes) -> None:
    # Written by somebody who knows the digest: it is no signature.
    files.write_checksummed(tmp_path / "file", header, body)

    def load() -> None:
        found = cache.load(tmp_path / "file", "v1")
        if found is not None:
            assert len(found.image) == len(found.label)
            assert found.image.nbytes + 4 * len(found.label) == len(body)

    assert peak_of(load) < 200_000


def test_a_split_of_thousands_of_parts_is_refused() -> None:
    with pytest.raises(UserError, match="is not a split"):
        schema.check(small_config(**{"dataset.train_split": "+".join(["train"] * 20_000)}))

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from cnn_jax.data.idx import read_idx
from cnn_jax.errors import UserError

VALUES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
WHOLE = struct.pack(">4I", 2051, 2, 3, 4) + VALUES.tobytes()  # 2051 = 8 << 8 | 3 dimensions.
UNPACKED, PACKED = "images-ubyte", "images-ubyte.gz"


def message_of(path: Path, content: bytes, shape: tuple[int, ...] = (2, 3, 4)) -> str:
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_idx(path, shape)
    assert str(error.value).startswith(str(path))
    return str(error.value)


@pytest.mark.parametrize("name", [UNPACKED, PACKED])
def test_a_good_file_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(WHOLE) if name == PACKED else WHOLE)
    np.testing.assert_array_equal(read_idx(path, (2, 3, 4)), VALUES)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (WHOLE[:10], "is truncated: 10 bytes, too few for its header"),
        (WHOLE[:-1], "is truncated: 23 of 24 values are there"),
        (WHOLE + b"x", "goes on after its 24 values"),
        (struct.pack(">I", 2049) + WHOLE[4:], "has the magic number 2049, where 2051 is allowed"),
        (struct.pack(">4I", 2051, 9, 3, 4), "says it holds 9 examples, where 2 are allowed"),
        (struct.pack(">4I", 2051, 2, 4, 4), "has images of 4x4, where 3x4 is allowed"),
        (struct.pack(">4I", 2051, 2**32 - 1, 3, 4), "says it holds 4294967295 examples"),
    ],
)
@pytest.mark.parametrize("name", [UNPACKED, PACKED])
def test_a_bad_file_is_named_with_what_is_wrong(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    packed = gzip.compress(content) if name == PACKED and content else content
    assert problem in message_of(tmp_path / name, packed)


def test_what_is_no_gzip_file_is_said(tmp_path: Path) -> None:
    assert "is not a gzip file" in message_of(tmp_path / PACKED, WHOLE)


@pytest.mark.parametrize("cut", [1, 8, 20])
def test_a_truncated_gzip_file_is_said(tmp_path: Path, cut: int) -> None:
    assert "is truncated" in message_of(tmp_path / PACKED, gzip.compress(WHOLE)[:-cut])


def test_every_flipped_byte_of_a_gzip_file_is_noticed(tmp_path: Path) -> None:
    # From byte 10 on come data, CRC and length; the header before them holds flags and times, of
    # which only magic and method (bytes 0-2) are checked.
    packed = gzip.compress(WHOLE)
    for place in (0, 1, 2, *range(10, len(packed))):
        broken = bytearray(packed)
        broken[place] ^= 0xFF
        message_of(tmp_path / PACKED, bytes(broken))


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    # 64 MB of zeros after the right header: reading stops at the first byte too many.
    assert "goes on after" in message_of(tmp_path / PACKED, gzip.compress(WHOLE + bytes(2**26)))


def test_a_missing_file_and_a_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_idx(tmp_path / "nothing", (1,))
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_idx(tmp_path, (1,))

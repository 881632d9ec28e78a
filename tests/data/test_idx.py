import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from cnn_jax.data.idx import read_idx
from cnn_jax.errors import UserError

VALUES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
INTACT = struct.pack(">4I", 2051, 2, 3, 4) + VALUES.tobytes()  # 2051 = 8 << 8 | 3 dimensions.
UNPACKED, PACKED = "images-ubyte", "images-ubyte.gz"


def message_of(path: Path, content: bytes, shape: tuple[int, ...] = (2, 3, 4)) -> str:
    """Returns the error message for a file with this content."""
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_idx(path, shape)
    assert str(error.value).startswith(f"cannot read {path} (")
    return str(error.value)


@pytest.mark.parametrize("name", [UNPACKED, PACKED])
def test_intact_file_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(INTACT) if name == PACKED else INTACT)
    np.testing.assert_array_equal(read_idx(path, (2, 3, 4)), VALUES)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "(it is empty): "),
        (INTACT[:10], "(it is truncated: 10 bytes, too few for its header): "),
        (INTACT[:-1], "(it is truncated: 23 of 24 values): "),
        (INTACT + b"x", "(it has data after its 24 values): "),
        (struct.pack(">I", 2049) + INTACT[4:], "(its magic number is 2049, not 2051): "),
        (struct.pack(">4I", 2051, 9, 3, 4), "(it declares 9 examples, not 2): "),
        (struct.pack(">4I", 2051, 2, 4, 4), "(its images are 4x4, not 3x4): "),
        (struct.pack(">4I", 2051, 2**31, 3, 4), "(it declares 2,147,483,648 examples, not 2): "),
    ],
)
@pytest.mark.parametrize("name", [UNPACKED, PACKED])
def test_wrong_file_is_reported_with_the_reason(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    packed = gzip.compress(content) if name == PACKED and content else content
    message = message_of(tmp_path / name, packed)
    assert f"{reason}it must be the original IDX file. Put the original file there" in message


def test_gz_file_that_is_not_gzip_is_reported(tmp_path: Path) -> None:
    assert "(it is not a gzip file)" in message_of(tmp_path / PACKED, INTACT)


@pytest.mark.parametrize("num_missing", [1, 8, 20])
def test_truncated_gzip_file_is_reported(tmp_path: Path, num_missing: int) -> None:
    assert "(it is truncated: " in message_of(
        tmp_path / PACKED, gzip.compress(INTACT)[:-num_missing]
    )


def test_every_changed_byte_of_a_gzip_file_is_detected(tmp_path: Path) -> None:
    # Bytes 0-2 are the magic number and the method. Bytes 3-9 are flags and times, which are not
    # verified. From byte 10 on there are data, CRC and length.
    packed = gzip.compress(INTACT)
    for offset in (0, 1, 2, *range(10, len(packed))):
        damaged = bytearray(packed)
        damaged[offset] ^= 0xFF
        message_of(tmp_path / PACKED, bytes(damaged))


def test_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    # 64 MB of zeros after a correct file: reading stops at the first byte that follows the values.
    assert "(it has data after its 24 values)" in message_of(
        tmp_path / PACKED, gzip.compress(INTACT + bytes(2**26))
    )


def test_missing_file_and_folder_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*missing \(No such file or directory\)"):
        read_idx(tmp_path / "missing", (1,))
    with pytest.raises(UserError, match=r"cannot read .* \(Is a directory\)"):
        read_idx(tmp_path, (1,))

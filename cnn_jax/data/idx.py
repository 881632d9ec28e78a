"""Reads IDX files, the format of the original MNIST files, and says what is wrong with bad ones.

The format (http://yann.lecun.com/exdb/mnist/): two zero bytes, a type byte (8: unsigned byte), the
number of dimensions, each dimension as a big-endian 32-bit integer, then the values in C order.
"""

import gzip
import io
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from cnn_jax.errors import UserError

_UNSIGNED_BYTE = 8


def read_idx(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Reads one IDX file of unsigned bytes whose shape is known beforehand.

    No more is read than the shape needs, so a file that unpacks to gigabytes costs no memory.

    Args:
      path: the file; a name that ends in `.gz` is unpacked while reading.
      shape: (examples, height, width) of images or (examples,) of labels.

    Returns:
      uint8 array of that shape.

    Raises:
      UserError: when the file is missing, empty, damaged or holds something else.
    """
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise _bad(path, "is empty")
            file.seek(0)
            if path.suffix != ".gz":
                return _read_stream(path, file, shape)
            if file.read(2) != b"\x1f\x8b":
                raise _bad(path, "is not a gzip file")
            file.seek(0)
            with gzip.open(file) as unpacked:
                return _read_stream(path, io.BufferedReader(unpacked), shape)
    except EOFError as error:
        raise _bad(path, "is truncated: its gzip stream has no end") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _bad(path, f"is damaged: {error}") from error
    except OSError as error:
        raise _bad(path, f"cannot be read: {error.strerror or error}") from error


def _read_stream(path: Path, file: BinaryIO, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Reads header and values, and that nothing follows them."""
    magic = (_UNSIGNED_BYTE << 8) | len(shape)
    header_size = 4 + 4 * len(shape)
    header = file.read(header_size)
    if len(header) >= 4 and (found := struct.unpack(">I", header[:4])[0]) != magic:
        raise _bad(path, f"has the magic number {found}, where {magic} is allowed")
    if len(header) < header_size:
        raise _bad(path, f"is truncated: {len(header)} bytes, too few for its header")
    given = struct.unpack(f">{len(shape)}I", header[4:])
    if given[0] != shape[0]:
        raise _bad(path, f"says it holds {given[0]} examples, where {shape[0]} are allowed")
    if given != shape:
        raise _bad(path, f"has images of {_by(given[1:])}, where {_by(shape[1:])} is allowed")
    size = math.prod(shape)
    values = file.read(size)
    if len(values) < size:
        raise _bad(path, f"is truncated: {len(values)} of {size} values are there")
    if file.read(1):  # Reading to the end is also what makes gzip check its CRC.
        raise _bad(path, f"goes on after its {size} values")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _by(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def _bad(path: Path, problem: str) -> UserError:
    return UserError(f"{path} {problem}. Put the original file there, as .gz or unpacked.")

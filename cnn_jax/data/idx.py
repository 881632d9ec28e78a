"""Reads IDX files, the format of the original MNIST files, and reports damaged and wrong files.

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
from cnn_jax.wording import pluralize

_UNSIGNED_BYTE = 8


def read_idx(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Reads one IDX file of unsigned bytes whose shape is known in advance.

    Reads no more than the shape needs, so a small gzip file that unpacks to gigabytes costs no
    memory.

    Args:
      path: the file; if its name ends in `.gz`, it is unpacked while it is read.
      shape: (examples, height, width) of images or (examples,) of labels.

    Returns:
      uint8 array of that shape.

    Raises:
      UserError: if the file is missing, empty, damaged, or holds other data.
    """
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise _read_error(path, "it is empty")
            file.seek(0)
            if path.suffix != ".gz":
                return _read_stream(path, file, shape)
            if file.read(2) != b"\x1f\x8b":
                raise _read_error(path, "it is not a gzip file")
            file.seek(0)
            with gzip.open(file) as unpacked:
                return _read_stream(path, io.BufferedReader(unpacked), shape)
    except EOFError as error:
        raise _read_error(path, "it is truncated: its gzip stream has no end") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _read_error(path, f"it is damaged: {error}") from error
    except OSError as error:
        raise _read_error(path, str(error.strerror or error)) from error


def _read_stream(path: Path, file: BinaryIO, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Reads the header and the values, and checks both and that nothing follows.

    Args:
      path: the file, for the message.
      file: stream at the first byte of the header, unpacked.
      shape: shape that the header must declare.

    Raises:
      UserError: if the file is truncated, has another shape, or is too long.
    """
    magic = (_UNSIGNED_BYTE << 8) | len(shape)
    header_size = 4 + 4 * len(shape)
    header = file.read(header_size)
    if len(header) >= 4 and (file_magic := struct.unpack(">I", header[:4])[0]) != magic:
        raise _read_error(path, f"its magic number is {file_magic}, not {magic}")
    if len(header) < header_size:
        num_bytes = pluralize(len(header), "byte")
        raise _read_error(path, f"it is truncated: {num_bytes}, too few for its header")
    file_shape = struct.unpack(f">{len(shape)}I", header[4:])
    if file_shape[0] != shape[0]:
        count = pluralize(file_shape[0], "example")
        raise _read_error(path, f"it declares {count}, not {shape[0]:,}")
    if file_shape != shape:
        sizes = f"{_format_size(file_shape[1:])}, not {_format_size(shape[1:])}"
        raise _read_error(path, f"its images are {sizes}")
    size = math.prod(shape)
    values = file.read(size)
    if len(values) < size:
        raise _read_error(path, f"it is truncated: {len(values)} of {size} values")
    if file.read(1):  # Reading to the end also makes gzip check its CRC.
        raise _read_error(path, f"it has data after its {size} values")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _format_size(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def _read_error(path: Path, reason: str) -> UserError:
    return UserError(
        f"cannot read {path} ({reason}): it must be the original IDX file. Put the original file "
        "there, as .gz or unpacked."
    )

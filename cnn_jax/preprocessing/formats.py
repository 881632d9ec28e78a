"""The formats of picture files: Pillow's, and HEIC where the extra `heic` is installed."""

import contextlib
import functools
from pathlib import Path

from PIL import Image

HEIC_ADVICE = "run pip install pillow-heif, or save it as JPEG"
HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif"})

# Pillow would run another program on EPS, whatever the file's suffix. Of the others it knows the
# first bytes, but has no decoder.
_NOT_DECODED = frozenset({"EPS", "BUFR", "GRIB", "HDF5", "MPEG"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})


@functools.cache
def load_formats() -> tuple[str, ...]:
    """Loads the decoders, and returns Pillow's names of their formats.

    Call it before threads open pictures, because Pillow does not load its formats thread-safely.
    """
    Image.init()
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return tuple(name for name in Image.OPEN if name not in _NOT_DECODED)


def picture_suffixes() -> set[str]:
    """Returns the suffixes of the files that can be decoded, such as `.png`."""
    formats = load_formats()
    return {suffix for suffix, name in Image.registered_extensions().items() if name in formats}


def is_heic(path: Path) -> bool:
    """Returns whether a file starts like a HEIC picture, as phones write them.

    Its first box, of type `ftyp`, lists four-letter brands from byte 8 on (ISO/IEC 14496-12).
    """
    with path.open("rb") as file:
        start = file.read(64)
    length = min(len(start), int.from_bytes(start[:4], "big"))
    brands = {start[index : index + 4] for index in range(8, length, 4)}
    return start[4:8] == b"ftyp" and not brands.isdisjoint(_HEIC_BRANDS)

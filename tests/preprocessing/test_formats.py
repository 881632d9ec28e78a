"""The formats that are decoded, with and without the extra `heic`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from cnn_jax.preprocessing import formats
from cnn_jax.preprocessing.decode import PhotoError
from cnn_jax.preprocessing.frame import conventions_of
from cnn_jax.preprocessing.image_files import describe_passed_over, find_pictures
from cnn_jax.preprocessing.photo import read_photo

SHAPE = (28, 28, 1)
# The first box of a phone's file: its length of 24 bytes, its type, a brand, a version, two brands.
HEIC_START = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.fixture
def without_heic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hides pillow-heif, where it is installed."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # Its import then raises ImportError.
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    formats.load_formats.cache_clear()
    yield
    monkeypatch.undo()
    formats.load_formats.cache_clear()


@pytest.mark.usefixtures("without_heic")
def test_heic_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(HEIC_START + bytes(100))
    with pytest.raises(PhotoError, match=r"^is HEIC: run pip install pillow-heif, or save it as"):
        read_photo(path, SHAPE, conventions_of("mnist", SHAPE))
    files = find_pictures([str(tmp_path)])
    assert files.passed_over == [path]
    assert describe_passed_over(files.passed_over) == (
        f"passed over 1 file that is not known as a picture: {path}. To read the HEIC ones (1): "
        "run pip install pillow-heif, or save it as JPEG."
    )


def test_heic_is_read_with_its_extra(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    formats.load_formats()
    picture = Image.new("RGB", (100, 120), "white")
    picture.paste("black", (40, 20, 60, 100))
    picture.save(tmp_path / "IMG_1.HEIC")
    assert find_pictures([str(tmp_path)]).pictures == [tmp_path / "IMG_1.HEIC"]
    photo = read_photo(tmp_path / "IMG_1.HEIC", SHAPE, conventions_of("mnist", SHAPE))
    assert photo.polarity == "dark on light"
    # 80 pixels become 20, so the bar's width of 20 becomes 5; compression may blur a pixel.
    assert (photo.image_u8[14, :, 0] > 127).sum() == pytest.approx(5, abs=1)
    (tmp_path / "IMG_2.HEIC").write_bytes(HEIC_START + bytes(100))
    with pytest.raises(PhotoError, match=r"^is a damaged HEIC picture$"):
        read_photo(tmp_path / "IMG_2.HEIC", SHAPE, conventions_of("mnist", SHAPE))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (HEIC_START, True),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", True),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1miaf", False),
        (b"\0\0\0\x10ftypmif1\0\0\0\0mif1heic", False),  # The box ends before the brands.
        (b"\0\0\0\x18moovheic\0\0\0\0mif1heic", False),
        (b"heic", False),
        (b"", False),
    ],
)
def test_heic_is_known_by_its_brands(content: bytes, expected: bool, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(content)
    assert formats.is_heic(path) is expected


def test_suffixes_are_those_of_formats_that_are_decoded() -> None:
    suffixes = formats.picture_suffixes()
    assert suffixes >= {".png", ".jpg", ".jpeg", ".tif", ".gif", ".webp", ".bmp"}
    # EPS would run Ghostscript. Pillow has no decoder for HDF5 and MPEG, and only writes PDF.
    assert suffixes.isdisjoint({".eps", ".h5", ".mpg", ".pdf", ".txt"})

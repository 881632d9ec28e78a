"""Files of several pages: which pages are listed, and what is read from each."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin, features

from cnn_jax.preprocessing import decode, pages
from cnn_jax.preprocessing.decode import PhotoError
from cnn_jax.preprocessing.frame import conventions_of
from cnn_jax.preprocessing.pages import Page, list_pages
from cnn_jax.preprocessing.photo import Photo, read_photo, read_photos
from tests.support.hostile import damaged_bytes, hostile

SHAPE = (28, 28, 1)


def draw_bars(count: int, size: tuple[int, int] = (100, 120)) -> Image.Image:
    """Draws black bars of 10x80 pixels beside each other on white."""
    picture = Image.new("L", size, 255)
    for index in range(count):
        picture.paste(0, (10 + 20 * index, 20, 20 + 20 * index, 100))
    return picture


def save(path: Path, pictures: list[Image.Image], **options: Any) -> Path:
    pictures[0].save(path, save_all=True, append_images=pictures[1:], **options)
    return path


def read(listed: list[Page]) -> list[Photo | PhotoError]:
    return read_photos(listed, SHAPE, conventions_of("mnist", SHAPE))


def read_alone(picture: Image.Image, folder: Path) -> npt.NDArray[np.uint8]:
    """Returns the image of a picture that is saved as a file of its own."""
    path = folder / "alone.png"
    picture.save(path)
    return read_photo(path, SHAPE, conventions_of("mnist", SHAPE)).image_u8


@pytest.mark.parametrize(
    ("suffix", "options"),
    [(".tif", {}), (".gif", {}), (".png", {}), (".webp", {"lossless": True})],
)
def test_every_page_is_read(suffix: str, options: dict[str, Any], tmp_path: Path) -> None:
    drawn = [draw_bars(count) for count in (1, 2, 3)]
    path = save(tmp_path / f"pages{suffix}", drawn, **options)
    listed = list_pages([path], pytest.fail)
    assert listed == [Page(path, 1), Page(path, 2), Page(path, 3)]
    assert [page.label for page in listed] == [" page 1", " page 2", " page 3"]
    for picture, photo in zip(drawn, read(listed), strict=True):
        assert isinstance(photo, Photo)
        # Black and white are exact in every lossless format.
        np.testing.assert_array_equal(photo.image_u8, read_alone(picture, tmp_path))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_avif_is_read(tmp_path: Path) -> None:
    path = save(
        tmp_path / "pages.avif", [draw_bars(1), Image.eval(draw_bars(3), lambda p: 255 - p)]
    )
    first, second = read(list_pages([path], pytest.fail))
    assert isinstance(first, Photo)
    assert isinstance(second, Photo)
    assert (first.polarity, second.polarity) == ("dark on light", "light on dark")


def test_file_of_one_page_and_file_that_is_no_picture_are_one_page(tmp_path: Path) -> None:
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    os.mkfifo(tmp_path / "fifo.png")  # It has no writer: opening it would block.
    draw_bars(1).save(tmp_path / "one.tif")
    # What some phones write: a JPEG file that also holds the view of the other lens.
    save(tmp_path / "phone.jpg", [draw_bars(1), draw_bars(2)], format="MPO")
    paths = [*sorted(tmp_path.iterdir()), tmp_path / "missing.png"]
    assert list_pages(paths, pytest.fail) == [Page(path) for path in paths]
    assert Page(paths[0]).label == ""


# Pillow 11's writer closes itself a second time in its destructor, which Python 3.13 reports.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <PIL.TiffImagePlugin.AppendingTiffWriter")
def test_thumbnails_and_masks_of_a_tiff_are_no_pages(tmp_path: Path) -> None:
    # NewSubfileType of TIFF 6.0: 1 is a smaller copy, 2 a page of several, 4 a mask.
    path = tmp_path / "scan.tif"
    with TiffImagePlugin.AppendingTiffWriter(str(path), True) as file:
        for kind in (2, 1, 2, 4):
            draw_bars(1).save(file, format="TIFF", tiffinfo={254: kind})
            file.newFrame()
    assert [page.number for page in list_pages([path], pytest.fail)] == [1, 3]


def test_pages_beyond_the_limit_are_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_PAGES", 2)
    path = save(tmp_path / "film.gif", [draw_bars(count) for count in (1, 2, 3)])
    warnings: list[str] = []
    assert list_pages([path], warnings.append) == [Page(path, 1), Page(path, 2)]
    assert warnings == [
        f"{path} has 3 pages: the first 2 are read. Split it into smaller files to read the others."
    ]


def test_file_is_opened_once_for_all_its_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Frame k of an animation is drawn on the one before it: to open the file for each of n frames
    # would decode n * (n + 1) / 2 of them.
    path = save(tmp_path / "film.gif", [draw_bars(count) for count in (1, 2, 3)])
    listed = list_pages([path], pytest.fail)
    opened: list[Path] = []

    def open_picture(path: Path) -> Image.Image:
        opened.append(path)
        return Image.open(path)

    monkeypatch.setattr(decode, "open_picture", open_picture)
    assert len(read(listed)) == 3
    assert opened == [path]


def test_damaged_page_has_a_reason_and_the_others_are_read(tmp_path: Path) -> None:
    drawn = [draw_bars(count) for count in (1, 2, 3)]
    path = save(tmp_path / "scan.tif", drawn, compression="tiff_adobe_deflate")
    with Image.open(path) as picture:
        picture.seek(1)
        offset = picture.tag_v2[TiffImagePlugin.STRIPOFFSETS][0]  # type: ignore[attr-defined]
    content = bytearray(path.read_bytes())
    content[offset : offset + 8] = bytes(8)
    path.write_bytes(content)
    first, second, third = read(list_pages([path], pytest.fail))
    assert isinstance(second, PhotoError)
    assert str(second).startswith(("is damaged: ", "is truncated"))
    for photo, original in ((first, drawn[0]), (third, drawn[2])):
        assert isinstance(photo, Photo)
        np.testing.assert_array_equal(photo.image_u8, read_alone(original, tmp_path))


def test_file_whose_pages_cannot_be_counted_is_named_and_its_first_page_read(
    tmp_path: Path,
) -> None:
    path = save(tmp_path / "scan.tif", [draw_bars(count) for count in (1, 2, 3)])
    # A page of 100 * 120 bytes and some tags: half of three such pages ends within the second.
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    warnings: list[str] = []
    (photo,) = read(list_pages([path], warnings.append))
    assert isinstance(photo, Photo)
    np.testing.assert_array_equal(photo.image_u8, read_alone(draw_bars(1), tmp_path))
    assert warnings == [
        f"{path} is damaged: its pages cannot be counted, and only the first one is read"
    ]


def test_page_of_too_many_pixels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pillow itself checks only the first page of a TIFF.
    path = save(tmp_path / "scan.tif", [draw_bars(1), draw_bars(1, (200, 200)), draw_bars(1)])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15_000)  # 100 * 120 < 2 * 15,000 < 200 * 200.
    first, second, third = read(list_pages([path], pytest.fail))
    assert isinstance(first, Photo)
    assert isinstance(third, Photo)
    assert str(second) == "is too large: it must have at most 30,000 pixels and fit in memory"


@hostile
@given(st.data())
def test_damaged_file_gives_a_picture_or_a_reason_for_each_page(
    tmp_path: Path, data: st.DataObject
) -> None:
    suffix = data.draw(st.sampled_from([".tif", ".gif", ".png", ".webp"]))
    intact = save(tmp_path / f"intact{suffix}", [draw_bars(count) for count in (1, 2, 3)])
    path = tmp_path / "damaged"
    path.write_bytes(data.draw(damaged_bytes(intact.read_bytes())))
    listed = list_pages([path], lambda _: None)
    assert 1 <= len(listed) <= pages.MAX_PAGES
    assert len(read(listed)) == len(listed)

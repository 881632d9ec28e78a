"""Pictures of all kinds, brought to what the network was trained on."""

import contextlib
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnn_jax import data
from cnn_jax.data import Examples
from cnn_jax.errors import UserError
from cnn_jax.evaluation import trained
from cnn_jax.preprocessing import frame
from cnn_jax.preprocessing.decode import PhotoError
from cnn_jax.preprocessing.frame import conventions_of
from cnn_jax.preprocessing.photo import Photo, read_photo, read_photos
from tests.support.hostile import hostile, spoilt

SHAPE = (28, 28, 1)
Pixels = npt.NDArray[np.uint8]


def letter(*, paper: int = 255, strokes: int = 0) -> Pixels:
    """An L of 40x80 pixels with strokes of 10, on a picture of 100x120: it has no symmetry."""
    pixels = np.full((120, 100), paper, np.uint8)
    pixels[20:100, 30:40] = strokes
    pixels[90:100, 30:70] = strokes
    return pixels


def read(picture: Image.Image, folder: Path, suffix: str = ".png", **options: Any) -> Photo:
    path = folder / f"picture{suffix}"
    picture.save(path, **options)
    return read_photo(path, SHAPE, conventions_of("mnist", SHAPE))


def seen(picture: Image.Image, folder: Path, suffix: str = ".png", **options: Any) -> Pixels:
    return read(picture, folder, suffix, **options).image_u8[..., 0]


def ends(image_u8: Pixels) -> tuple[int, int, int, int]:
    """Left, upper, right and lower end of what is at least half as light as a stroke."""
    rows, columns = (np.flatnonzero((image_u8 > 127).any(axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def mass_centre(image_u8: Pixels) -> npt.NDArray[np.float64]:
    """The mean of (row, column), weighted by the pixels."""
    rows, columns = np.indices(image_u8.shape)
    return np.array([np.average(places, weights=image_u8) for places in (rows, columns)])


def test_a_drawing_fills_mnists_box_around_its_centre_of_mass(tmp_path: Path) -> None:
    image_u8 = seen(Image.fromarray(letter()), tmp_path)
    left, upper, right, lower = ends(image_u8)
    # 80 pixels become 20, so a quarter: 40 become 10. The blur against noise, by 120 / 300 of a
    # pixel, may add one pixel around the box; 20 / 82 * 42 = 10.2 is still 10.
    assert (lower - upper, right - left) == (20, 10)
    # Pixel 14 of 0..27 is where MNIST has it; a shift by whole pixels leaves half of one.
    assert np.all(np.abs(mass_centre(image_u8) - 14) <= 0.5)
    assert image_u8.max() == 255
    # Strokes of 10 become 2.5, or 10 / 82 * 20 = 2.4: the upright part is as wide in every row.
    assert image_u8[upper + 2 : lower - 4].sum(1) / 255 == pytest.approx(2.5, abs=0.3)


@pytest.mark.parametrize("strokes", [0, 255])
def test_polarity_is_found_and_makes_no_difference(strokes: int, tmp_path: Path) -> None:
    photo = read(Image.fromarray(letter(paper=255 - strokes, strokes=strokes)), tmp_path)
    assert photo.polarity == ("light on dark" if strokes else "dark on light")
    np.testing.assert_array_equal(photo.image_u8[..., 0], seen(Image.fromarray(letter()), tmp_path))


def test_another_shape_scales_the_frame(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(letter()).save(path)
    shape = (56, 56, 1)
    image_u8 = read_photo(path, shape, conventions_of("mnist", shape)).image_u8
    left, upper, right, lower = ends(image_u8[..., 0])
    # 20 / 28 * 56 = 40.
    assert image_u8.shape == shape
    assert lower - upper == 40
    assert right - left == pytest.approx(20, abs=1)


@pytest.mark.parametrize(("name", "box"), [("digits", 20), ("fashion_mnist", 28), ("kmnist", 28)])
def test_other_data_sets_centre_the_box(name: str, box: int, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(letter()).save(path)
    image_u8 = read_photo(path, SHAPE, conventions_of(name, SHAPE)).image_u8[..., 0]
    rows, columns = (np.flatnonzero(image_u8.any(axis)) for axis in (1, 0))
    assert rows[-1] + 1 - rows[0] == box
    # Its middle is that of the image, 14, but for half a pixel where it has an odd width.
    assert rows[0] + rows[-1] + 1 == 28
    assert abs(columns[0] + columns[-1] + 1 - 28) <= 1


def with_alpha(grey: int) -> Image.Image:
    """Strokes of one grey, on nothing: the paper is transparent, and of the same grey."""
    picture = Image.new("LA", (100, 120), (grey, 0))
    picture.putalpha(Image.fromarray(255 - letter()))
    return picture


def palette_with_transparency() -> Image.Image:
    picture = Image.fromarray(letter() // 255).convert("P")
    picture.putpalette([0, 0, 0] * 2)
    picture.info["transparency"] = 1
    return picture


def array(dtype: str, paper: float, strokes: float) -> Image.Image:
    return Image.fromarray(np.where(letter() == 0, strokes, paper).astype(dtype))


KINDS: dict[str, tuple[Callable[[], Image.Image], str]] = {
    "bilevel": (lambda: Image.fromarray(letter()).convert("1"), ".png"),
    "bilevel bmp": (lambda: Image.fromarray(letter()).convert("1"), ".bmp"),
    "rgb": (lambda: Image.fromarray(letter()).convert("RGB"), ".png"),
    "webp": (lambda: Image.fromarray(letter()).convert("RGB"), ".webp"),
    "palette": (lambda: Image.fromarray(letter()).convert("P"), ".png"),
    "gif": (lambda: Image.fromarray(letter()), ".gif"),
    "cmyk": (lambda: Image.fromarray(letter()).convert("RGB").convert("CMYK"), ".tif"),
    "opaque": (lambda: Image.fromarray(letter()).convert("RGBA"), ".png"),
    "black on nothing": (lambda: with_alpha(0), ".png"),
    "white on nothing": (lambda: with_alpha(255), ".png"),
    "black on nothing, rgba": (lambda: with_alpha(0).convert("RGBA"), ".tif"),
    "palette with transparency": (palette_with_transparency, ".png"),
    "16 bits": (lambda: array("uint16", 65535, 0), ".png"),
    "a little of 16 bits": (lambda: array("uint16", 1200, 900), ".png"),
    "big-endian 16 bits": (lambda: array(">u2", 4095, 0), ".tif"),
    "32 bits": (lambda: array("int32", 2_000_000_000, -2_000_000_000), ".tif"),
    "float": (lambda: array("float32", 1.0, 0.0), ".tif"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_mode_says_the_same(kind: str, tmp_path: Path) -> None:
    # Black and white are exact in every mode and in every format that loses nothing: no tolerance.
    make, suffix = KINDS[kind]
    options = {"lossless": True} if suffix == ".webp" else {}
    photo = read(make(), tmp_path, suffix, **options)
    assert photo.polarity == ("light on dark" if kind == "white on nothing" else "dark on light")
    assert photo.original.mode == "RGB"
    np.testing.assert_array_equal(photo.image_u8[..., 0], seen(Image.fromarray(letter()), tmp_path))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_says_nearly_the_same(mode: str, tmp_path: Path) -> None:
    picture = Image.fromarray(letter()).convert("RGB").convert(mode)
    # Where its ringing moves an end of the box by one pixel of 80, edges follow by a quarter of a
    # pixel, a quarter of 255. At most a fifth of the image is edges: 64 / 5, and not all of that.
    difference = seen(picture, tmp_path, ".jpg").astype(int) - seen(picture, tmp_path, ".tif")
    assert np.abs(difference).max() <= 64
    assert np.abs(difference).mean() <= 6


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, None),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_90),  # To be shown turned clockwise: stored the other way.
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_exif_says_where_up_is(
    orientation: int, stored: Image.Transpose | None, tmp_path: Path
) -> None:
    upright = Image.fromarray(letter())
    picture = upright if stored is None else upright.transpose(stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = read(picture, tmp_path, exif=exif)
    assert photo.original.size == upright.size
    np.testing.assert_array_equal(photo.image_u8[..., 0], seen(upright, tmp_path))


def test_damaged_metadata_does_not_matter(tmp_path: Path) -> None:
    upright = Image.fromarray(letter())
    found = seen(upright, tmp_path, exif=b"Exif\0\0no TIFF header")
    np.testing.assert_array_equal(found, seen(upright, tmp_path))


def test_the_first_of_several_frames_counts(tmp_path: Path) -> None:
    first, second = Image.fromarray(letter()), Image.fromarray(letter()).rotate(180)
    found = seen(first, tmp_path, ".gif", save_all=True, append_images=[second])
    np.testing.assert_array_equal(found, seen(first, tmp_path))


def test_a_training_image_comes_back_nearly_as_it_is(tmp_path: Path) -> None:
    # 20 rows by 10 columns around its centre of mass: framed already; soft edges alone change.
    image_u8 = seen(Image.fromarray(letter()), tmp_path)
    again = seen(Image.fromarray(image_u8), tmp_path)
    assert ends(again) == ends(image_u8)
    assert np.abs(again.astype(int) - image_u8).mean() < 3


@pytest.mark.parametrize("size", [(3000, 4000), (4000, 400), (60, 60)])
def test_any_size(size: tuple[int, int], tmp_path: Path) -> None:
    width, height = size
    side = min(size) // 2
    picture = Image.new("L", size, 230)
    picture.paste(20, (width // 4, height // 3, width // 4 + side // 8, height // 3 + side))
    photo = read(picture, tmp_path, ".jpg")
    assert max(photo.original.size) == min(400, max(size))
    _, upper, _, lower = ends(photo.image_u8[..., 0])
    assert abs(lower - upper - 20) <= 1


def test_thin_pens_are_thickened_as_far_as_the_thinnest_of_the_training_set(tmp_path: Path) -> None:
    pixels = np.full((500, 500), 255, np.uint8)
    pixels[100:400, 200:202] = 0
    pixels[398:400, 200:350] = 0
    image_u8 = seen(Image.fromarray(pixels), tmp_path)
    # 2 pixels of 300 would be 0.13 of 20; the conventions ask for 2, which is 0.1 of the box, give
    # or take a pixel of the 300 in which it is drawn at both edges: 2 * 20 / 300 = 0.13.
    _, upper, _, lower = ends(image_u8)
    assert lower - upper == 20
    assert image_u8[upper + 3 : lower - 4].sum(1) / 255 == pytest.approx(2, abs=0.3)


def test_stroke_width() -> None:
    # Of a 5x5 square, 2 * 25 / 20 = 2.5; of a long bar, its width: 2 * 300 / (2 * 103) = 2.9. The
    # central differences cut corners, by some per cent.
    square, bar = np.zeros((9, 9), np.float32), np.zeros((9, 110), np.float32)
    square[2:7, 2:7] = bar[3:6, 5:105] = 1
    assert frame.stroke_width(square) == pytest.approx(2.5, rel=0.15)
    assert frame.stroke_width(bar) == pytest.approx(2.9, rel=0.05)


def test_paper_is_neither_even_nor_clean(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    large = np.full((240, 300), 1.0)
    large[100:220, 20:120] -= (255 - letter()) / 255 * 0.6
    y, x = np.indices(large.shape)
    light = 90 + 0.4 * x + 0.2 * y  # From 90 to 258: the paper here is darker than the ink there.
    light[:, 200:] *= 0.6  # A shadow with a sharp edge.
    pixels = light * large + generator.normal(0, 5, large.shape)
    for row, column in generator.integers(5, 230, (20, 2)):
        pixels[row : row + 2, column : column + 2] = 40  # Specks.
    pixels[:, :3] = 20  # What the border cuts: the edge of the table.
    found = seen(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), tmp_path)
    clean = seen(Image.fromarray(letter()), tmp_path)
    # A box that noise makes wrong by a pixel of 80 moves both edges of a stroke by 1/4: 0.5 of
    # 2.5, a fifth. Any other letter shares less than half of its ink.
    assert np.minimum(found, clean).sum() > 0.75 * np.maximum(found, clean).sum()


def surrounded(table: int, line: int, turned: float) -> Image.Image:
    """The letter on a sheet of 160x180, within a line of that width, on a table of 400x400."""
    sheet = np.full((180, 160), 235, np.uint8)
    sheet[15:165, 15:145] = 20
    sheet[15 + line : 165 - line, 15 + line : 145 - line] = 235
    sheet[35:145, 35:125] = letter(paper=235, strokes=20)[5:115, 5:95]
    large = Image.fromarray(sheet)
    picture = Image.new("L", (400, 400), table)
    kind = Image.Resampling.BICUBIC
    cover = Image.new("L", large.size, 255).rotate(turned, kind, expand=True)
    picture.paste(large.rotate(turned, kind, expand=True), (90, 120), cover)
    return picture


@pytest.mark.parametrize(
    ("table", "line", "turned"),
    [(60, 0, 0), (120, 0, 4), (255, 0, 0), (235, 3, 0), (235, 6, 4), (60, 3, -4)],
)
def test_neither_a_sheet_nor_a_frame_is_ink(
    table: int, line: int, turned: float, tmp_path: Path
) -> None:
    photo = read(surrounded(table, line, turned), tmp_path)
    clean = Image.fromarray(letter(paper=235, strokes=20)).rotate(
        turned, Image.Resampling.BICUBIC, fillcolor=235
    )
    assert photo.polarity == "dark on light"
    found, alone = photo.image_u8[..., 0], seen(clean, tmp_path)
    # As on uneven paper: a box that is wrong by a pixel of 80 changes a fifth.
    assert np.minimum(found, alone).sum() > 0.75 * np.maximum(found, alone).sum()


def test_colours_that_are_equally_light_differ(tmp_path: Path) -> None:
    # 0.299 * 76 = 22.7 = 0.114 * 199.
    mask = letter()[..., np.newaxis] == 0
    picture = Image.fromarray(np.where(mask, (76, 0, 0), (0, 0, 199)).astype(np.uint8))
    assert ends(seen(picture, tmp_path)) == ends(seen(Image.fromarray(letter()), tmp_path))


@pytest.mark.parametrize("hole", [0, 20, 35])
def test_a_rectangle_that_holds_nothing_is_ink(hole: int, tmp_path: Path) -> None:
    # A 1 of a fat pen, and square 0s of a fat and of a thin one: 40 or 80 pixels by 120.
    side = 20 if hole == 0 else 40
    pixels = np.full((240, 240), 255, np.uint8)
    pixels[60:180, 120 - side : 120 + side] = 0
    pixels[100 - hole : 140 + hole, 120 - hole : 120 + hole] = 255 if hole else 0
    photo = read(Image.fromarray(pixels), tmp_path)
    left, upper, right, lower = ends(photo.image_u8[..., 0])
    assert photo.polarity == "dark on light"
    # 20 by 2 * side / 120 of it: 6.7 or 13.3.
    assert lower - upper == 20
    assert right - left == pytest.approx(20 * 2 * side / 120, abs=1)


@pytest.mark.parametrize(
    ("paper", "strokes", "is_dark"),
    [
        ((255, 255, 255), (255, 230, 0), True),
        ((245, 240, 230), (220, 30, 30), True),
        ((60, 130, 60), (255, 80, 0), True),
        ((20, 40, 30), (240, 240, 200), False),
    ],
    ids=["yellow on white", "red on cream", "orange on green", "chalk on a board"],
)
def test_ink_has_any_colour(
    paper: tuple[int, int, int], strokes: tuple[int, int, int], is_dark: bool, tmp_path: Path
) -> None:
    mask = letter()[..., np.newaxis] == 0
    picture = Image.fromarray(np.where(mask, strokes, paper).astype(np.uint8))
    photo = read(picture, tmp_path)
    if paper != (60, 130, 60):  # Where both are as light, either answer is as good.
        assert photo.polarity == ("dark on light" if is_dark else "light on dark")
    difference = photo.image_u8[..., 0].astype(int) - seen(Image.fromarray(letter()), tmp_path)
    assert np.abs(difference).max() <= 2  # The direction of a colour is computed, and rounded.


def test_colour_images_are_only_cut_and_scaled(tmp_path: Path) -> None:
    shape = (32, 32, 3)
    conventions = conventions_of("cifar10", shape)
    assert conventions is None
    picture = Image.new("RGB", (96, 64), (200, 0, 0))
    picture.paste((0, 0, 200), (48, 0, 96, 64))
    picture.save(tmp_path / "picture.png")
    photo = read_photo(tmp_path / "picture.png", shape, conventions)
    assert photo.image_u8.shape == shape
    assert photo.polarity is None
    # Columns 16 to 79 remain, halved: red up to column 16, less the width of the interpolation.
    assert np.all(photo.image_u8[:, :13] == (200, 0, 0))
    assert np.all(photo.image_u8[:, 19:] == (0, 0, 200))


def test_two_channels_are_refused() -> None:
    with pytest.raises(UserError, match="2 channels: allowed are 1 and 3"):
        conventions_of("mine", (28, 28, 2))


def png_header(width: int, height: int) -> bytes:
    """A whole PNG but for its pixels."""
    content = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + content + struct.pack(">I", zlib.crc32(content))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT" + bytes(9)


def whole(suffix: str, folder: Path) -> bytes:
    path = folder / f"whole{suffix}"
    Image.fromarray(letter()).save(path)
    return path.read_bytes()


def test_a_file_that_is_no_picture_says_so(tmp_path: Path) -> None:
    contents = {
        b"": "is empty",
        b"no picture at all\n": "holds no picture that Pillow knows; save it as JPEG or PNG",
        # A program in PostScript, which Pillow would hand to Ghostscript.
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n": "holds no picture .*",
        png_header(60_000, 60_000): "is too large: allowed are [0-9,]+ pixels, in memory",
        whole(".png", tmp_path)[:-40]: "is truncated",
        whole(".jpg", tmp_path)[:-200]: "is truncated",
        whole(".bmp", tmp_path)[:-200]: "is truncated",
    }
    path = tmp_path / "picture.png"
    for content, reason in contents.items():
        path.write_bytes(content)
        with pytest.raises(PhotoError, match=f"^{reason}$"):
            read_photo(path, SHAPE, conventions_of("mnist", SHAPE))


def test_what_is_no_file_says_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # Nobody will ever write to it: whoever opens it, waits.
    (tmp_path / "loop").symlink_to("loop")
    reasons = {
        "": "is a folder",
        "fifo": "is no regular file",
        "missing": "cannot be read: No such file",
        "loop": "cannot be read: Too many levels",
        "x" * 300: "cannot be read: File name too long",
        "null\0byte": "is damaged: .*null",
    }
    for name, reason in reasons.items():
        with pytest.raises(PhotoError, match=f"^{reason}"):
            read_photo(tmp_path / name, SHAPE, conventions_of("mnist", SHAPE))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (28, 28), (2000, 10)])
def test_a_picture_of_one_colour_shows_nothing(size: tuple[int, int], tmp_path: Path) -> None:
    for mode in ("L", "RGBA", "I;16", "F"):
        with pytest.raises(PhotoError, match=r"^shows nothing: it is of one colour$"):
            read(Image.new(mode, size, 7), tmp_path, ".tif")


def test_pillows_warning_of_a_large_picture_stays_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # 100 * 120 are more, but no 20,000.
    read(Image.fromarray(letter()), tmp_path)


@hostile
@given(st.data())
def test_any_damage_gives_a_picture_or_a_reason(tmp_path: Path, data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from([".png", ".jpg", ".gif", ".bmp"]))
    path = tmp_path / "spoilt"
    path.write_bytes(data.draw(spoilt(whole(suffix, tmp_path))))
    with contextlib.suppress(PhotoError):
        assert read_photo(path, SHAPE, conventions_of("mnist", SHAPE)).image_u8.shape == SHAPE


def taken(image_u8: Pixels, generator: np.random.Generator) -> Image.Image:
    """A training image as if photographed: large, dark on light, anywhere, in uneven light."""
    side = int(28 * generator.uniform(3, 12))
    digit = Image.fromarray(image_u8).resize((side, side), Image.Resampling.BICUBIC)
    height, width = (int(side * generator.uniform(1.2, 2.2)) for _ in range(2))
    drawn = Image.new("L", (width, height))
    left, top = (int(generator.integers(0, length - side)) for length in (width, height))
    drawn.paste(digit, (left, top))
    y, x = np.indices((height, width)) / max(height, width) - 0.5
    angle = generator.uniform(0, 2 * np.pi)
    light = 210 + 80 * (np.cos(angle) * x + np.sin(angle) * y)
    pixels = light * (1 - 0.8 * np.asarray(drawn) / 255)
    pixels += generator.normal(0, 12, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def accuracies(
    network: trained.TrainedModel, name: str, split: Examples, folder: Path
) -> list[float]:
    """Of the images themselves, saved as pictures, and as if photographed."""
    generator = np.random.default_rng(0)
    conventions = conventions_of(name, SHAPE)
    kinds = (
        (Image.fromarray, folder / "saved"),
        (lambda image_u8: taken(image_u8, generator), folder / "photographed"),
    )
    said = [network.logits(split.image).argmax(1)]
    for make, place in kinds:
        place.mkdir()
        paths = [place / f"{number}.bmp" for number in range(len(split.label))]
        for path, image_u8 in zip(paths, split.image[..., 0], strict=True):
            make(image_u8).save(path)
        photos = read_photos(paths, SHAPE, conventions)
        assert not [photo for photo in photos if isinstance(photo, PhotoError)]
        image_u8 = np.array([photo.image_u8 for photo in photos if isinstance(photo, Photo)])
        said.append(network.logits(image_u8).argmax(1))
    return [float(np.mean(labels == split.label)) for labels in said]


def test_photographs_of_the_bundled_digits_are_read(
    digits_run: tuple[Path, Any], tmp_path: Path
) -> None:
    network = trained.load(str(digits_run[0]), None, warnings.warn)
    test = data.load("digits").test
    some = Examples(test.image[:100], test.label[:100])
    plain, saved, photographed = accuracies(network, "digits", some, tmp_path)
    assert plain > 0.9
    assert saved >= 0.95 * plain
    assert photographed >= 0.95 * plain


def test_photographs_of_mnist_are_read(fast_run: Path, tmp_path: Path) -> None:
    # A thousand pictures take half a minute: that many are promised.
    network = trained.load(str(fast_run), None, warnings.warn)
    test = data.load("mnist").test
    thousand = Examples(test.image[:1000], test.label[:1000])
    plain, saved, photographed = accuracies(network, "mnist", thousand, tmp_path)
    assert plain > 0.97
    assert saved >= 0.99 * plain
    assert photographed >= 0.95 * plain

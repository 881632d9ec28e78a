"""Pictures of all kinds, read as images framed like those of the training set."""

import contextlib
import os
import struct
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
from sklearn.datasets import load_digits

from cnn_jax import data
from cnn_jax.data import Examples
from cnn_jax.errors import UserError
from cnn_jax.evaluation.loading import load
from cnn_jax.evaluation.trained import TrainedModel
from cnn_jax.preprocessing import frame
from cnn_jax.preprocessing.decode import PhotoError
from cnn_jax.preprocessing.frame import conventions_of
from cnn_jax.preprocessing.ink import Ink
from cnn_jax.preprocessing.pages import Page
from cnn_jax.preprocessing.photo import Photo, read_photo, read_photos, read_picture
from tests.support.hostile import damaged_bytes, hostile

SHAPE = (28, 28, 1)
Pixels = npt.NDArray[np.uint8]


def letter(*, paper: int = 255, strokes: int = 0) -> Pixels:
    """Draws an L, which has no symmetry: 40x80 pixels with strokes of 10, on 100x120 pixels."""
    pixels = np.full((120, 100), paper, np.uint8)
    pixels[20:100, 30:40] = strokes
    pixels[90:100, 30:70] = strokes
    return pixels


def save_and_read(
    picture: Image.Image, folder: Path, suffix: str = ".png", **options: Any
) -> Photo:
    """Saves a picture as a file, with options of Pillow's `save`, and reads it."""
    path = folder / f"picture{suffix}"
    picture.save(path, **options)
    conventions = conventions_of("mnist", SHAPE)
    (photo,) = read_photos([Page(path)], SHAPE, conventions, keep_original=True)
    if isinstance(photo, PhotoError):
        raise photo
    return photo


def model_input(picture: Image.Image, folder: Path, suffix: str = ".png", **options: Any) -> Pixels:
    """Saves a picture as a file, and reads the image that the model takes: uint8 [28, 28]."""
    return save_and_read(picture, folder, suffix, **options).image_u8[..., 0]


def bounding_box(image_u8: Pixels) -> tuple[int, int, int, int]:
    """Returns left, upper, right and lower end of the pixels above half intensity."""
    rows, columns = (np.flatnonzero((image_u8 > 127).any(axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def centre_of_mass(image_u8: Pixels) -> npt.NDArray[np.float64]:
    """Returns the mean of (row, column), weighted by the pixels."""
    return np.array([np.average(index, weights=image_u8) for index in np.indices(image_u8.shape)])


def test_drawing_fills_mnists_box_around_its_centre_of_mass(tmp_path: Path) -> None:
    image_u8 = model_input(Image.fromarray(letter()), tmp_path)
    left, upper, right, lower = bounding_box(image_u8)
    # The scale is 20 / 80, so the width of 40 becomes 10. The blur against noise, 120 / 300 of a
    # pixel, may add one pixel on each side of the box; 20 / 82 * 42 = 10.2 is still 10.
    assert (lower - upper, right - left) == (20, 10)
    # MNIST centres it at pixel 14 of 0..27; a shift by an integer leaves at most half a pixel.
    assert np.all(np.abs(centre_of_mass(image_u8) - 14) <= 0.5)
    assert image_u8.max() == 255
    # Strokes of 10 become 2.5, or 10 / 82 * 20 = 2.4: the upright stroke, in every row.
    assert image_u8[upper + 2 : lower - 4].sum(1) / 255 == pytest.approx(2.5, abs=0.3)


def test_straight_stroke_is_centred_between_the_same_pixels_whatever_its_edges() -> None:
    # Its rows 0 to 19 have their centre at 9.5. 28 / 2 - 9.5 = 4.5 rounds to the even row 4.
    for edge in np.linspace(0.05, 0.95, 19, dtype=np.float32):
        strength = np.tile(np.array([edge, 1, 1, edge], np.float32), (20, 1))
        conventions = conventions_of("mnist", SHAPE)
        assert conventions
        image_u8 = frame.frame_ink(Ink(strength, is_dark=True), SHAPE[:2], conventions)
        assert np.flatnonzero(image_u8.any(axis=1)).tolist() == list(range(4, 24))


@pytest.mark.parametrize("strokes", [0, 255])
def test_polarity_is_detected_and_makes_no_difference(strokes: int, tmp_path: Path) -> None:
    photo = save_and_read(Image.fromarray(letter(paper=255 - strokes, strokes=strokes)), tmp_path)
    assert photo.polarity == ("light on dark" if strokes else "dark on light")
    np.testing.assert_array_equal(
        photo.image_u8[..., 0], model_input(Image.fromarray(letter()), tmp_path)
    )


def test_image_shape_scales_the_frame(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(letter()).save(path)
    shape = (56, 56, 1)
    image_u8 = read_photo(path, shape, conventions_of("mnist", shape)).image_u8
    left, upper, right, lower = bounding_box(image_u8[..., 0])
    # 20 / 28 * 56 = 40.
    assert image_u8.shape == shape
    assert lower - upper == 40
    assert right - left == pytest.approx(20, abs=1)


@pytest.mark.parametrize(("name", "box"), [("digits", 20), ("fashion_mnist", 28), ("kmnist", 28)])
def test_other_data_sets_centre_the_bounding_box(name: str, box: int, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(letter()).save(path)
    image_u8 = read_photo(path, SHAPE, conventions_of(name, SHAPE)).image_u8[..., 0]
    rows, columns = (np.flatnonzero(image_u8.any(axis)) for axis in (1, 0))
    assert rows[-1] + 1 - rows[0] == box
    # Both have their middle at 14; an odd width shifts it by half a pixel.
    assert rows[0] + rows[-1] + 1 == 28
    assert abs(columns[0] + columns[-1] + 1 - 28) <= 1


def on_transparent_paper(grey: int) -> Image.Image:
    """Draws the letter in one grey on transparent paper of the same grey."""
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
    "black on transparent": (lambda: on_transparent_paper(0), ".png"),
    "white on transparent": (lambda: on_transparent_paper(255), ".png"),
    "black on transparent, rgba": (lambda: on_transparent_paper(0).convert("RGBA"), ".tif"),
    "palette with transparency": (palette_with_transparency, ".png"),
    "16 bits": (lambda: array("uint16", 65535, 0), ".png"),
    "a part of 16 bits": (lambda: array("uint16", 1200, 900), ".png"),
    "big-endian 16 bits": (lambda: array(">u2", 4095, 0), ".tif"),
    "32 bits": (lambda: array("int32", 2_000_000_000, -2_000_000_000), ".tif"),
    "float": (lambda: array("float32", 1.0, 0.0), ".tif"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_mode_gives_the_same_image(kind: str, tmp_path: Path) -> None:
    # Black and white are exact in every mode and every lossless format: no tolerance.
    draw, suffix = KINDS[kind]
    options = {"lossless": True} if suffix == ".webp" else {}
    photo = save_and_read(draw(), tmp_path, suffix, **options)
    assert photo.polarity == (
        "light on dark" if kind == "white on transparent" else "dark on light"
    )
    assert photo.original
    assert photo.original.mode == "RGB"
    np.testing.assert_array_equal(
        photo.image_u8[..., 0], model_input(Image.fromarray(letter()), tmp_path)
    )


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_gives_nearly_the_same_image(mode: str, tmp_path: Path) -> None:
    picture = Image.fromarray(letter()).convert("RGB").convert(mode)
    # JPEG's ringing may move an end of the box by one pixel of 80, and so the edges by a quarter of
    # a pixel: 255 / 4 = 64. At most a fifth of the pixels are edges, a mean of at most 64 / 5; half
    # of that is allowed.
    difference = model_input(picture, tmp_path, ".jpg").astype(int) - model_input(
        picture, tmp_path, ".tif"
    )
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
        (6, Image.Transpose.ROTATE_90),  # Shown rotated clockwise, so stored counterclockwise.
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_exif_orientation_is_applied(
    orientation: int, stored: Image.Transpose | None, tmp_path: Path
) -> None:
    upright = Image.fromarray(letter())
    picture = upright if stored is None else upright.transpose(stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = save_and_read(picture, tmp_path, exif=exif)
    assert photo.original
    assert photo.original.size == upright.size
    np.testing.assert_array_equal(photo.image_u8[..., 0], model_input(upright, tmp_path))


def test_damaged_metadata_is_ignored(tmp_path: Path) -> None:
    upright = Image.fromarray(letter())
    image_u8 = model_input(upright, tmp_path, exif=b"Exif\0\0no TIFF header")
    np.testing.assert_array_equal(image_u8, model_input(upright, tmp_path))


def test_first_of_several_frames_is_read(tmp_path: Path) -> None:
    first, second = Image.fromarray(letter()), Image.fromarray(letter()).rotate(180)
    image_u8 = model_input(first, tmp_path, ".gif", save_all=True, append_images=[second])
    np.testing.assert_array_equal(image_u8, model_input(first, tmp_path))


def test_training_image_is_nearly_unchanged(tmp_path: Path) -> None:
    # It is framed already, 20 rows by 10 columns around its centre of mass; only soft edges change.
    image_u8 = model_input(Image.fromarray(letter()), tmp_path)
    again = model_input(Image.fromarray(image_u8), tmp_path)
    assert bounding_box(again) == bounding_box(image_u8)
    assert np.abs(again.astype(int) - image_u8).mean() < 3


@pytest.mark.parametrize("size", [(3000, 4000), (4000, 400), (60, 60)])
def test_pictures_of_any_size_are_framed(size: tuple[int, int], tmp_path: Path) -> None:
    width, height = size
    side = min(size) // 2
    picture = Image.new("L", size, 230)
    picture.paste(20, (width // 4, height // 3, width // 4 + side // 8, height // 3 + side))
    photo = save_and_read(picture, tmp_path, ".jpg")
    assert photo.original
    assert max(photo.original.size) == min(400, max(size))
    _, upper, _, lower = bounding_box(photo.image_u8[..., 0])
    assert abs(lower - upper - 20) <= 1


@pytest.mark.parametrize("side", [2, 9, 50])
def test_picture_enlarged_by_squares_is_read_as_the_tiny_one(side: int, tmp_path: Path) -> None:
    digits = np.round(load_digits().images[:3] * 255 / 16).astype(np.uint8)  # 8x8 pixels.
    for digit in digits:
        tiny = save_and_read(Image.fromarray(digit), tmp_path)
        squares = Image.fromarray(np.kron(digit, np.ones((side, side), np.uint8)))
        enlarged = save_and_read(squares, tmp_path)
        np.testing.assert_array_equal(enlarged.image_u8, tiny.image_u8)
        (crop,), (tiny_crop,) = enlarged.lines[0], tiny.lines[0]
        assert crop.box == tuple(side * end for end in tiny_crop.box)


def test_picture_of_squares_and_one_pixel_more_is_itself(tmp_path: Path) -> None:
    digit = np.round(load_digits().images[0] * 255 / 16).astype(np.uint8)
    for other, size in ((None, (8, 8)), ((40, 41), (80, 80)), ((1, 0), (80, 80))):
        picture = Image.fromarray(np.kron(digit, np.ones((10, 10), np.uint8)))
        if other:
            picture.putpixel(other, 128)
        original = save_and_read(picture, tmp_path).original
        assert original
        assert original.size == size
    # A drawing of few rectangles with round coordinates is no enlarged picture.
    original = save_and_read(Image.fromarray(letter()), tmp_path).original
    assert original
    assert original.size == (100, 120)


def test_thin_strokes_are_thickened_to_the_thinnest_of_the_training_set(tmp_path: Path) -> None:
    pixels = np.full((500, 500), 255, np.uint8)
    pixels[100:400, 200:202] = 0
    pixels[398:400, 200:350] = 0
    image_u8 = model_input(Image.fromarray(pixels), tmp_path)
    # Strokes of 2 of 300 pixels would become 0.13 of 20. The conventions require a width of 2, a
    # tenth of the box, within a pixel of the 300 at each edge: 2 * 20 / 300 = 0.13.
    _, upper, _, lower = bounding_box(image_u8)
    assert lower - upper == 20
    assert image_u8[upper + 3 : lower - 4].sum(1) / 255 == pytest.approx(2, abs=0.3)


def test_stroke_width_is_twice_the_area_over_the_perimeter() -> None:
    # 5x5 square: 2 * 25 / 20 = 2.5. Bar of 3x100, about its width: 2 * 300 / (2 * 103) = 2.9.
    # Central differences cut the corners, which changes some per cent.
    square, bar = np.zeros((9, 9), np.float32), np.zeros((9, 110), np.float32)
    square[2:7, 2:7] = bar[3:6, 5:105] = 1
    assert frame.stroke_width(square) == pytest.approx(2.5, rel=0.15)
    assert frame.stroke_width(bar) == pytest.approx(2.9, rel=0.05)


def test_ink_is_found_on_uneven_and_dirty_paper(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    large = np.full((240, 300), 1.0)
    large[100:220, 20:120] -= (255 - letter()) / 255 * 0.6
    y, x = np.indices(large.shape)
    light = 90 + 0.4 * x + 0.2 * y  # 90 to 258: some paper is darker than some ink.
    light[:, 200:] *= 0.6  # A shadow with a sharp edge.
    pixels = light * large + generator.normal(0, 5, large.shape)
    for row, column in generator.integers(5, 230, (20, 2)):
        pixels[row : row + 2, column : column + 2] = 40  # Specks.
    pixels[:, :3] = 20  # The edge of the table, cut by the border.
    dirty = model_input(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), tmp_path)
    clean = model_input(Image.fromarray(letter()), tmp_path)
    # Noise may move the box by a pixel of 80, and both edges of a stroke by 1/4: 0.5 of 2.5, a
    # fifth. Any other letter shares less than half of its ink.
    assert np.minimum(dirty, clean).sum() > 0.75 * np.maximum(dirty, clean).sum()


def letter_on_a_table(table: int, line: int, angle: float) -> Image.Image:
    """Draws the letter on a sheet of 160x180 pixels on a table of 400x400.

    Args:
      table: grey of the table, 0..255; that of the sheet is 235.
      line: width in pixels of a frame around the letter; 0 for none.
      angle: rotation of the sheet in degrees, counterclockwise.
    """
    sheet = np.full((180, 160), 235, np.uint8)
    sheet[15:165, 15:145] = 20
    sheet[15 + line : 165 - line, 15 + line : 145 - line] = 235
    sheet[35:145, 35:125] = letter(paper=235, strokes=20)[5:115, 5:95]
    large = Image.fromarray(sheet)
    picture = Image.new("L", (400, 400), table)
    bicubic = Image.Resampling.BICUBIC
    mask = Image.new("L", large.size, 255).rotate(angle, bicubic, expand=True)
    picture.paste(large.rotate(angle, bicubic, expand=True), (90, 120), mask)
    return picture


@pytest.mark.parametrize(
    ("table", "line", "angle"),
    [(60, 0, 0), (120, 0, 4), (255, 0, 0), (235, 3, 0), (235, 6, 4), (60, 3, -4)],
)
def test_sheets_and_frames_are_not_ink(table: int, line: int, angle: float, tmp_path: Path) -> None:
    photo = save_and_read(letter_on_a_table(table, line, angle), tmp_path)
    clean = Image.fromarray(letter(paper=235, strokes=20)).rotate(
        angle, Image.Resampling.BICUBIC, fillcolor=235
    )
    assert photo.polarity == "dark on light"
    image_u8, expected = photo.image_u8[..., 0], model_input(clean, tmp_path)
    # A box that is wrong by a pixel of 80 changes a fifth, as on uneven paper.
    assert np.minimum(image_u8, expected).sum() > 0.75 * np.maximum(image_u8, expected).sum()


def test_colours_of_equal_luma_are_told_apart(tmp_path: Path) -> None:
    # The luma of both: 0.299 * 76 = 22.7 = 0.114 * 199.
    mask = letter()[..., np.newaxis] == 0
    picture = Image.fromarray(np.where(mask, (76, 0, 0), (0, 0, 199)).astype(np.uint8))
    assert bounding_box(model_input(picture, tmp_path)) == bounding_box(
        model_input(Image.fromarray(letter()), tmp_path)
    )


@pytest.mark.parametrize("hole", [0, 20, 35])
def test_empty_rectangle_is_ink(hole: int, tmp_path: Path) -> None:
    # A 1 of a thick pen, and square 0s of a thick and of a thin pen: 40 or 80 pixels by 120.
    side = 20 if hole == 0 else 40
    pixels = np.full((240, 240), 255, np.uint8)
    pixels[60:180, 120 - side : 120 + side] = 0
    pixels[100 - hole : 140 + hole, 120 - hole : 120 + hole] = 255 if hole else 0
    photo = save_and_read(Image.fromarray(pixels), tmp_path)
    left, upper, right, lower = bounding_box(photo.image_u8[..., 0])
    assert photo.polarity == "dark on light"
    # Height 20, width 2 * side / 120 of it: 6.7 or 13.3.
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
def test_ink_may_have_any_colour(
    paper: tuple[int, int, int], strokes: tuple[int, int, int], is_dark: bool, tmp_path: Path
) -> None:
    mask = letter()[..., np.newaxis] == 0
    picture = Image.fromarray(np.where(mask, strokes, paper).astype(np.uint8))
    photo = save_and_read(picture, tmp_path)
    if paper != (60, 130, 60):  # Its luma is ambiguous: either polarity is right.
        assert photo.polarity == ("dark on light" if is_dark else "light on dark")
    difference = photo.image_u8[..., 0].astype(int) - model_input(
        Image.fromarray(letter()), tmp_path
    )
    assert np.abs(difference).max() <= 2  # The axis between two colours is rounded.


def test_rgb_images_are_only_cropped_and_resized(tmp_path: Path) -> None:
    shape = (32, 32, 3)
    conventions = conventions_of("cifar10", shape)
    assert conventions is None
    picture = Image.new("RGB", (96, 64), (200, 0, 0))
    picture.paste((0, 0, 200), (48, 0, 96, 64))
    picture.save(tmp_path / "picture.png")
    photo = read_photo(tmp_path / "picture.png", shape, conventions)
    assert photo.image_u8.shape == shape
    assert photo.polarity is None
    # Columns 16 to 79 remain, at half size: red ends at column 16, within the interpolation.
    assert np.all(photo.image_u8[:, :13] == (200, 0, 0))
    assert np.all(photo.image_u8[:, 19:] == (0, 0, 200))


@pytest.mark.parametrize("shape", [SHAPE, (56, 40, 1), (32, 32, 3)])
def test_read_picture_equals_read_photo_with_mnists_conventions(
    shape: tuple[int, int, int], tmp_path: Path
) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(letter()).save(path)
    expected = read_photo(path, shape, conventions_of("mnist", shape)).image_u8
    for argument in (path, str(path)):
        image_u8 = read_picture(argument, shape)
        assert image_u8.dtype == np.uint8
        np.testing.assert_array_equal(image_u8, expected)


def test_read_picture_gives_images_of_mnists_shape_by_default(tmp_path: Path) -> None:
    expected = model_input(Image.fromarray(letter()), tmp_path)
    image_u8 = read_picture(str(tmp_path / "picture.png"))
    assert image_u8.shape == SHAPE
    np.testing.assert_array_equal(image_u8[..., 0], expected)


def test_error_of_read_picture_names_the_file(tmp_path: Path) -> None:
    empty, missing = tmp_path / "empty.png", tmp_path / "missing.png"
    empty.touch()
    reasons = {empty: "is empty", missing: "cannot be read: No such file or directory"}
    for path, reason in reasons.items():
        for argument in (path, str(path)):
            with pytest.raises(PhotoError) as error:
                read_picture(argument)
            assert str(error.value) == (
                f"cannot read {path} (it {reason}): it must be a picture that Pillow decodes and "
                "that shows something. Choose another file."
            )


def test_two_channels_are_refused() -> None:
    with pytest.raises(
        UserError,
        match=r"^images of mine have 2 channels: .* must have 1 \(grey\) or 3 \(RGB\)\. Use",
    ):
        conventions_of("mine", (28, 28, 2))
    with pytest.raises(UserError, match=r"^images of mnist have 2 channels: "):
        read_picture("picture.png", (28, 28, 2))


def png_header(width: int, height: int) -> bytes:
    """Encodes a PNG file with an intact header and no valid pixels."""
    content = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + content + struct.pack(">I", zlib.crc32(content))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT" + bytes(9)


def encoded_letter(suffix: str, folder: Path) -> bytes:
    """Returns the content of an intact picture file of the letter."""
    path = folder / f"letter{suffix}"
    Image.fromarray(letter()).save(path)
    return path.read_bytes()


def test_file_that_is_not_a_picture_is_refused_with_a_reason(tmp_path: Path) -> None:
    huge = png_header(60_000, 60_000)
    no_format = "has no format that Pillow decodes: save it as JPEG or PNG"
    contents = {
        b"": "is empty",
        b"no picture at all\n": no_format,
        # A PostScript program, which Pillow would pass to Ghostscript.
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n": no_format,
        huge: "is too large: it must have at most [0-9,]+ pixels and fit in memory",
        encoded_letter(".png", tmp_path)[:-40]: "is truncated",
        encoded_letter(".jpg", tmp_path)[:-200]: "is truncated",
        encoded_letter(".bmp", tmp_path)[:-200]: "is truncated",
    }
    path = tmp_path / "picture.png"
    for content, reason in contents.items():
        path.write_bytes(content)
        with pytest.raises(PhotoError, match=f"^{reason}$"):
            read_photo(path, SHAPE, conventions_of("mnist", SHAPE))


def test_path_that_is_not_a_file_is_refused_with_a_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # It has no writer: opening it would block.
    (tmp_path / "loop").symlink_to("loop")
    reasons = {
        "": "is a folder",
        "fifo": "is not a regular file",
        "missing": "cannot be read: No such file",
        "loop": "cannot be read: Too many levels",
        "x" * 300: "cannot be read: File name too long",
        "null\0byte": "is damaged: .*null",
    }
    for name, reason in reasons.items():
        with pytest.raises(PhotoError, match=f"^{reason}"):
            read_photo(tmp_path / name, SHAPE, conventions_of("mnist", SHAPE))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (28, 28), (2000, 10)])
def test_picture_of_one_colour_is_refused(size: tuple[int, int], tmp_path: Path) -> None:
    for mode in ("L", "RGBA", "I;16", "F"):
        with pytest.raises(PhotoError, match=r"^shows nothing: all its pixels have one colour$"):
            save_and_read(Image.new(mode, size, 7), tmp_path, ".tif")


def test_pillows_warning_about_a_large_picture_is_suppressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", 10_000
    )  # 100 * 120 = 12,000 are more, but less than twice.
    save_and_read(Image.fromarray(letter()), tmp_path)


@hostile
@given(st.data())
def test_damaged_file_gives_a_picture_or_a_reason(tmp_path: Path, data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from([".png", ".jpg", ".gif", ".bmp"]))
    path = tmp_path / "damaged"
    path.write_bytes(data.draw(damaged_bytes(encoded_letter(suffix, tmp_path))))
    with contextlib.suppress(PhotoError):
        assert read_photo(path, SHAPE, conventions_of("mnist", SHAPE)).image_u8.shape == SHAPE


def simulate_photo(image_u8: Pixels, generator: np.random.Generator) -> Image.Image:
    """Draws an image as if photographed: large, dark on light, off centre, in uneven light."""
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


def accuracies(trained: TrainedModel, name: str, examples: Examples, folder: Path) -> list[float]:
    """Returns the accuracy on images: as they are, saved as pictures, and as if photographed.

    Args:
      trained: model that predicts.
      name: name of the data set.
      examples: images and labels.
      folder: receives the pictures.
    """
    generator = np.random.default_rng(0)
    conventions = conventions_of(name, SHAPE)
    kinds = (
        (Image.fromarray, folder / "saved"),
        (lambda image_u8: simulate_photo(image_u8, generator), folder / "photographed"),
    )
    predictions = [trained.logits(examples.image).argmax(1)]
    for draw, subfolder in kinds:
        subfolder.mkdir()
        paths = [subfolder / f"{index}.bmp" for index in range(len(examples.label))]
        for path, image_u8 in zip(paths, examples.image[..., 0], strict=True):
            draw(image_u8).save(path)
        photos = read_photos([Page(path) for path in paths], SHAPE, conventions)
        assert not [photo for photo in photos if isinstance(photo, PhotoError)]
        image_u8 = np.array([photo.image_u8 for photo in photos if isinstance(photo, Photo)])
        predictions.append(trained.logits(image_u8).argmax(1))
    return [float(np.mean(labels == examples.label)) for labels in predictions]


@pytest.mark.real_data
def test_photos_of_the_bundled_digits_are_recognized(
    digits_run: tuple[Path, Any], tmp_path: Path
) -> None:
    trained = load(digits_run[0])
    test = data.load("digits").test
    hundred = Examples(test.image[:100], test.label[:100])
    plain, saved, photographed = accuracies(trained, "digits", hundred, tmp_path)
    assert plain > 0.9
    assert saved >= 0.95 * plain
    assert photographed >= 0.95 * plain


@pytest.mark.real_data
def test_photos_of_mnist_are_recognized(fast_run: Path, tmp_path: Path) -> None:
    # 400 pictures take half a minute.
    trained = load(fast_run)
    test = data.load("mnist").test
    some = Examples(test.image[:400], test.label[:400])
    plain, saved, photographed = accuracies(trained, "mnist", some, tmp_path)
    assert plain > 0.97
    assert saved >= 0.99 * plain
    assert photographed >= 0.95 * plain

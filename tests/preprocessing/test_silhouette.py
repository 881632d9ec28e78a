"""Things on a ground of one colour: clothes found whole, with their greys, and framed."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFilter

from cnn_jax.preprocessing.decode import PhotoError
from cnn_jax.preprocessing.frame import conventions_of
from cnn_jax.preprocessing.photo import Photo, read_photo
from cnn_jax.preprocessing.silhouette import find_silhouette

SHAPE = (28, 28, 1)
Colour = tuple[int, int, int]
Pixels = npt.NDArray[np.uint8]


def read(picture: Image.Image, folder: Path, name: str = "fashion_mnist") -> Photo:
    """Saves a picture as PNG and reads it for a data set."""
    picture.save(folder / "picture.png")
    return read_photo(folder / "picture.png", SHAPE, conventions_of(name, SHAPE))


def shirt(ground: Colour, cloth: Colour) -> Image.Image:
    """Draws a T-shirt of 140x140 pixels, half as wide as the picture."""
    picture = Image.new("RGB", (280, 240), ground)
    draw = ImageDraw.Draw(picture)
    draw.rectangle([85, 40, 194, 179], fill=cloth)
    draw.rectangle([70, 50, 209, 89], fill=cloth)
    return picture


# The shirt at a fifth of its size: sleeves of 140 by 40 pixels, a body of 110.
SHIRT = np.zeros((28, 28), bool)
SHIRT[2:10] = SHIRT[:, 3:25] = True


def boot(*, points_right: bool = False) -> Image.Image:
    """Draws a boot of 150x150 pixels, whose shaft of 60 is opposite to where it points."""
    picture = Image.new("L", (200, 200), 255)
    draw = ImageDraw.Draw(picture)
    draw.rectangle([20, 120, 169, 169], fill=40)
    draw.rectangle([20, 20, 79, 169] if points_right else [110, 20, 169, 169], fill=40)
    return picture


@pytest.mark.parametrize(
    ("ground", "cloth", "is_dark"),
    [
        ((253, 253, 253), (36, 60, 122), True),
        ((255, 255, 255), (250, 215, 40), True),
        ((225, 225, 225), (250, 250, 250), False),
        ((160, 120, 80), (20, 30, 80), True),
        ((20, 20, 25), (240, 120, 20), False),
    ],
    ids=["navy on white", "yellow on white", "white on grey", "navy on wood", "orange on black"],
)
def test_thing_of_any_width_and_colour_is_found_whole(
    ground: Colour, cloth: Colour, is_dark: bool, tmp_path: Path
) -> None:
    photo = read(shirt(ground, cloth), tmp_path)
    assert photo.polarity == ("dark on light" if is_dark else "light on dark")
    # Cloth of one colour has full intensity everywhere, and the ground none.
    np.testing.assert_array_equal(photo.image_u8[..., 0], 255 * SHIRT)


def test_thing_is_found_in_uneven_light_and_noise(tmp_path: Path) -> None:
    pixels = np.asarray(shirt((230, 225, 215), (60, 70, 120)), np.float32)
    y, x = np.mgrid[-1:1:240j, -1:1:280j]
    light = 0.9 + 0.2 * x - 0.1 * (x * x + y * y)  # From 0.5 to 1.
    noise = np.random.default_rng(0).normal(0, 4, (240, 280, 1))
    uneven = Image.fromarray((pixels * light[..., np.newaxis] + noise).clip(0, 255).astype("uint8"))
    image_u8 = read(uneven, tmp_path).image_u8[..., 0]
    # An end may be off by a pixel of 140, a fifth of the outermost of 28 pixels.
    np.testing.assert_array_equal(image_u8 > 60, SHIRT)


def test_greys_are_negated_intensities(tmp_path: Path) -> None:
    picture = shirt((255, 255, 255), (55, 55, 55))
    ImageDraw.Draw(picture).rectangle([120, 100, 159, 139], fill=(155, 155, 155))
    image_u8 = read(picture, tmp_path).image_u8[..., 0]
    # The print is at (100 - 40) / 5 = 12, (120 - 70) / 5 = 10, and 8 pixels wide. Its negative is
    # 100, that of the shirt 200, which becomes 255: 127.5.
    expected = 255.0 * SHIRT
    expected[12:20, 10:18] = 127.5
    np.testing.assert_allclose(image_u8, expected, atol=1)


def test_thing_may_touch_the_border_and_a_line_around_it_is_left_out(tmp_path: Path) -> None:
    # It covers 2 * (110 + 40) of the 560 pixels of the border, and no corner.
    cut = shirt((255, 255, 255), (150, 20, 20)).crop((70, 40, 210, 180))
    np.testing.assert_array_equal(read(cut, tmp_path).image_u8[..., 0], 255 * SHIRT)
    framed = shirt((255, 255, 255), (150, 20, 20))
    ImageDraw.Draw(framed).rectangle([0, 0, 279, 239], outline=(0, 0, 0), width=2)
    np.testing.assert_array_equal(read(framed, tmp_path).image_u8[..., 0], 255 * SHIRT)


def test_faint_shadow_and_specks_are_not_part_of_a_thing() -> None:
    thing = shirt((255, 255, 255), (30, 30, 30))
    shadow = thing.filter(ImageFilter.GaussianBlur(8)).point(
        [230 + v // 10 for v in range(256)] * 3
    )
    mask = thing.convert("L").point([255] * 128 + [0] * 128)
    shadow.paste(thing, mask=mask)
    shadow.putpixel((5, 5), (0, 0, 0))
    # The shadow is at most 255 - 233 = 22 levels deep, a tenth of the shirt's 225.
    left, upper, right, lower = find_silhouette(shadow).box
    # Without the shadow: 70, 40, 210, 180. A blur of 280 / 300 pixels adds two on each side.
    np.testing.assert_allclose((left, upper, right, lower), (70, 40, 210, 180), atol=2)


def test_shoe_that_points_right_is_mirrored(tmp_path: Path) -> None:
    left, right = boot(), boot(points_right=True)
    image_u8 = read(left, tmp_path).image_u8
    assert image_u8[:14, :14].sum() == 0  # The shaft is on the right.
    np.testing.assert_array_equal(read(right, tmp_path).image_u8, image_u8)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (28, 28), (300, 200)])
def test_ground_without_a_thing_is_refused(size: tuple[int, int], tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match=r"^shows nothing: all its pixels have one colour$"):
        read(Image.new("RGB", size, (250, 250, 250)), tmp_path)


def framed_image(box_size: int) -> Pixels:
    """Draws three bars, whose greys differ, in a box in the middle of 28x28 black pixels."""
    image_u8 = np.zeros((28, 28), np.uint8)
    margin = (28 - box_size) // 2
    image_u8[margin : 28 - margin, 12:16] = 255
    image_u8[margin : margin + 5, 9:19] = 200
    image_u8[23 - margin : 28 - margin, 9:19] = 90
    return image_u8


@pytest.mark.parametrize(
    ("name", "box_size"), [("mnist", 20), ("digits", 20), ("kmnist", 28), ("fashion_mnist", 28)]
)
def test_image_of_the_data_set_reaches_the_model_unchanged(
    name: str, box_size: int, tmp_path: Path
) -> None:
    image_u8 = framed_image(box_size)
    if name == "mnist":  # The bars of 200 and 90 move the mass up by more than rounding.
        image_u8[19:24, 9:19] = 200
    for picture, polarity in ((image_u8, "light on dark"), (255 - image_u8, "dark on light")):
        photo = read(Image.fromarray(picture), tmp_path, name)
        assert photo.polarity == polarity
        np.testing.assert_array_equal(photo.image_u8[..., 0], image_u8)


def test_image_that_is_off_the_middle_is_moved(tmp_path: Path) -> None:
    image_u8 = framed_image(20)
    moved = read(Image.fromarray(np.roll(image_u8, 4, axis=0)), tmp_path, "digits").image_u8[..., 0]
    assert np.flatnonzero(moved.any(axis=1))[[0, -1]].tolist() == [4, 23]


def test_tiny_picture_is_enlarged_smoothly(tmp_path: Path) -> None:
    # An image of 8x8 pixels becomes one of 20x20 as scikit-learn's digits do in data/digits.py.
    small = np.zeros((8, 8), np.uint8)
    small[:, 2:4] = small[6:, 2:7] = 255
    large = np.asarray(Image.fromarray(small).resize((20, 20), Image.Resampling.BICUBIC), int)
    image_u8 = read(Image.fromarray(small), tmp_path, "digits").image_u8[..., 0].astype(int)
    # Ink fainter than a tenth is left out at the ends, which are at columns 4 and 18 of the 20.
    assert large[:, :4].max() < 26
    assert large[:, 18:].max() < 26
    np.testing.assert_array_equal(image_u8[4:24, 7:21], np.where(large >= 26, large, 0)[:, 4:18])

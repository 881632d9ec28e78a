"""A ground of one colour: found, told from uneven light, and freed of lines along the border."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from cnn_jax.preprocessing.even_ground import find_even_ground
from cnn_jax.preprocessing.photo import read_picture

Pixels = npt.NDArray[np.uint8]
WHOLE = (slice(0, 100), slice(0, 100))


def paper(colour: int = 230) -> Pixels:
    """Returns an even paper of 100x100 pixels with a fat stroke from edge to edge."""
    pixels = np.full((100, 100, 3), colour, np.uint8)
    pixels[:, 40:70] = 20
    return pixels


def test_colour_of_the_ground_is_the_commonest() -> None:
    noise = np.random.default_rng(0).integers(-5, 6, (100, 100, 1))
    pixels = (paper() + noise).clip(0, 255).astype(np.uint8)
    found = find_even_ground(pixels)
    assert found
    np.testing.assert_allclose(found[0], 230, atol=2)
    assert found[1] == WHOLE


def test_edges_of_an_enlarged_tiny_picture_are_no_shadow() -> None:
    digits = np.round(load_digits().images[:100] * 255 / 16).astype(np.uint8)  # 8x8 pixels.
    for digit in digits:
        picture = Image.fromarray(digit).convert("RGB")
        enlarged = picture.resize((20, 20), Image.Resampling.BICUBIC)
        assert find_even_ground(np.asarray(enlarged))


def test_ground_that_differs_a_little_everywhere_is_not_even() -> None:
    # Half of the border is within 12 levels of the commonest colour, and the rest a little darker.
    pixels = np.full((100, 100, 3), 200, np.uint8)
    pixels[:, 60:] = 180
    assert find_even_ground(pixels) is None
    pixels[40:60, 40:60] = 20
    assert find_even_ground(pixels) is None


def test_ground_must_be_half_of_the_border() -> None:
    pixels = np.full((100, 100, 3), 255, np.uint8)
    pixels[:, :5] = pixels[:, -5:] = 0  # Of the 396 pixels of the border, 4 * 5 + 2 * 98.
    assert find_even_ground(pixels) is None
    pixels = np.full((100, 100, 3), 255, np.uint8)
    pixels[10:90, 5:62] = 0  # 46 % of all, and no pixel of the border.
    assert find_even_ground(pixels) is not None


@pytest.mark.parametrize("width", [1, 2, 4])
def test_thin_lines_along_the_border_are_left_out(width: int) -> None:
    pixels = paper()
    pixels[:width] = 0
    pixels[:, -width:] = 0
    found = find_even_ground(pixels)
    assert found
    assert found[1] == (slice(width, 100), slice(0, 100 - width))


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1), (2, 3)])
def test_something_is_left_inside_of_tiny_pictures(shape: tuple[int, int]) -> None:
    # Of many colours, so that hardly any pixel is ground: each row or column could be a line.
    generator = np.random.default_rng(0)
    for _ in range(20):
        found = find_even_ground(generator.integers(0, 256, (*shape, 3), dtype=np.uint8))
        assert found is None or np.empty(shape)[found[1]].size > 0


def test_bar_along_the_border_is_part_of_the_drawing() -> None:
    pixels = paper()
    pixels[:5] = 0  # Wider than 4 % of the side.
    found = find_even_ground(pixels)
    assert found
    assert found[1] == WHOLE


@pytest.mark.parametrize("ink", [0, 255])
def test_fat_digit_that_touches_the_border_is_read_whole(tmp_path: Path, ink: int) -> None:
    # A 7 of strokes a third as wide as the picture, cut along its edges.
    picture = Image.new("L", (60, 84), 255 - ink)
    draw = ImageDraw.Draw(picture)
    draw.rectangle([0, 0, 59, 19], fill=ink)
    draw.polygon([(40, 0), (59, 0), (30, 83), (10, 83)], fill=ink)
    picture.save(tmp_path / "seven.png")
    image = read_picture(tmp_path / "seven.png")[..., 0]
    # The expected image: the drawing itself, scaled to a box of 20 and placed by centre of mass.
    expected = np.abs(np.asarray(picture.resize((14, 20), Image.Resampling.BOX), int) - (255 - ink))
    rows, columns = np.nonzero(image)
    assert (int(np.ptp(rows)), int(np.ptp(columns))) == (19, 13)
    box = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert np.abs(box - expected).mean() < 12

"""Ink is divided into lines and digits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cnn_jax.preprocessing.frame import conventions_of
from cnn_jax.preprocessing.layout import find_layout
from cnn_jax.preprocessing.pages import Page
from cnn_jax.preprocessing.photo import Photo, read_photos

SHAPE = (28, 28, 1)


def drawing(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (400, 200)) -> Image.Image:
    """Draws upright strokes: black boxes (left, upper, right, lower; exclusive) on white."""
    picture = Image.new("L", size, 255)
    draw = ImageDraw.Draw(picture)
    for left, upper, right, lower in boxes:
        draw.rectangle([left, upper, right - 1, lower - 1], fill=0)
    return picture


def divide(picture: Image.Image, tmp_path: Path) -> Photo:
    picture.save(tmp_path / "picture.png")
    pages = [Page(tmp_path / "picture.png")]
    (photo,) = read_photos(pages, SHAPE, conventions_of("mnist", SHAPE), divide=True)
    assert isinstance(photo, Photo)
    return photo


def test_digits_side_by_side_are_parts_from_left_to_right(tmp_path: Path) -> None:
    boxes = [(60, 50, 75, 150), (160, 55, 175, 150), (260, 50, 275, 145)]
    photo = divide(drawing(*boxes), tmp_path)
    (line,) = photo.lines
    assert [(part.start, part.stop) for part in line] == [(0, 1), (1, 2), (2, 3)]
    # In pixels of the file. The search reduces the picture to 240 pixels: within two of its pixels.
    for part, box in zip(line, boxes, strict=True):
        assert np.max(np.abs(np.subtract(part.box, box))) <= 2 * 400 / 240
    assert not photo.is_doubtful


def test_boxes_are_in_pixels_of_a_large_file(tmp_path: Path) -> None:
    box = (1200, 500, 1350, 1500)
    photo = divide(drawing(box, size=(4000, 2000)), tmp_path)
    assert np.max(np.abs(np.subtract(photo.lines[0][0].box, box))) <= 2 * 4000 / 240


def test_lines_are_from_top_to_bottom(tmp_path: Path) -> None:
    boxes = [(60, 240, 75, 340), (160, 240, 175, 340), (100, 40, 115, 140)]
    photo = divide(drawing(*boxes, size=(400, 400)), tmp_path)
    assert [len(line) for line in photo.lines] == [1, 2]


@pytest.mark.parametrize(
    "boxes",
    [
        # The bar of a 5, above its body and to the right of it.
        [(150, 60, 165, 150), (160, 40, 210, 52)],
        # An open 4: the right stroke is between the ends of the left ones.
        [(120, 40, 135, 110), (120, 100, 200, 110), (165, 60, 180, 98), (165, 112, 180, 160)],
    ],
)
def test_loose_strokes_of_one_digit_stay_together(
    boxes: list[tuple[int, int, int, int]], tmp_path: Path
) -> None:
    photo = divide(drawing(*boxes), tmp_path)
    assert [len(line) for line in photo.lines] == [1]
    assert not photo.is_doubtful


def test_digit_is_read_without_circle_and_without_underline(tmp_path: Path) -> None:
    alone = drawing((190, 60, 205, 140))
    circled = alone.copy()
    ImageDraw.Draw(circled).ellipse([120, 20, 280, 180], outline=0, width=4)
    underlined = alone.copy()
    ImageDraw.Draw(underlined).rectangle([150, 155, 250, 160], fill=0)
    expected = divide(alone, tmp_path).lines[0][0]
    for picture in (circled, underlined):
        photo = divide(picture, tmp_path)
        assert [len(line) for line in photo.lines] == [1]
        assert np.max(np.abs(np.subtract(photo.lines[0][0].box, expected.box))) <= 4
    # A line below may be part of the drawing.
    assert photo.is_doubtful


def test_wide_ink_may_be_cut_where_it_is_thin(tmp_path: Path) -> None:
    # Two digits that a stroke 6 pixels high joins.
    boxes = [(100, 50, 130, 150), (190, 50, 220, 150), (130, 100, 190, 106)]
    (line,) = divide(drawing(*boxes), tmp_path).lines
    assert (0, max(part.stop for part in line)) in [(part.start, part.stop) for part in line]
    halves = [part for part in line if part.box[2] < 195 and part.start == 0]
    assert halves
    assert any(other.start == halves[0].stop for other in line)


def test_layout_of_one_component_is_complete() -> None:
    mask = np.zeros((40, 40), bool)
    mask[5:30, 10:15] = True
    layout = find_layout(mask)
    assert layout.is_complete
    assert [[group.box for group in line] for line in layout.lines] == [
        [(slice(5, 30), slice(10, 15))]
    ]


def test_picture_of_very_many_parts_is_doubtful(tmp_path: Path) -> None:
    boxes = [(x, y, x + 14, y + 40) for x in range(10, 590, 29) for y in range(10, 560, 60)]
    photo = divide(drawing(*boxes, size=(600, 600)), tmp_path)
    assert len(boxes) > 150
    assert len(photo.lines) == 1  # Not one for each of the ten rows.
    assert photo.is_doubtful

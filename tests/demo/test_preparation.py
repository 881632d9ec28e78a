"""The page prepares drawings as `--mode=predict` does, and reads numbers as it does."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFilter

from cnn_jax.evaluation.numbers import best_division
from cnn_jax.preprocessing.frame import conventions_of
from cnn_jax.preprocessing.pages import Page
from cnn_jax.preprocessing.photo import Crop, Photo, read_photos
from tests.support.command_line import ROOT

SHAPE = (28, 28, 1)
MAX_DIFFERENCE = 2  # Levels of 255.

pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="Node.js is not installed")

PREPARE = """
import { readFileSync } from "node:fs";
import { prepare } from "./demo/preparation/prepare.js";
const results = JSON.parse(readFileSync("input.json")).map(({ file, size, conventions }) => {
  const pixels = new Uint8ClampedArray(readFileSync(file));
  const result = prepare(pixels, ...size, conventions, [28, 28, 1]);
  for (const crop of result.lines?.flat() ?? []) crop.image = [...crop.image];
  return result;
});
console.log(JSON.stringify(results));
"""

DIVIDE = """
import { readFileSync } from "node:fs";
import { bestDivision } from "./demo/numbers.js";
const input = JSON.parse(readFileSync("input.json"));
console.log(JSON.stringify(input.map(({ line, probability }) => bestDivision(line, probability))));
"""


def run_node(code: str, data: Any, folder: Path) -> Any:
    """Runs a module beside the page's files on JSON data, and returns the JSON that it prints."""
    shutil.copytree(ROOT / "cnn_jax" / "demo", folder / "demo", dirs_exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "input.json").write_text(json.dumps(data))
    (folder / "main.js").write_text(code)
    done = subprocess.run(
        ["node", "main.js"], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def stroke(
    size: tuple[int, int], points: npt.ArrayLike, width: float, softness: float
) -> npt.NDArray[np.float32]:
    """Draws a line through points with a soft round brush: float32 [H, W], 0..1."""
    picture = Image.new("L", (2 * size[0], 2 * size[1]))
    draw = ImageDraw.Draw(picture)
    line = 2 * np.asarray(points, np.float64)
    draw.line([tuple(point) for point in line], fill=255, width=round(2 * width))
    for x, y in line:
        draw.ellipse([x - width, y - width, x + width, y + width], fill=255)
    picture = picture.resize(size, Image.Resampling.BOX)
    picture = picture.filter(ImageFilter.GaussianBlur(softness))
    return np.asarray(picture, np.float32) / np.float32(255)


def coloured(
    ink: npt.NDArray[np.float32], colour: Sequence[int] = (0, 0, 0), ground: int = 255
) -> Image.Image:
    """Mixes two colours: where `ink`, [H, W], is 1, the first; where it is 0, a grey ground."""
    mixed = ground + (np.array(colour) - ground) * ink[..., np.newaxis]
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def random_drawings() -> list[Image.Image]:
    """Draws random strokes like those of digits, one to three beside each other."""
    generator = np.random.default_rng(3)
    pictures = []
    for index in range(20):
        size = [(280, 280), (420, 300), (640, 480)][index % 3]
        num_digits = 1 + index % 3
        height = generator.uniform(0.3, 0.7) * min(size) / num_digits**0.5
        ink = np.zeros(size[::-1], np.float32)
        left = generator.uniform(0.05, 0.2) * size[0]
        for _ in range(num_digits):
            corners = np.sort(generator.uniform(0, 1, 5))
            points = np.stack([generator.uniform(0, 0.6, 5), corners], axis=1) * height
            width, softness = generator.uniform(0.05, 0.14) * height, generator.uniform(0.3, 1.5)
            points += (left, 0.2 * size[1])
            ink = np.maximum(ink, stroke(size, points, width, softness))
            left += generator.uniform(0.6, 0.9) * height
        is_light = index % 2 == 1
        colour = generator.integers(160, 256, 3) if is_light else generator.integers(0, 120, 3)
        pictures.append(coloured(ink, colour.tolist(), 20 if is_light else 250))
    return pictures


def compare(
    pictures: Sequence[Image.Image], folder: Path, name: str = "mnist", *, divide: bool = True
) -> list[Photo]:
    """Prepares pictures in Python and by the page, asserts the same, and returns Python's."""
    conventions = conventions_of(name, SHAPE)
    assert conventions
    fields = ("box_size", "centre_by_mass", "min_stroke_width")
    data = []
    for index, picture in enumerate(pictures):
        picture.save(folder / f"{index}.png")
        (folder / f"{index}.raw").write_bytes(picture.convert("RGBA").tobytes())
        values = {field: getattr(conventions, field) for field in fields} | {"divide": divide}
        data.append({"file": f"{index}.raw", "size": picture.size, "conventions": values})
    pages = [Page(folder / f"{index}.png") for index in range(len(pictures))]
    photos = read_photos(pages, SHAPE, conventions, divide=divide)
    for index, result in enumerate(run_node(PREPARE, data, folder)):
        photo = photos[index]
        assert isinstance(photo, Photo)
        assert result["polarity"] == photo.polarity, index
        assert result["isDoubtful"] == photo.is_doubtful, index
        assert [len(line) for line in result["lines"]] == [len(line) for line in photo.lines], index
        for crops, expected_crops in zip(result["lines"], photo.lines, strict=True):
            for crop, expected in zip(crops, expected_crops, strict=True):
                assert (crop["start"], crop["stop"]) == (expected.start, expected.stop), index
                assert crop["cost"] == pytest.approx(expected.cost), index
                assert tuple(crop["box"]) == expected.box, index
                difference = np.subtract(crop["image"], expected.image_u8.ravel(), dtype=int)
                assert np.max(np.abs(difference)) <= MAX_DIFFERENCE, index
    return [photo for photo in photos if isinstance(photo, Photo)]


def test_drawings_are_prepared_as_by_predict(tmp_path: Path) -> None:
    photos = compare(random_drawings(), tmp_path)
    # They hold what the steps are for: thin strokes, numbers, strokes that touch.
    assert max(len(photo.lines[0]) for photo in photos) >= 4
    assert min(len(photo.lines[0]) for photo in photos) == 1


@pytest.mark.parametrize(("name", "divide"), [("digits", True), ("kmnist", False)])
def test_other_conventions_hold(name: str, divide: bool, tmp_path: Path) -> None:
    photos = compare(random_drawings()[:4], tmp_path, name, divide=divide)
    # The second drawing shows two digits, the third one three.
    assert (len(photos[2].lines[0]) == 1) != divide


def test_what_is_not_the_digit_is_left_out_as_by_predict(tmp_path: Path) -> None:
    size = (280, 280)
    seven = stroke(size, [(100, 90), (180, 90), (130, 200)], 9, 1.0)
    framed, edged, ruled, underlined = (seven.copy() for _ in range(4))
    for edge in (slice(20, 24), slice(256, 260)):
        framed[edge, 20:260] = framed[20:260, edge] = 1.0
    edged[:3] = edged[:, -2:] = 1.0
    ruled[25::50] = np.maximum(ruled[25::50], 0.4)
    underlined[230:236, 80:200] = 1.0
    on_sheet = 0.5 * seven
    on_sheet[40:240, 40:240] += 0.5
    inks = [framed, edged, ruled, underlined, on_sheet]
    compare([coloured(ink) for ink in inks], tmp_path)


def test_strokes_that_are_apart_or_straight_or_cut_off_are_prepared_as_by_predict(
    tmp_path: Path,
) -> None:
    size = (280, 280)
    body = stroke(size, [(100, 75), (98, 140), (150, 135), (165, 180), (90, 210)], 10, 1.0)
    bar = stroke(size, [(122, 72), (180, 68)], 10, 1.0)
    halves = stroke(size, [(60, 60), (60, 130)], 8, 1.0), stroke(size, [(64, 150), (60, 200)], 8, 1)
    beside = stroke(size, [(150, 60), (130, 130), (150, 200)], 8, 1.0)
    straight = stroke(size, [(140, 80), (140, 200)], 10, 1.0)
    numbers = np.maximum(np.maximum(*halves), beside)
    inks = [np.maximum(body, bar), numbers, straight, body[:, 98:], body[150:]]
    compare([coloured(ink) for ink in inks], tmp_path)


def test_pictures_of_all_sizes_and_transparent_ones_are_prepared_as_by_predict(
    tmp_path: Path,
) -> None:
    large = stroke((1500, 1100), [(500, 300), (900, 300), (650, 900)], 40, 2.0)
    tiny = stroke((20, 14), [(6, 2), (13, 2), (9, 11)], 1, 0.3)
    transparent = Image.new("RGBA", (280, 280), (30, 60, 90, 0))
    alpha = stroke((280, 280), [(80, 80), (200, 80), (130, 210)], 11, 1.0)
    transparent.putalpha(Image.fromarray(np.rint(255 * alpha).astype(np.uint8)))
    compare([coloured(large), coloured(tiny), transparent], tmp_path)


def test_image_of_the_data_set_reaches_the_network_unchanged(tmp_path: Path) -> None:
    image_u8 = compare(random_drawings()[:1], tmp_path)[0].image_u8[..., 0]
    enlarged = np.kron(image_u8, np.ones((9, 9), np.uint8))
    photos = compare([Image.fromarray(image_u8), Image.fromarray(255 - enlarged)], tmp_path)
    for photo in photos:
        np.testing.assert_array_equal(photo.image_u8[..., 0], image_u8)


def test_drawings_that_cannot_be_prepared_are_errors(tmp_path: Path) -> None:
    size = (280, 280)
    empty = coloured(np.zeros(size, np.float32))
    # Light that falls from one side: the levels of the ground are 255 to 155.
    light = np.broadcast_to(np.linspace(0, 100, 280)[:, np.newaxis], size)
    seven = stroke(size, [(100, 90), (180, 90), (130, 200)], 9, 1.0)
    uneven = coloured(np.maximum(light.astype(np.float32) / 255, seven))
    data = []
    for index, picture in enumerate((empty, uneven)):
        (tmp_path / f"{index}.raw").write_bytes(picture.convert("RGBA").tobytes())
        values = {"box_size": 20, "centre_by_mass": True, "min_stroke_width": 2.0, "divide": True}
        data.append({"file": f"{index}.raw", "size": size, "conventions": values})
    assert run_node(PREPARE, data, tmp_path) == [
        {"error": "shows nothing: all its pixels have one colour"},
        {"error": "uneven"},
    ]


def test_numbers_are_divided_as_by_predict(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    image_u8 = np.zeros(SHAPE, np.uint8)
    cases = []
    for num_pieces in range(1, 7):
        line = [
            Crop(image_u8, (0, 0, 1, 1), start, stop, float(generator.uniform(0, 3)))
            for start in range(num_pieces)
            for stop in range(start + 1, num_pieces + 1)
        ]
        # The first parts, which every division needs for its pieces, stay; others are missing.
        kept = [part for part in line if part.stop == part.start + 1 or generator.random() < 0.7]
        cases.append((kept, generator.uniform(0, 1, len(kept))))
    data = [
        {
            "line": [{"start": p.start, "stop": p.stop, "cost": p.cost} for p in line],
            "probability": probability.tolist(),
        }
        for line, probability in cases
    ]
    for (line, probability), result in zip(cases, run_node(DIVIDE, data, tmp_path), strict=True):
        chosen, share = best_division(line, probability)
        assert result["chosen"] == chosen
        assert result["share"] == pytest.approx(share)

"""Printed lines of paper are no ink, and empty paper is told from writing."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cnn_jax.preprocessing.frame import conventions_of
from cnn_jax.preprocessing.photo import read_photo
from cnn_jax.preprocessing.rules import remove_rules
from cnn_jax.preprocessing.threshold import threshold_ink

SHAPE = (28, 28, 1)


def ruled(tilt: float = 0.0) -> npt.NDArray[np.float32]:
    """Draws lines 2 pixels wide, 20 pixels apart: float32 [160, 200], depth 100."""
    rows, columns = np.mgrid[:160, :200]
    return np.where((rows + tilt * columns) % 20 < 2, 100, 0).astype(np.float32)


@pytest.mark.parametrize("tilt", [0.0, 0.05, -0.08])
@pytest.mark.parametrize("upright", [False, True])
def test_lines_across_the_picture_are_removed(tilt: float, upright: bool) -> None:
    depth = ruled(tilt).T if upright else ruled(tilt)
    cleaned, rules = remove_rules(depth, 50.0)
    # All but the ends, where a line leaves through a corner within a quarter of the width.
    assert np.mean(cleaned[depth > 0] == 0) > 0.9
    assert np.mean(rules[depth > 0]) > 0.9


def test_stroke_across_lines_stays_whole() -> None:
    depth = ruled()
    depth[30:130, 90:100] = 100
    cleaned, _ = remove_rules(depth, 50.0)
    assert np.all(cleaned[30:130, 90:100] == 100)
    assert np.all(cleaned[:, :80] == 0)


def test_stroke_that_does_not_reach_the_border_is_no_rule() -> None:
    depth = np.zeros((160, 200), np.float32)
    depth[80:82, 30:170] = 100
    cleaned, rules = remove_rules(depth, 50.0)
    np.testing.assert_array_equal(cleaned, depth)
    assert not rules.any()


def test_thick_bar_across_the_picture_is_no_rule() -> None:
    depth = np.zeros((160, 200), np.float32)
    depth[80:90] = 100  # 5 % of the longer side.
    np.testing.assert_array_equal(remove_rules(depth, 50.0)[0], depth)


def test_nothing_but_a_line_across_the_picture_is_doubtful() -> None:
    depth = np.zeros((160, 200), np.float32)
    depth[80:82] = 100
    assert not remove_rules(depth, 50.0)[0].any()  # Nothing is left that has a threshold.
    ink = threshold_ink(depth, is_dark=True)
    assert ink
    assert ink.is_doubtful
    assert ink.box == (0, 80, 200, 82)


def save(tmp_path: Path, grey: npt.NDArray[np.floating]) -> Path:
    path = tmp_path / "paper.png"
    Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8)).save(path)
    return path


def empty_papers() -> dict[str, npt.NDArray[np.floating]]:
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:240, :320]
    return {
        "ruled": 250 - ruled()[:160, :200],
        "squared": 250 - np.maximum(ruled(), (columns[:160, :200] % 20 < 2) * 100),
        "dotted": 250 - 150.0 * ((rows % 16 < 3) & (columns % 16 < 3)),
        "noisy": 220 + random.normal(0, 12, (240, 320)),
        "shadowed": 230 - 90 / (1 + np.exp((columns - rows - 40) / 12)),
    }


@pytest.mark.parametrize("kind", list(empty_papers()))
def test_empty_paper_is_doubtful_and_a_digit_on_it_is_not(kind: str, tmp_path: Path) -> None:
    paper = empty_papers()[kind]
    conventions = conventions_of("mnist", SHAPE)
    assert read_photo(save(tmp_path, paper), SHAPE, conventions).is_doubtful
    height, width = paper.shape
    written = paper.copy()  # An L of strokes 10 pixels wide.
    written[height // 4 : 3 * height // 4, width // 3 : width // 3 + 10] = 20
    written[3 * height // 4 - 10 : 3 * height // 4, width // 3 : width // 3 + 50] = 20
    photo = read_photo(save(tmp_path, written), SHAPE, conventions)
    assert not photo.is_doubtful
    # Its box: twice as high as wide at most, so the corner at the lower left has ink.
    image = photo.image_u8[..., 0]
    rows, columns = np.nonzero(image > 127)
    assert image[rows.max() - 1, columns.min() + 1] > 200
    assert not image[: rows.min() + 8, columns.min() + 8 :].any()

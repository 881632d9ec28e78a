"""The pictures of a report and of a training: what they show, and that it can be read."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cnn_jax.evaluation.report import ClassificationReport
from cnn_jax.plots import curves, evaluation, galleries
from tests.plots.legible import assert_legible

DIGITS = list("0123456789")
LONG = [f"a rather long name {n}, $ included" for n in range(10)]
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1), dtype=np.uint8)


@pytest.mark.parametrize("names", [DIGITS, LONG, ["no", "yes"], [str(n) for n in range(100)]])
def test_a_confusion_matrix_colours_the_mistakes_alone(names: list[str]) -> None:
    size = len(names)
    counts = np.random.default_rng(0).integers(0, 5, (size, size)) + 100 * np.eye(size, dtype=int)
    drawn = evaluation.draw_confusion(counts, names, "mnist, step 5")
    axes, bar = drawn.axes
    coloured = axes.get_images()[0]
    np.testing.assert_array_equal(coloured.get_array(), counts * (1 - np.eye(size, dtype=int)))
    assert bar.get_ylabel() == "mistakes (pictures)"
    numbers = [text.get_text() for text in axes.texts]
    assert numbers == ([str(n) for n in counts.ravel() if n] if size <= 30 else [])
    assert_legible(drawn)


def test_a_confusion_matrix_without_mistakes_has_no_colour() -> None:
    drawn = evaluation.draw_confusion(np.diag([3, 4]), ["no", "yes"], "mnist, step 5")
    assert drawn.get_suptitle().endswith("mnist, step 5, 7 test pictures, 100.00 % right")
    coloured = drawn.axes[0].get_images()[0]
    assert coloured.get_clim() == (0, 1)
    assert not np.any(coloured.get_array())


@pytest.mark.parametrize("names", [DIGITS, LONG])
@pytest.mark.parametrize("count", [0, 1, 9, 50])
def test_a_gallery_shows_the_most_confident_mistakes(count: int, names: list[str]) -> None:
    # 60 examples of class 1; the first `count` are taken for class 2, each surer than the one
    # before.
    sure = np.where(np.arange(60) < count, np.linspace(0.6, 0.9, 60), 0.1)
    probability = np.zeros((60, 10))
    probability[:, 2], probability[:, 1] = sure, 1 - sure
    images = np.random.default_rng(0).integers(0, 256, (60, 28, 28, 1), dtype=np.uint8)
    drawn = galleries.draw_mistakes(
        ClassificationReport(probability, np.ones(60, int)), images, names, "mnist, step 5"
    )
    shown = [axes for axes in drawn.axes if axes.get_images()]
    examples = range(count - 1, max(-1, count - 1 - galleries.MOST_MISTAKES), -1)
    for axes, example in zip(shown, examples, strict=True):
        pixels = axes.get_images()[0].get_array()
        np.testing.assert_array_equal(pixels, images[example, ..., 0])
        if names == DIGITS:
            assert axes.get_title() == f"1 taken for\n2 ({100 * sure[example]:.0f} %)"
    assert_legible(drawn)


def test_a_reliability_diagram_has_a_bar_a_bin() -> None:
    # Of 15 bins, 0.62 is in number 9, from 9 / 15 = 0.6 on, and 0.9 in number 13, from 0.867 on.
    # Of 5 examples two are right, of 50 all: 40 and 100 %. The error is (3 * |0.4 - 0.62| +
    # 2 * |0.4 - 0.62| + 50 * 0.1) / 55 = 6.1 / 55 = 0.1109.
    confidence = np.repeat([0.62, 0.9], [5, 50])
    label = np.repeat([0, 1, 0], [2, 3, 50])
    scores = ClassificationReport(np.stack([confidence, 1 - confidence], axis=1), label)
    drawn = evaluation.draw_calibration(scores, "mnist, step 5")
    assert drawn.get_suptitle().endswith("55 test pictures, expected calibration error 11.09 %")
    above, below = drawn.axes
    heights = np.array([[bar.get_height() for bar in a.containers[0]] for a in (above, below)])
    np.testing.assert_allclose(heights[0, [9, 13]], [40, 100])
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(heights[0])), [9, 13])
    np.testing.assert_array_equal(heights[1], [5 * (n == 9) + 50 * (n == 13) for n in range(15)])
    assert_legible(drawn)


def rows(losses: list[float]) -> list[dict[str, object]]:
    return [
        {"step": 10 * (n + 1), "split": split, "loss": loss, "accuracy": 0.5}
        for n, loss in enumerate(losses)
        for split in ("train", "train_eval", "test")
    ]


@pytest.mark.parametrize(
    ("losses", "scale"), [([2.3, 1.0, 0.1], "log"), ([2.303, 2.302], "linear"), ([0.0], "linear")]
)
def test_curves_show_every_row(losses: list[float], scale: str) -> None:
    drawn = curves.draw(rows(losses), "Training of mnist")
    left, right = drawn.axes
    for line in left.lines:
        np.testing.assert_array_equal(line.get_xdata(), [10, 20, 30][: len(losses)])
        np.testing.assert_array_equal(line.get_ydata(), losses)
    for line in right.lines:
        np.testing.assert_array_equal(line.get_ydata(), [50.0] * len(losses))
    assert left.get_yscale() == scale
    assert_legible(drawn)


@pytest.mark.parametrize("count", [1, 3, galleries.MOST_PICTURES])
def test_what_was_seen_stands_beside_the_original(count: int) -> None:
    originals = [Image.new("RGB", (30 + n, 20), (n, 0, 0)) for n in range(count)]
    names = [f"a_photograph_with_a_long_name_{n}.jpg" for n in range(count)]
    drawn = galleries.draw_predictions(
        originals, IMAGES[:count], names, ["7 (100 %)"] * count, "What was seen"
    )
    used = [axes for axes in drawn.axes if axes.get_images()]
    for index, (left, right) in enumerate(zip(used[::2], used[1::2], strict=True)):
        np.testing.assert_array_equal(left.get_images()[0].get_array(), originals[index])
        np.testing.assert_array_equal(right.get_images()[0].get_array(), IMAGES[index, ..., 0])
        assert left.get_title().endswith(f"_{index}.jpg")
    assert_legible(drawn)


def test_no_figure_is_kept() -> None:
    # pyplot would keep every one of them.
    assert isinstance(curves.draw(rows([1.0]), ""), Figure)
    from matplotlib._pylab_helpers import Gcf

    assert not Gcf.get_all_fig_managers()

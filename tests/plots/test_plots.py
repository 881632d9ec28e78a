"""The figures of a report and of a training: what they show, and that they are legible."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from cnn_jax.evaluation.report import ClassificationReport
from cnn_jax.plots import augmented, curves, evaluation, galleries
from tests.plots.legible import assert_legible

DIGITS = list("0123456789")
LONG = [f"a rather long name {n}, $ included" for n in range(10)]
WIDE = [*("W" * n for n in range(5, 13)), "数字" * 5, "T-shirt/top"]
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1), dtype=np.uint8)


@pytest.mark.parametrize("names", [DIGITS, LONG, WIDE, ["no", "yes"], [str(n) for n in range(100)]])
def test_confusion_matrix_colours_only_the_mistakes(names: list[str]) -> None:
    size = len(names)
    counts = np.random.default_rng(0).integers(0, 5, (size, size)) + 100 * np.eye(size, dtype=int)
    figure = evaluation.draw_confusion(counts, names, "mnist, step 5")
    axes, bar = figure.axes
    heatmap = axes.get_images()[0]
    np.testing.assert_array_equal(heatmap.get_array(), counts * (1 - np.eye(size, dtype=int)))
    assert bar.get_ylabel() == "mistakes (images)"
    cells = [text.get_text() for text in axes.texts]
    assert cells == ([str(n) for n in counts.ravel() if n] if size <= 30 else [])
    assert_legible(figure)


def test_long_names_of_data_sets_are_legible() -> None:
    counts = np.ones((2, 2), int)
    for name in ("digits of people, " * 9, "W" * 200, "数" * 200):
        figure = evaluation.draw_confusion(counts, ["no", "yes"], f"{name}.csv, step 5")
        assert_legible(figure)
        assert figure.get_suptitle().endswith("accuracy 50.00 %")


def test_confusion_matrix_without_mistakes_has_no_colour() -> None:
    figure = evaluation.draw_confusion(np.diag([3, 4]), ["no", "yes"], "mnist, step 5")
    assert figure.get_suptitle().endswith("mnist, step 5, 7 test images, accuracy 100.00 %")
    heatmap = figure.axes[0].get_images()[0]
    assert heatmap.get_clim() == (0, 1)
    assert not np.any(heatmap.get_array())


@pytest.mark.parametrize("names", [DIGITS, LONG, WIDE])
@pytest.mark.parametrize("count", [0, 1, 9, 50])
def test_gallery_shows_the_most_confident_mistakes(count: int, names: list[str]) -> None:
    # 60 examples of class 1; the first `count` are predicted as class 2, with rising confidence.
    confidence = np.where(np.arange(60) < count, np.linspace(0.6, 0.9, 60), 0.1)
    probability = np.zeros((60, 10))
    probability[:, 2], probability[:, 1] = confidence, 1 - confidence
    images = np.random.default_rng(0).integers(0, 256, (60, 28, 28, 1), dtype=np.uint8)
    figure = galleries.draw_mistakes(
        ClassificationReport(probability, np.ones(60, int)), images, names, "mnist, step 5"
    )
    used = [axes for axes in figure.axes if axes.get_images()]
    examples = range(count - 1, max(-1, count - 1 - galleries.MAX_MISTAKES), -1)
    for axes, example in zip(used, examples, strict=True):
        pixels = axes.get_images()[0].get_array()
        np.testing.assert_array_equal(pixels, images[example, ..., 0])
        if names == DIGITS:
            assert axes.get_title() == f"1 predicted as\n2 ({100 * confidence[example]:.0f} %)"
        else:
            true, predicted, percent = axes.get_title().split("\n")
            assert true != predicted
            assert percent == f"{100 * confidence[example]:.0f} %"
    start = {
        0: "0 mistakes on",
        1: "1 mistake on",
        9: "9 mistakes on",
        50: f"The {galleries.MAX_MISTAKES} most confident of 50 mistakes on",
    }
    assert figure.get_suptitle().startswith(f"{start[count]} 60 test images\nmnist, step 5: ")
    assert_legible(figure)


def test_reliability_diagram_has_a_point_with_an_interval_for_each_bin_with_examples() -> None:
    # Of 15 bins, 0.62 is in bin 9, which starts at 9 / 15 = 0.6, and 0.9 in bin 13, which starts
    # at 0.867. Of 5 examples two are right, of 50 all: 40 and 100 %. The error is
    # (5 * |0.4 - 0.62| + 50 * |1 - 0.9|) / 55 = 6.1 / 55 = 0.1109.
    # Wilson's interval, with z = 1.960 and z^2 = 3.841, of 2 of 5: its centre is
    # (0.4 + 3.841 / 10) / (1 + 3.841 / 5) = 0.4434, its half width
    # 1.960 * sqrt(0.4 * 0.6 / 5 + 3.841 / 100) / 1.768 = 0.3258; of 50 of 50: from
    # 1 / (1 + 3.841 / 50) = 0.9287 to 1.
    confidence = np.repeat([0.62, 0.9], [5, 50])
    label = np.repeat([0, 1, 0], [2, 3, 50])
    scores = ClassificationReport(np.stack([confidence, 1 - confidence], axis=1), label)
    figure = evaluation.draw_calibration(scores, "mnist, step 5")
    assert figure.get_suptitle().endswith("55 test images, expected calibration error 11.09 %")
    above, below = figure.axes
    _, points = above.lines
    np.testing.assert_allclose(np.asarray(points.get_xydata()), [[62, 40], [90, 100]])
    (intervals,) = above.collections
    assert isinstance(intervals, LineCollection)
    expected = np.array([[(62, 11.76), (62, 76.92)], [(90, 92.87), (90, 100)]])
    np.testing.assert_allclose(intervals.get_segments(), expected, atol=0.01)
    heights = [bar.get_height() for bar in below.containers[0]]
    np.testing.assert_array_equal(heights, [5 * (n == 9) + 50 * (n == 13) for n in range(15)])
    assert_legible(figure)


@pytest.mark.parametrize("count", [1, 2, 3, 20, 21, 10_000])
def test_reliability_diagram_counts_images_in_integers(count: int) -> None:
    scores = ClassificationReport(np.tile([0.9, 0.1], (count, 1)), np.zeros(count, int))
    figure = evaluation.draw_calibration(scores, "mnist, step 5")
    assert_legible(figure)
    _, below = figure.axes
    ticks = below.get_yticks()
    np.testing.assert_array_equal(ticks, ticks.round())
    assert len(ticks) > 1
    assert below.get_ylim()[1] > count  # The bar is drawn whole.


def metrics_rows(losses: list[float]) -> list[dict[str, object]]:
    """Returns rows as `metrics.jsonl` has them, every 10 steps."""
    return [
        {"step": 10 * (n + 1), "split": split, "loss": loss, "accuracy": 0.5}
        for n, loss in enumerate(losses)
        for split in ("train", "train_eval", "test")
    ]


@pytest.mark.parametrize(
    ("losses", "scale"), [([2.3, 1.0, 0.1], "log"), ([2.303, 2.302], "linear"), ([0.0], "linear")]
)
def test_curves_show_every_row(losses: list[float], scale: str) -> None:
    figure = curves.draw(metrics_rows(losses), "Training of mnist")
    left, right = figure.axes
    for line in left.lines:
        np.testing.assert_array_equal(line.get_xdata(), [10, 20, 30][: len(losses)])
        np.testing.assert_array_equal(line.get_ydata(), losses)
    for line in right.lines:
        np.testing.assert_array_equal(line.get_ydata(), [50.0] * len(losses))
    assert left.get_yscale() == scale
    for axes in (left, right):  # Points are drawn on the large star, which would hide them.
        train, train_eval, test = (line.get_zorder() for line in axes.lines)
        assert test < min(train, train_eval)
    assert_legible(figure)


@pytest.mark.parametrize("count", [1, 3, galleries.MAX_PICTURES])
def test_network_input_stands_beside_its_original(count: int) -> None:
    originals = [Image.new("RGB", (30 + n, 20), (n, 0, 0)) for n in range(count)]
    boxes = [(1.0, 2.0, 5.0, 12.0), (7.0, 2.0, 9.0, 12.0)]
    figure = galleries.draw_predictions(
        [
            galleries.PredictedPicture(
                originals[n],
                boxes,
                IMAGES[n],
                f"a_photograph_with_a_long_name_{n}.jpg",
                "7",
                1.0,
                n == 0,
            )
            for n in range(count)
        ],
        "What the model saw",
    )
    used = [axes for axes in figure.axes if axes.get_images()]
    for index, (left, right) in enumerate(zip(used[::2], used[1::2], strict=True)):
        np.testing.assert_array_equal(left.get_images()[0].get_array(), originals[index])
        np.testing.assert_array_equal(right.get_images()[0].get_array(), IMAGES[index, ..., 0])
        assert left.get_title().endswith(f"_{index}.jpg")
        assert right.get_title() == ("7 (unsure)" if index == 0 else "7 (100 %)")
        drawn = [
            patch.get_extents().transformed(left.transData.inverted()) for patch in left.patches
        ]
        for found, (x, y, end_x, end_y) in zip(drawn, boxes, strict=True):
            np.testing.assert_allclose(found.extents, (x, end_y, end_x, y))  # y points down.
    assert_legible(figure)


def test_wide_and_long_names_above_pictures_are_legible() -> None:
    originals = [Image.new("RGB", (30, 90 - 5 * n)) for n in range(10)]
    pictures = [
        galleries.PredictedPicture(originals[n], [], IMAGES[n], LONG[n], WIDE[n], 1.0)
        for n in range(10)
    ]
    figure = galleries.draw_predictions(pictures, "title")
    titles = [axes.get_title() for axes in figure.axes if axes.get_images()]
    assert len(set(titles)) == 20  # Shortened names stay different.
    assert titles[-1] == "T-shirt/top (100 %)"
    assert_legible(figure)


@pytest.mark.parametrize("names", [DIGITS, LONG, WIDE])
def test_images_stand_beside_what_they_become(names: list[str]) -> None:
    changed = np.stack([IMAGES[10:20], IMAGES[20:30], IMAGES[30:40]])
    figure = augmented.draw(IMAGES[:10], changed, names, "Augmentation: mnist, step 5")
    shown = [image.get_array() for image in figure.axes[0].get_images()]
    for row in range(10):
        for column, image in enumerate(shown[4 * row : 4 * row + 4]):
            np.testing.assert_array_equal(image, IMAGES[10 * column + row, ..., 0])
    assert_legible(figure)


def test_pyplot_keeps_no_figure() -> None:
    # pyplot would keep every figure in memory.
    assert isinstance(curves.draw(metrics_rows([1.0]), ""), Figure)
    from matplotlib._pylab_helpers import Gcf

    assert not Gcf.get_all_fig_managers()

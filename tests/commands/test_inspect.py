"""`--mode=inspect`: the figures of a trained model, and the files they are written to."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cnn_jax import data
from cnn_jax.commands import inspect
from cnn_jax.errors import UserError
from cnn_jax.reporting.result import Result
from tests.plots.legible import assert_legible
from tests.support.command_line import error_message
from tests.support.random_models import random_model
from tests.support.small import AUGMENT, run


@pytest.fixture(scope="module")
def workdir(straight_run: tuple[Path, Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a copy of the small run, with figures of an earlier inspection."""
    path = tmp_path_factory.mktemp("inspected") / "w"
    shutil.copytree(straight_run[0], path)
    (path / "pictures").mkdir(exist_ok=True)
    (path / "pictures" / "feature_maps_old.png").touch()
    (path / "pictures" / "confusion_matrix.png").touch()
    return path


def test_figures_are_written_and_described(workdir: Path) -> None:
    out = io.StringIO()
    written = inspect.inspect(str(workdir), out=out, err=io.StringIO())
    folder = workdir / "pictures"
    assert [path.relative_to(folder).stem for path in written] == [
        "filters_conv_1",
        "filters_conv_2",
        "filters_linear_1",
        "receptive_field",
        "feature_maps_0",
        "feature_maps_1",
        "feature_maps_2",
        "saliency",
        "learning_curves",
        "mistakes",
    ]
    lines = out.getvalue().splitlines()
    assert lines[0] == f"{written[0]}: filters of conv_1, which is applied to the image"
    assert lines[1] == f"{written[1]}: filters of conv_2, which is applied to pool_1"
    for path, line in zip(written, lines, strict=True):
        assert line.startswith(f"{path}: ")
        with Image.open(path) as figure:
            assert figure.width <= 1500
        assert path.stat().st_size < 300_000
    assert not (folder / "feature_maps_old.png").exists()  # It shows another image.
    assert (folder / "confusion_matrix.png").exists()  # `--mode=evaluate` writes it.


def test_pictures_are_inspected_without_a_data_set(
    workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.zeros((40, 60), np.uint8)
    image[5:35, 20:26] = 255
    Image.fromarray(image).save(tmp_path / "stroke.png")
    calls: list[Any] = []

    def record_call(*arguments: Any) -> list[inspect.NamedFigure]:
        calls.append(arguments)
        return []  # Draws nothing: only the images that would be drawn are tested.

    monkeypatch.setattr(inspect, "draw", record_call)
    monkeypatch.setattr(data, "load_test", pytest.fail)
    inspect.inspect(str(workdir), [str(tmp_path / "*.png")], out=io.StringIO())
    ((_, image_u8, names, titles),) = calls
    assert (image_u8.shape, names, titles) == ((1, 28, 28, 1), ["stroke"], ["stroke.png"])


def test_picture_that_cannot_be_read_is_reported(workdir: Path) -> None:
    message = (
        r"^cannot read 1 of 1 picture \(gone\.png cannot be read: No such file or directory\): "
    )
    with pytest.raises(UserError, match=message):
        inspect.inspect(str(workdir), ["gone.png"], out=io.StringIO())


def test_good_pictures_are_drawn_and_a_bad_one_is_named(
    workdir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = np.zeros((40, 60), np.uint8)
    image[5:35, 20:26] = 255
    for name in ("a", "c"):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    bad = tmp_path / "b.png"
    bad.write_text("no picture")

    def draw(*arguments: Any) -> list[inspect.NamedFigure]:
        _, image_u8, names, _ = arguments
        assert len(image_u8) == len(names)
        return [inspect.NamedFigure(f"feature_maps_{n}", f"maps of {n}", Figure()) for n in names]

    monkeypatch.setattr(inspect, "draw", draw)
    # With a UserError `main.py` ends with exit status 2.
    message = error_message("--mode=inspect", f"--workdir={workdir}", f"--images={tmp_path}")
    reason, first, second = capsys.readouterr().out.splitlines()
    start = f"{bad}  not read: it "
    assert reason.startswith(start)
    assert message.startswith(
        f"cannot read 1 of 3 pictures ({bad} {reason.removeprefix(start)}): each must"
    )
    folder = workdir / "pictures"
    for name, line in (("a", first), ("c", second)):
        assert line == f"{folder}/feature_maps_{name}.png: maps of {name}"
    maps = sorted(path.name for path in folder.glob("feature_maps_*.png"))
    assert maps == ["feature_maps_a.png", "feature_maps_c.png"]


def test_test_images_of_other_classes_have_their_own_names_and_a_warning(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def record_call(*arguments: Any) -> list[inspect.NamedFigure]:
        calls.append(arguments)
        return []

    monkeypatch.setattr(inspect, "draw", record_call)
    letters = data.Info((28, 28, 1), tuple("abcdefghij"), (), ())
    monkeypatch.setattr(data, "describe", lambda **_: letters)
    err = io.StringIO()
    inspect.inspect(str(workdir), out=io.StringIO(), err=err)
    ((_, _, names, titles),) = calls
    assert (names[0], titles[0]) == ("a", "label a")
    assert "(class 0 is a, not 0, class 1 is b, not 1, class 2" in err.getvalue()


def test_images_are_drawn_beside_what_training_makes_of_them(tmp_path: Path) -> None:
    run(tmp_path, num_epochs=1, **AUGMENT)
    out = io.StringIO()
    written = inspect.inspect(str(tmp_path), out=out, err=io.StringIO())
    assert written[-1] == tmp_path / "pictures" / "augmented.png"
    last = out.getvalue().splitlines()[-1]
    assert last == f"{written[-1]}: test images as training would change them"


def test_figures_with_rgb_images_long_names_and_many_filters_are_legible() -> None:
    shape = (16, 12, 3)
    names = [f"a species with a long name, {k}" for k in range(12)]
    trained = random_model(shape, names, features=(18, 4), activation="leaky_relu", pool="none")
    image_u8 = np.random.default_rng(0).integers(0, 256, (12, *shape), dtype=np.uint8)
    figures = list(inspect.draw(trained, image_u8, names, [f"label {name}" for name in names]))
    assert len({named.stem for named in figures}) == len(figures) == 8
    for named in figures:
        assert_legible(named.figure)


def test_figures_show_the_weights_and_predictions_of_the_model() -> None:
    trained = random_model((8, 8, 1))
    image_u8 = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1), dtype=np.uint8)
    named_figures = inspect.draw(trained, image_u8, ["x"], ["mine.png"])
    figures = {named.stem: named.figure for named in named_figures}
    weights = trained.params["linear_1"]["kernel"]
    # The inputs of linear_1 are in the order row, column, channel; the first tile is channel 0 of
    # class 0, the second tile channel 1.
    tiles = figures["filters_linear_1"].axes[0].get_images()
    np.testing.assert_array_equal(np.asarray(tiles[1].get_array()).ravel(), weights[1::16, 0])
    title = figures["saliency"].axes[0].get_xticklabels()[0].get_text()
    (probability,) = trained.probabilities(image_u8)
    name = trained.class_names[probability.argmax()]
    assert title == f"mine.png\npred. {name}\n{100 * probability.max():.1f} %"
    bars = figures["feature_maps_x"].axes[1].patches
    widths = [bar.get_width() for bar in bars]  # type: ignore[attr-defined]
    np.testing.assert_allclose(widths, 100 * probability)


def test_names_become_safe_and_distinct_file_names() -> None:
    names = ["T-shirt/top", "../..", "T-shirt top", "x" * 300]
    stems = inspect._file_stems(names)
    assert stems == ["T-shirt_top", "_", "T-shirt_top_2", "x" * 40]

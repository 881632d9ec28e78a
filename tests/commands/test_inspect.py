import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnn_jax import data
from cnn_jax.commands import inspect
from cnn_jax.errors import UserError
from cnn_jax.reporting.result import Result
from tests.plots.legible import assert_legible
from tests.support.networks import random_network


@pytest.fixture(scope="module")
def workdir(straight: tuple[Path, Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the small run, with pictures of an earlier inspection."""
    path = tmp_path_factory.mktemp("inspected") / "w"
    shutil.copytree(straight[0], path)
    (path / "pictures").mkdir(exist_ok=True)
    (path / "pictures" / "feature_maps_old.png").touch()
    (path / "pictures" / "confusion_matrix.png").touch()
    return path


def test_writes_pictures_and_says_what_they_show(workdir: Path) -> None:
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
    assert lines[0] == f"{written[0]}: the filters of conv_1, which looks at the image"
    assert lines[1] == f"{written[1]}: the filters of conv_2, which looks at pool_1"
    for path, line in zip(written, lines, strict=True):
        assert line.startswith(f"{path}: ")
        with Image.open(path) as picture:
            assert picture.width <= 1500
        assert path.stat().st_size < 300_000
    assert not (folder / "feature_maps_old.png").exists()  # Of another image.
    assert (folder / "confusion_matrix.png").exists()  # Not one of these pictures.


def test_own_pictures_need_no_data_set(
    workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.zeros((40, 60), np.uint8)
    image[5:35, 20:26] = 255
    Image.fromarray(image).save(tmp_path / "one.png")
    passed: list[Any] = []

    def note(*given: Any) -> list[inspect.Picture]:
        passed.append(given)
        return []  # Nothing is drawn: this is about which images would be.

    monkeypatch.setattr(inspect, "draw", note)
    monkeypatch.setattr(data, "load_test", pytest.fail)
    inspect.inspect(str(workdir), [str(tmp_path / "*.png")], out=io.StringIO())
    ((_, image_u8, names, titles),) = passed
    assert (image_u8.shape, names, titles) == ((1, 28, 28, 1), ["one"], ["one.png"])
    with pytest.raises(UserError, match=r"gone\.png cannot be read: it .*: allowed is"):
        inspect.inspect(str(workdir), ["gone.png"], out=io.StringIO())


@pytest.mark.parametrize(
    ("shape", "label", "words"),
    [((32, 32, 3), 9, "32x32x3 in 10 classes"), ((28, 28, 1), 10, "28x28x1 in 11 classes")],
)
def test_a_data_set_of_another_form_is_refused(
    workdir: Path,
    monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, int, int],
    label: int,
    words: str,
) -> None:
    split = data.Examples(np.zeros((1, *shape), np.uint8), np.array([label], np.int32))
    monkeypatch.setattr(data, "load_test", lambda **_: split)
    with pytest.raises(UserError, match=rf"{words}: allowed is .*, 28x28x1 in 10\. Use"):
        inspect.inspect(str(workdir), out=io.StringIO(), err=io.StringIO())


def test_pictures_of_a_network_with_colours_long_names_and_many_filters_are_legible() -> None:
    shape = (16, 12, 3)
    names = [f"a species with a long name, {k}" for k in range(12)]
    network = random_network(shape, names, features=(18, 4), activation="leaky_relu", pool="none")
    image_u8 = np.random.default_rng(0).integers(0, 256, (12, *shape), dtype=np.uint8)
    pictures = list(inspect.draw(network, image_u8, names, [f"label {name}" for name in names]))
    assert len({picture.stem for picture in pictures}) == len(pictures) == 8
    for picture in pictures:
        assert_legible(picture.figure)


def test_what_is_drawn_is_what_the_network_has_and_says() -> None:
    network = random_network((8, 8, 1))
    image_u8 = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1), dtype=np.uint8)
    drawn = {p.stem: p.figure for p in inspect.draw(network, image_u8, ["x"], ["mine.png"])}
    weights = network.params["linear_1"]["kernel"]
    # The inputs of linear_1 are in the order row, column, channel; the first tile is channel 0 of
    # class 0, the second one channel 1.
    tiles = drawn["filters_linear_1"].axes[0].get_images()
    np.testing.assert_array_equal(np.asarray(tiles[1].get_array()).ravel(), weights[1::16, 0])
    answer = drawn["saliency"].axes[0].get_xticklabels()[0].get_text()
    (probability,) = network.probabilities(image_u8)
    name = network.class_names[probability.argmax()]
    assert answer == f"mine.png\nsays {name}\n{100 * probability.max():.1f} %"
    bars = drawn["feature_maps_x"].axes[1].patches
    widths = [bar.get_width() for bar in bars]  # type: ignore[attr-defined]
    np.testing.assert_allclose(widths, 100 * probability)


def test_names_become_file_names_that_are_safe_and_distinct() -> None:
    names = ["T-shirt/top", "../..", "T-shirt top", "x" * 300]
    stems = inspect._file_stems(names)
    assert stems == ["T-shirt_top", "_", "T-shirt_top_2", "x" * 40]

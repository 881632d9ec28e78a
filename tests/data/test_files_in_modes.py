"""Every mode on a data set of people's own files: colours, other sizes, names in any script."""

import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from PIL import Image

from cnn_jax.commands.demo import demo
from cnn_jax.commands.evaluate import evaluate
from cnn_jax.commands.export import export
from cnn_jax.commands.inspect import inspect
from cnn_jax.errors import UserError
from tests.data.formats.making import examples
from tests.demo.pages import data_of
from tests.support.once import make_once
from tests.support.small import run, small_config

# In the order of their paths. A name may have line breaks, and bytes that are no UTF-8.
CLASS_NAMES = ("cat, black", os.fsdecode(b"two\nlines, caf\xe9"), "イヌ")
PRINTED = ("cat, black", r"two\nlines, caf\udce9", "イヌ")


def write_pictures(folder: Path) -> None:
    """Writes 30 training pictures and 6 test pictures of 12x8 pixels in three colours."""
    for part, count in (("train", 30), ("test", 6)):
        drawn = examples(count, shape=(12, 8, 3))
        for row, (image, label) in enumerate(zip(drawn.image, drawn.label, strict=True)):
            path = folder / part / CLASS_NAMES[label] / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image[..., label] = 255
            Image.fromarray(image).save(path)


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """Returns the changes of `small_config` for the pictures."""
    dataset = {"dataset.name": "files", "dataset.path": str(folder)}
    parts = {"dataset.train_split": "train", "dataset.test_split": "test"}
    return {"num_models": 2, **dataset, **parts, **changes}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a run of two models on pictures in the folder `own pictures`."""

    def train(folder: Path) -> None:
        write_pictures(folder / "own pictures")
        run(folder / "w", **settings(folder / "own pictures"))

    return make_once(tmp_path_factory, "own_pictures", train)[0] / "w"


def use(mode: Callable[..., Any], workdir: Path, **arguments: Any) -> str:
    """Runs a mode, and returns its output; there must be no warning."""
    out, err = io.StringIO(), io.StringIO()
    mode(str(workdir), **arguments, out=out, err=err)
    assert err.getvalue() == ""
    return out.getvalue()


def test_evaluate_names_the_files(workdir: Path) -> None:
    source, heading, *lines = use(evaluate, workdir, model_index=1).splitlines()
    path = json.loads((workdir / "report.json").read_text())["dataset"]["path"]
    assert source == "Data: folders of pictures: 30 train, 6 test"
    assert heading == f"Test set {path} test: 6 examples, checkpoint of step 4"
    assert [line.split("  ")[0] for line in lines[3:6]] == list(PRINTED)


def test_evaluate_names_both_files(workdir: Path) -> None:
    path = json.loads((workdir / "config.json").read_text())["config"]["dataset"]["path"]
    config = small_config(**settings(Path(path), **{"dataset.test_path": f"{path}/test"}))
    out = use(evaluate, workdir, model_index=1, config=config)
    assert f"\nTest set {path} and {path}/test test: 6 examples" in out


def test_inspect_draws_an_image_of_each_class(workdir: Path) -> None:
    lines = use(inspect, workdir, model_index=0).splitlines()
    maps = [line.split(": ", 2)[2] for line in lines if "feature_maps_" in line]
    assert maps == [f"label {name}" for name in PRINTED]
    assert sum("/saliency.png: " in line for line in lines) == 1


def test_exported_files_name_the_classes(workdir: Path) -> None:
    use(export, workdir, model_index=0)
    folder = workdir / "export"
    assert json.loads((folder / "model.json").read_text())["class_names"] == list(CLASS_NAMES)
    properties = {p.key: p.value for p in onnx.load(folder / "model.onnx").metadata_props}
    assert json.loads(properties["class_names"]) == list(CLASS_NAMES)
    readme = (folder / "README.md").read_text()
    assert readme.startswith("# A ConvNet trained on own pictures\n")
    (names,) = re.findall(r"^    (\[.*\])$", readme, re.MULTILINE)
    assert json.loads(names) == list(CLASS_NAMES)
    assert "イヌ" in names  # For people.


def test_the_page_shows_colours_and_names(workdir: Path) -> None:
    use(demo, workdir)
    content = data_of((workdir / "demo" / "index.html").read_text("utf-8"))
    assert content["dataset"] == "own pictures"
    assert content["class_names"] == list(CLASS_NAMES)
    assert content["image_shape"] == [12, 8, 3]
    assert content["conventions"] is None
    tests = [picture["label"] for picture in content["pictures"] if picture["kind"] == "test"]
    assert tests == [0, 0, 1, 1, 2, 2]


def test_a_page_without_the_files_names_them(workdir: Path) -> None:
    saved = json.loads((workdir / "config.json").read_text())
    path = Path(saved["config"]["dataset"]["path"])
    moved, err = path.rename(path.with_name("moved")), io.StringIO()
    demo(str(workdir), out=io.StringIO(), err=err)
    moved.rename(path)
    assert (
        f"the page has no test images: cannot read dataset.path={path} (No such" in err.getvalue()
    )
    content = data_of((workdir / "demo" / "index.html").read_text("utf-8"))
    assert content["pictures_note"] == "The test images of own pictures were not found."


def test_other_files_are_named_where_they_do_not_fit(workdir: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path)
    config = small_config(**settings(tmp_path, **{"dataset.channels": 1}))
    with pytest.raises(UserError) as error:
        evaluate(str(workdir), config, model_index=0, out=io.StringIO())
    assert str(error.value).startswith(
        f"dataset.path={tmp_path} has 3 classes of 12x8x1 images: it must have 3 classes of 12x8x3 "
    )
    with pytest.raises(UserError, match=f"be 0 with dataset.path={tmp_path}, which has no grey"):
        run(None, **settings(tmp_path, **{"augment.strokes": 0.5}))

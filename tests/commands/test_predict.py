"""`--mode=predict`: the files that `--images` names, and the line printed for each."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnn_jax import data
from cnn_jax.checkpoint.restore import newest_checkpoint
from cnn_jax.commands import predict
from cnn_jax.errors import UserError
from cnn_jax.evaluation import loading, trained
from cnn_jax.evaluation.loading import load
from cnn_jax.io.console import Console
from cnn_jax.model import normalize
from cnn_jax.plots import galleries
from cnn_jax.preprocessing.image_files import find_pictures
from cnn_jax.reporting.result import Result
from tests.support.small import run, small_config

JSON = predict.Options(as_json=True)
PLAIN_TEXT = predict.Options()


@pytest.fixture
def workdir(straight_run: tuple[Path, Result], tmp_path: Path) -> Path:
    return Path(shutil.copytree(straight_run[0], tmp_path / "w"))


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Writes three digits as picture files, the second one dark on light."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    paths = [folder / f"{name}.png" for name in "abc"]
    for index, path in enumerate(paths):
        image = data.load("digits").test.image[index, :, :, 0]
        Image.fromarray(255 - image if index == 1 else image).save(path)
    return paths


def predict_lines(
    workdir: Path,
    *images: Path | str,
    options: predict.Options = PLAIN_TEXT,
    **selection: Any,
) -> list[str]:
    out = io.StringIO()
    names, console = [str(image) for image in images], Console(out, io.StringIO())
    predict.predict(str(workdir), names, options=options, console=console, **selection)
    return out.getvalue().splitlines()


def test_files_folders_and_patterns_are_expanded_without_duplicates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "notes.txt", "report.pdf", "._b.png"):
        Path("folder").mkdir(exist_ok=True)
        Path("folder", name).touch()
    for name in ("c.png", "x[1].png", "no.py"):
        Path(name).touch()
    Path("same.png").symlink_to("c.png")
    paths, passed_over = find_pictures(["c.png", "folder", "*.png", "gone.png", "*.gone"])
    assert [str(path) for path in paths] == [
        *("c.png", "folder/a.JPG", "folder/b.png"),
        "x[1].png",  # c.png, and same.png that links to it, are listed already.
        *("gone.png", "*.gone"),  # Reading them reports that they do not exist.
    ]
    assert [str(path) for path in passed_over] == ["folder/notes.txt", "folder/report.pdf"]
    assert find_pictures(["x[1].png"]).pictures == [
        Path("x[1].png")
    ]  # An existing file is not a pattern.
    assert find_pictures(["no.py"]).pictures == [Path("no.py")]  # A named file may have any suffix.


def test_images_that_name_nothing_are_refused() -> None:
    message = "^--images= is invalid: it must name pictures, folders or patterns"
    with pytest.raises(UserError, match=message):
        find_pictures([""])


def test_folder_that_cannot_be_listed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder without pictures is returned, so that reading it fails and the other files are read.
    assert find_pictures([str(tmp_path)]).pictures == [tmp_path]

    def refuse(_: Path) -> list[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    message = (
        r"^cannot list --images=.* \(Permission denied\): it must be a readable folder\. Change"
    )
    with pytest.raises(UserError, match=message):
        find_pictures([str(tmp_path)])


def test_line_has_path_label_probability_and_runners_up(
    workdir: Path, pictures: list[Path]
) -> None:
    folder = pictures[0].parent
    lines = predict_lines(workdir, folder)
    objects = [json.loads(line) for line in predict_lines(workdir, folder, options=JSON)]
    for path, line, content in zip(pictures, lines, objects, strict=True):
        ranking = sorted(content["probabilities"].items(), key=lambda item: -item[1])
        assert sum(content["probabilities"].values()) == pytest.approx(1)
        assert (content["label"], content["probability"]) == ranking[0]
        assert [(n["label"], n["probability"]) for n in content["next"]] == ranking[1:3]
        assert content["path"] == str(path)
        (label, p), (second, q), (third, r) = ranking[:3]
        assert line.startswith(
            f"{path}  {label}  {100 * p:5.1f} %  then {second} {100 * q:.1f} %, "
            f"{third} {100 * r:.1f} %  "
        )
    polarities = [content["polarity"] for content in objects]
    assert polarities == ["light on dark", "dark on light", "light on dark"]
    assert "dark on light" in lines[1]


def test_damaged_file_is_named_and_the_other_files_are_read(
    workdir: Path, pictures: list[Path]
) -> None:
    pictures[1].write_bytes(pictures[1].read_bytes()[:60])
    out = io.StringIO()
    message = r"^cannot read 1 of 3 pictures \(.*b\.png is .*\): each must be of a format "
    with pytest.raises(UserError, match=message):
        predict.predict(
            str(workdir), [str(pictures[0].parent)], console=Console(out, io.StringIO())
        )
    lines = out.getvalue().splitlines()
    assert [" %  then " in line for line in lines] == [True, False, True]
    assert lines[1].startswith(f"{pictures[1]}  not read: it ")
    out = io.StringIO()
    console = Console(out, io.StringIO())
    with pytest.raises(UserError):
        predict.predict(str(workdir), [str(pictures[1])], options=JSON, console=console)
    assert json.loads(out.getvalue()).keys() == {"path", "error"}


@pytest.mark.parametrize(("probability", "unsure"), [(0.69, True), (0.71, False)])
def test_prediction_with_a_low_probability_is_called_unsure(
    probability: float,
    unsure: bool,
    workdir: Path,
    pictures: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = [probability, *[(1 - probability) / 9] * 9]
    monkeypatch.setattr(
        trained.TrainedModel, "probabilities", lambda self, image: np.tile(row, (len(image), 1))
    )
    (line,) = predict_lines(workdir, pictures[0])
    assert line.endswith("unsure: perhaps no digit") is unsure
    (line,) = predict_lines(workdir, pictures[0], options=JSON)
    assert json.loads(line)["unsure"] is unsure


def test_network_inputs_are_drawn_beside_the_originals(
    workdir: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = workdir / "pictures" / "predicted_009.png"
    old.touch()  # Written by an earlier call with more pictures.
    monkeypatch.setattr(galleries, "MAX_PICTURES", 2)
    pictures.append(pictures[0].with_name("two\nlines and \udcff.png"))
    shutil.copy(pictures[0], pictures[-1])
    lines = predict_lines(workdir, *pictures, options=predict.Options(show=True))
    assert len(lines) == 5
    assert lines[4] == f"What the model saw: {workdir}/pictures/predicted_*.png"
    assert "two\\nlines and \\udcff.png  " in lines[3]
    sheets = sorted(path.name for path in (workdir / "pictures").glob("predicted_*.png"))
    assert sheets == ["predicted_001.png", "predicted_002.png"]  # Two pictures each.


def test_any_number_of_images_runs_one_program(
    straight_run: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    digits_model = load(straight_run[0], warn=pytest.fail)
    image = np.random.default_rng(0).integers(0, 256, (401, 28, 28, 1), dtype=np.uint8)
    traced_shapes: list[Any] = []

    def recording_normalize(image_u8: Any) -> Any:
        traced_shapes.append(image_u8.shape)
        return normalize(image_u8)

    trained._compile_logits.cache_clear()  # Another test may have compiled the same program.
    monkeypatch.setattr(trained, "normalize", recording_normalize)
    logits = digits_model.logits(image)
    for count in (0, 1, 199, 200, 201):
        np.testing.assert_array_equal(digits_model.logits(image[:count]), logits[:count])
    assert traced_shapes == [(200, 28, 28, 1)]
    expected = digits_model.model.apply(
        {"params": digits_model.params}, image[:7].astype(np.float32) / 255
    )
    np.testing.assert_allclose(logits[:7], np.asarray(expected), rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def seeds_workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the workdir of a run that trained three models."""
    workdir = tmp_path_factory.mktemp("seeds")
    run(workdir, num_models=3)
    return workdir


def probabilities(workdir: Path, picture: Path, **selection: Any) -> dict[str, float]:
    (line,) = predict_lines(workdir, picture, options=JSON, **selection)
    content: dict[str, float] = json.loads(line)["probabilities"]
    return content


def test_several_models_answer_with_the_mean_of_their_probabilities(
    seeds_workdir: Path, pictures: list[Path]
) -> None:
    each = [probabilities(seeds_workdir, pictures[0], model_index=k) for k in range(3)]
    assert each[0] != each[1] != each[2]
    together = probabilities(seeds_workdir, pictures[0])
    assert together == pytest.approx(
        {name: (each[0][name] + each[1][name] + each[2][name]) / 3 for name in "0123456789"}
    )
    assert list(together.values()) == sorted(together.values(), reverse=True)
    for index, expected in ((None, "digits, step 10, mean of 3 models"), (1, "digits, step 10")):
        ensemble = loading.load_ensemble(seeds_workdir, None, index, None, pytest.fail)
        assert ensemble.label == expected  # For titles of figures.


@pytest.mark.parametrize("diverged", [(1,), (0, 2)])
def test_diverged_models_are_left_out_of_the_mean(
    diverged: tuple[int, ...],
    seeds_workdir: Path,
    pictures: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = [k for k in range(3) if k not in diverged]
    each = [probabilities(seeds_workdir, pictures[0], model_index=k) for k in others]
    _replace_biases(monkeypatch, diverged)
    expected = {name: sum(p[name] for p in each) / len(each) for name in "0123456789"}
    assert probabilities(seeds_workdir, pictures[0]) == pytest.approx(expected)
    err = io.StringIO()
    predict.predict(str(seeds_workdir), [str(pictures[0])], console=Console(io.StringIO(), err))
    assert err.getvalue() == (
        f"warning: leaving out {len(diverged)} of 3 models of {seeds_workdir}: their parameters in "
        "checkpoint 10 are NaN or inf\n"
    )
    with pytest.raises(UserError, match="has parameters that are NaN or inf: all must be finite"):
        probabilities(seeds_workdir, pictures[0], model_index=diverged[0])


def test_models_that_have_all_diverged_are_refused(
    seeds_workdir: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _replace_biases(monkeypatch, (0, 1, 2))
    with pytest.raises(UserError, match="are NaN or inf in each of its models: all must be"):
        probabilities(seeds_workdir, pictures[0])


def _replace_biases(monkeypatch: pytest.MonkeyPatch, models: tuple[int, ...]) -> None:
    """Makes the biases of some models NaN in each checkpoint that is loaded."""

    def newest_with_nan(folder: Path, warn: Any) -> Any:
        checkpoint = newest_checkpoint(folder, warn)
        assert checkpoint
        bias = checkpoint.arrays["params.conv_1.bias"].copy()
        bias[list(models)] = np.nan
        checkpoint.arrays["params.conv_1.bias"] = bias
        return checkpoint

    monkeypatch.setattr(loading, "newest_checkpoint", newest_with_nan)


def test_config_must_have_the_model_of_the_run(workdir: Path, pictures: list[Path]) -> None:
    assert len(predict_lines(workdir, pictures[0], config=small_config())) == 1
    with pytest.raises(UserError, match=r"model must equal .* \(model\.pool was max and is avg\)"):
        predict_lines(workdir, pictures[0], config=small_config(**{"model.pool": "avg"}))

"""`--mode=predict`: which files are meant, and what is said about each."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnn_jax import data
from cnn_jax.commands import predict
from cnn_jax.errors import UserError
from cnn_jax.evaluation import trained
from cnn_jax.model import normalize
from cnn_jax.plots import galleries
from cnn_jax.preprocessing.image_files import find_pictures
from cnn_jax.reporting.result import Result
from tests.support.small import small_config


@pytest.fixture
def workdir(straight: tuple[Path, Result], tmp_path: Path) -> Path:
    return Path(shutil.copytree(straight[0], tmp_path / "w"))


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Three digits as pictures, the second one dark on light."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    paths = [folder / f"{name}.png" for name in "abc"]
    for index, path in enumerate(paths):
        image = data.load("digits").test.image[index, :, :, 0]
        Image.fromarray(255 - image if index == 1 else image).save(path)
    return paths


def say(workdir: Path, *images: Path | str, **options: Any) -> list[str]:
    out = io.StringIO()
    predict.predict(str(workdir), [str(i) for i in images], out=out, err=io.StringIO(), **options)
    return out.getvalue().splitlines()


def test_files_folders_and_patterns_are_found_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "notes.txt", "report.pdf", "._b.png"):
        Path("folder").mkdir(exist_ok=True)
        Path("folder", name).touch()
    for name in ("c.png", "x[1].png", "no.py"):
        Path(name).touch()
    Path("same.png").symlink_to("c.png")
    found = find_pictures(["c.png", "folder", "*.png", "gone.png", "*.gone"])
    assert [str(path) for path in found] == [
        *("c.png", "folder/a.JPG", "folder/b.png"),
        "x[1].png",  # c.png is there already.
        *("gone.png", "*.gone"),  # Reading them will say that they are not there.
    ]
    assert find_pictures(["x[1].png"]) == [Path("x[1].png")]  # A name, although a pattern too.
    assert find_pictures(["no.py"]) == [Path("no.py")]  # Who names a file means it.


def test_where_no_picture_is_meant_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="--images= names no picture: allowed are"):
        find_pictures([""])
    # A folder without pictures is like a file that is none: the others go on.
    assert find_pictures([str(tmp_path)]) == [tmp_path]

    def refuse(_: Path) -> list[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=r"cannot be listed \(Permission denied\): allowed is"):
        find_pictures([str(tmp_path)])


def test_a_line_has_path_label_probability_and_the_next_two(
    workdir: Path, pictures: list[Path]
) -> None:
    lines = say(workdir, pictures[0].parent)
    objects = [json.loads(line) for line in say(workdir, pictures[0].parent, as_json=True)]
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


def test_a_damaged_file_is_named_and_the_others_go_on(workdir: Path, pictures: list[Path]) -> None:
    pictures[1].write_bytes(pictures[1].read_bytes()[:60])
    out = io.StringIO()
    with pytest.raises(UserError, match=r"^1 of 3 files cannot be read \(.*b\.png "):
        predict.predict(str(workdir), [str(pictures[0].parent)], out=out, err=io.StringIO())
    lines = out.getvalue().splitlines()
    assert [" %  then " in line for line in lines] == [True, False, True]
    assert lines[1].startswith(f"{pictures[1]}  not read: it ")
    out = io.StringIO()
    with pytest.raises(UserError):
        predict.predict(str(workdir), [str(pictures[1])], as_json=True, out=out, err=io.StringIO())
    assert json.loads(out.getvalue()).keys() == {"path", "error"}


@pytest.mark.parametrize(("largest", "said"), [(0.69, True), (0.71, False)])
def test_a_low_probability_is_said(
    largest: float, said: bool, workdir: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = [largest, *[(1 - largest) / 9] * 9]
    monkeypatch.setattr(
        trained.TrainedModel, "probabilities", lambda self, image: np.tile(row, (len(image), 1))
    )
    (line,) = say(workdir, pictures[0])
    assert line.endswith("unsure: perhaps no digit") is said
    assert json.loads(say(workdir, pictures[0], as_json=True)[0])["unsure"] is said


def test_what_the_network_saw_is_shown_beside_the_originals(
    workdir: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = workdir / "pictures" / "predicted_009.png"
    old.touch()  # Of an earlier call, with more pictures.
    monkeypatch.setattr(galleries, "MOST_PICTURES", 2)
    pictures.append(pictures[0].with_name("two\nlines and \udcff.png"))
    shutil.copy(pictures[0], pictures[-1])
    lines = say(workdir, *pictures, show=True)
    assert len(lines) == 5
    assert "two\\nlines and \\udcff.png  " in lines[3]
    sheets = sorted(path.name for path in (workdir / "pictures").glob("predicted_*.png"))
    assert sheets == ["predicted_001.png", "predicted_002.png"]  # Two pictures each.


def test_any_number_of_images_runs_one_program(
    straight: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = trained.load(str(straight[0]), None, pytest.fail)
    image = np.random.default_rng(0).integers(0, 256, (401, 28, 28, 1), dtype=np.uint8)
    traced: list[Any] = []

    def note(image_u8: Any) -> Any:
        traced.append(image_u8.shape)
        return normalize(image_u8)

    trained._program.cache_clear()  # Another test may have had the same network.
    monkeypatch.setattr(trained, "normalize", note)
    everything = network.logits(image)
    for count in (0, 1, 199, 200, 201):
        np.testing.assert_array_equal(network.logits(image[:count]), everything[:count])
    assert traced == [(200, 28, 28, 1)]
    expected = network.model.apply({"params": network.params}, image[:7].astype(np.float32) / 255)
    np.testing.assert_allclose(everything[:7], np.asarray(expected), rtol=1e-5, atol=1e-5)


def test_a_config_must_be_of_the_same_network(workdir: Path, pictures: list[Path]) -> None:
    assert len(say(workdir, pictures[0], config=small_config())) == 1
    with pytest.raises(UserError, match="holds another network"):
        say(workdir, pictures[0], config=small_config(**{"model.pool": "avg"}))

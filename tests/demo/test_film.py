"""The film in the page: what Python writes, JavaScript decodes."""

import base64
import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cnn_jax.checkpoint import tree
from cnn_jax.checkpoint.film import read_film, write_frame
from cnn_jax.demo.film import build_film
from cnn_jax.evaluation.loading import load
from tests.support.command_line import ROOT
from tests.support.random_models import random_model
from tests.support.small import run


def decode(array: dict[str, Any]) -> npt.NDArray[np.float32]:
    """Returns a flat array of parameters, decoded as `film.py` describes it."""
    levels = np.frombuffer(base64.b64decode(array["levels"]), np.int8)
    return (levels * array["scale"]).astype(np.float32)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of two models and their film, with the steps 0, 2, 4 and 10."""
    workdir = tmp_path_factory.mktemp("film")
    run(workdir, num_models=2, film_frames=4)
    return workdir


@pytest.mark.parametrize("model_index", [0, 1])
def test_parameters_lose_at_most_half_a_level(workdir: Path, model_index: int) -> None:
    trained = load(workdir, model_index=model_index)
    film = build_film(trained)
    assert film is not None
    assert film["steps"] == [0, 2, 4, 10]
    assert len(film["frames"]) == 3  # The last one is the model itself.
    saved = read_film(workdir, 10, trained.params, model_index)
    for frame, (_, params) in zip(film["frames"], saved, strict=False):
        assert frame.keys() == params.keys()
        for name, array in params.items():
            half = np.abs(array).max() / 127 / 2
            np.testing.assert_allclose(
                decode(frame[name]), array.ravel(), rtol=0, atol=1.001 * half
            )
    # The sign is kept, and the largest magnitude is exact but for the rounding to float32.
    kernel = saved[0].params["conv_1.kernel"].ravel()
    largest = np.abs(kernel).argmax()
    assert decode(film["frames"][0]["conv_1.kernel"])[largest] == pytest.approx(kernel[largest])


def test_film_ends_at_the_step_of_the_model(workdir: Path) -> None:
    # The checkpoint of the end of the first epoch.
    film = build_film(load(workdir, step=5, model_index=0))
    assert film is not None
    assert film["steps"] == [0, 2, 4, 5]


def test_run_without_frames_has_no_film(straight_run: tuple[Path, Any]) -> None:
    assert build_film(load(straight_run[0])) is None


def test_twenty_frames_of_the_reference_network_take_less_than_400_kb(tmp_path: Path) -> None:
    trained = dataclasses.replace(
        random_model((28, 28, 1), tuple("0123456789")), workdir=tmp_path, step=19
    )
    for step in range(20):
        write_frame(tmp_path, step, trained.params)
    film = build_film(trained)
    assert film is not None
    assert len(film["steps"]) == 20
    # 9,098 parameters of one byte, 4/3 in base64, in each of 19 frames: 230,000 bytes.
    size = sum(array.size for array in tree.flatten(trained.params).values())
    assert size == 9098
    assert 19 * size * 4 / 3 < len(json.dumps(film)) < 240_000


@pytest.mark.skipif(
    not shutil.which("node"), reason="node is not installed: apt-get install nodejs"
)
def test_javascript_decodes_what_python_wrote(workdir: Path, tmp_path: Path) -> None:
    film = build_film(load(workdir, model_index=0))
    assert film is not None
    (tmp_path / "data.json").write_text(json.dumps({"film": film}))
    script = f"""
        import {{ readFileSync }} from "node:fs";
        import {{ decodeFilm }} from "{(ROOT / "cnn_jax" / "demo" / "film.js").as_uri()}";
        const {{ steps, frames }} = decodeFilm(JSON.parse(readFileSync("data.json", "utf8")));
        const asLists = (frame) =>
          Object.fromEntries(Object.entries(frame).map(([name, array]) => [name, [...array]]));
        const none = decodeFilm({{ film: null }});
        console.log(JSON.stringify({{ steps, frames: frames.map(asLists), none }}));
    """
    command = ["node", "--no-warnings", "--input-type=module", "--eval", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    decoded = json.loads(done.stdout)
    assert decoded["none"] is None
    assert decoded["steps"] == film["steps"]
    for frame, expected in zip(decoded["frames"], film["frames"], strict=True):
        assert frame.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(np.array(frame[name], np.float32), decode(array))

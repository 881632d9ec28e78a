"""`--mode=demo`: the page of a run, and the pictures that Python prepares for it."""

import base64
import http.client
import io
import json
import re
import shutil
import signal
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cnn_jax import data
from cnn_jax.commands import demo as command
from cnn_jax.commands.demo import demo
from cnn_jax.errors import UserError
from cnn_jax.evaluation.loading import load, load_ensemble
from cnn_jax.reporting.result import Result
from tests.demo.pages import data_of
from tests.support.command_line import error_message, start_main
from tests.support.small import run, small_config


@pytest.fixture(scope="module")
def workdir(straight_run: tuple[Path, Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a copy of the small run."""
    return Path(shutil.copytree(straight_run[0], tmp_path_factory.mktemp("shown") / "w"))


def written_data(workdir: Path, **arguments: Any) -> tuple[dict[str, Any], str, str]:
    """Writes the page of a run; returns its data, the output and the warnings."""
    out, err = io.StringIO(), io.StringIO()
    demo(str(workdir), **arguments, out=out, err=err)
    page = (workdir / "demo" / "index.html").read_text("utf-8")
    return data_of(page), out.getvalue(), err.getvalue()


def test_the_page_of_a_run_is_written(workdir: Path) -> None:
    content, out, err = written_data(workdir)
    path = workdir / "demo" / "index.html"
    size = path.stat().st_size
    assert out == f"{path}: {size:,} bytes. Open it in a browser.\n"
    assert err == ""
    assert [model["seed"] for model in content["models"]] == [1]
    assert content["is_served"] is False
    assert (content["pictures_note"], content["film"]) == ("", None)


def test_pictures_are_the_first_of_each_class_and_the_hardest_mistakes(workdir: Path) -> None:
    content, _, _ = written_data(workdir)
    trained = load(workdir)
    test = data.load_test(**trained.config.dataset)
    pictures = {
        kind: [p for p in content["pictures"] if p["kind"] == kind] for kind in ("test", "mistake")
    }
    # 30 test images of scikit-learn's digits, in which every class occurs at least twice.
    firsts = [np.flatnonzero(test.label == k)[i] for k in range(10) for i in range(2)]
    assert [p["label"] for p in pictures["test"]] == [k for k in range(10) for _ in range(2)]
    probability = trained.probabilities(test.image)
    wrong = np.flatnonzero(probability.argmax(axis=1) != test.label)
    hardest = sorted(wrong, key=lambda i: -probability[i].max())[:20]
    for kind, indices in (("test", firsts), ("mistake", hardest)):
        images = [zlib.decompress(base64.b64decode(p["image"])) for p in pictures[kind]]
        assert images == [test.image[i].tobytes() for i in indices]
        assert [p["label"] for p in pictures[kind]] == test.label[indices].tolist()


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        # Two classes of which one is rare: all of it, and the first of the other, by class.
        ([1] * 30 + [0], [30, *range(19)]),
        # More classes than pictures: the first of each of the first twenty.
        (list(range(49)) * 2, list(range(20))),
        ([2, 0], [1, 0]),
    ],
)
def test_pictures_are_spread_over_the_classes(label: list[int], expected: list[int]) -> None:
    assert command._first_of_each(np.array(label, np.int32)).tolist() == expected


def test_all_models_of_a_run_are_in_the_page(tmp_path: Path) -> None:
    run(tmp_path, num_models=2, num_epochs=1)
    content, _, _ = written_data(tmp_path)
    assert [model["seed"] for model in content["models"]] == [1, 2]
    first, second = (model["params"]["linear_1.kernel"] for model in content["models"])
    assert first != second
    content, _, _ = written_data(tmp_path, model_index=1)
    assert [model["params"]["linear_1.kernel"] for model in content["models"]] == [second]


def test_a_page_without_data_says_so(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise UserError("cannot find digits: it must be there. Get it.")

    monkeypatch.setattr(data, "load_test", fail)
    content, _, err = written_data(workdir)
    assert content["pictures"] == []
    assert content["pictures_note"] == "The test images of digits were not found."
    assert "the page has no test images: cannot find digits: it must be there" in err
    # A data set that was asked for must be there.
    with pytest.raises(UserError, match="cannot find digits"):
        written_data(workdir, config=small_config())


def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    run(tmp_path, num_epochs=1)
    (tmp_path / "demo").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*demo"):
        demo(str(tmp_path), out=io.StringIO())


def test_python_prepares_pictures_as_predict_reads_them(workdir: Path) -> None:
    picture = Image.new("L", (200, 100), 235)
    pen = ImageDraw.Draw(picture)
    pen.line([(45, 20), (45, 80)], fill=40, width=8)
    pen.line([(120, 20), (155, 20), (130, 80)], fill=40, width=8)
    file = io.BytesIO()
    picture.save(file, "PNG")
    ensemble = load_ensemble(workdir, None, None, None, pytest.fail)
    prepared = command._prepare(ensemble, file.getvalue())
    json.dumps(prepared)  # All of it can be sent.
    (line,) = prepared["lines"]
    one, seven = line
    assert (one["start"], one["stop"], seven["start"], seven["stop"]) == (0, 1, 1, 2)
    assert one["box"][2] < 100 < seven["box"][0]
    images = [
        np.frombuffer(base64.b64decode(part["image"]), np.uint8).reshape(28, 28, 1) for part in line
    ]
    labels = ensemble.probabilities(np.array(images)).argmax(axis=1)
    (answer,) = prepared["answers"]
    assert answer["label"] == "".join(str(k) for k in labels)
    assert 0 < answer["probability"] <= 1
    assert (prepared["polarity"], prepared["isDoubtful"]) == ("dark on light", False)
    assert command._prepare(ensemble, b"no picture") == {
        "error": "has no format that Pillow decodes: save it as JPEG or PNG"
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--mode=demo",), "--workdir is missing: with --mode=demo it must be the folder"),
        (("--mode=demo", "--workdir=nowhere"), "nowhere has no checkpoint"),
        (("--mode=evaluate", "--workdir=w", "--serve"), "--serve has no effect with --mode=eval"),
        (("--mode=demo", "--workdir=w", "--port=80"), "--port=80 has no effect without --serve"),
        (("--mode=demo", "--workdir=w", "--serve", "--port=70000"), "not an integer in the range"),
    ],
)
def test_error_of_the_user_is_reported(arguments: tuple[str, ...], words: str) -> None:
    assert words in error_message(*arguments)


def test_ctrl_c_ends_the_server(workdir: Path) -> None:
    with start_main("--mode=demo", f"--workdir={workdir}", "--serve") as process:
        watchdog = threading.Timer(90, process.kill)
        watchdog.start()
        assert process.stdout
        process.stdout.readline()
        (port,) = re.findall(r"on http://127\.0\.0\.1:(\d+)/ until", process.stdout.readline())
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
        connection.request("GET", "/")
        content = data_of(connection.getresponse().read().decode())
        connection.close()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
        watchdog.cancel()
    assert content["is_served"] is True
    assert (process.returncode, err) == (130, "stopped by SIGINT: there was nothing to save\n")

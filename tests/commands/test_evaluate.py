"""`--mode=evaluate`: any checkpoint of a workdir, on any data set of its form."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnn_jax.checkpoint.manager import Checkpoints
from cnn_jax.commands import evaluate as evaluate_mode
from cnn_jax.errors import UserError
from cnn_jax.evaluation.report import ClassificationReport
from cnn_jax.reporting.result import Result
from tests.support.networks import random_network
from tests.support.small import run, small_config

pytestmark = pytest.mark.durability


def evaluate(workdir: Path, *arguments: Any) -> tuple[dict[str, Any], list[str]]:
    out = io.StringIO()
    report = evaluate_mode.evaluate(str(workdir), *arguments, out=out, err=io.StringIO())
    return report, out.getvalue().splitlines()


def test_evaluate_needs_a_workdir_alone(straight: tuple[Path, Result], tmp_path: Path) -> None:
    workdir, result = straight
    report, lines = evaluate(workdir)
    assert report["test_loss"] == result.test_loss  # To the last bit.
    assert report["test_accuracy"] == result.test_accuracy
    assert report["num_examples"] == np.sum(report["confusion_matrix"]) == 30
    assert lines[-1] == f"Test accuracy: {100 * result.test_accuracy:.2f}%"
    assert json.loads((workdir / "report.json").read_text()) == report
    for name in ("confusion_matrix", "mistakes", "calibration"):
        with Image.open(workdir / "pictures" / f"{name}.png") as picture:
            picture.verify()


def test_evaluate_takes_any_checkpoint(straight: tuple[Path, Result]) -> None:
    # That of step 5 is what a run of one epoch ends with.
    assert evaluate(straight[0], None, 5)[0]["test_loss"] == run(None, num_epochs=1).test_loss


def test_evaluate_takes_the_data_set_of_a_config(straight: tuple[Path, Result]) -> None:
    # What only a training needs may be another one.
    changes = {
        "dataset.test_split": "train[:70]",
        "learning_rate": 7.0,
        "model.init_stddev": 0.0,
    }
    report, _ = evaluate(straight[0], small_config(**changes))
    assert report["test_accuracy"] == straight[1].train_accuracy


def test_evaluate_refuses_another_network(straight: tuple[Path, Result]) -> None:
    with pytest.raises(UserError, match=r"another network: model\.activation was relu and is sig"):
        evaluate(straight[0], small_config(**{"model.activation": "sigmoid"}))


def test_the_mean_counts_a_class_that_is_never_predicted_as_nothing() -> None:
    # Both classes are taken for the first: its precision is 1 / 2, its recall 1, its F1 2 / 3; of
    # the second nothing is found; a third has no example, and is left out.
    scores = ClassificationReport(np.array([[0.9, 0.1, 0.0], [0.8, 0.1, 0.1]]), np.array([0, 1]))
    total = {"loss": 0.5, "accuracy": 0.5}
    report = evaluate_mode._report(random_network(class_names=("a", "b", "c")), total, scores)
    table = evaluate_mode._lines(report)[2].splitlines()
    assert table[2].split()[:8] == ["a", "50.00", "%", "100.00", "%", "66.67", "%", "1"]
    assert table[3].split()[:7] == ["b", "-", "0.00", "%", "0.00", "%", "1"]
    assert table[5].split() == ["mean", "25.00", "%", "50.00", "%", "33.33", "%", "2"]
    assert json.loads(json.dumps(report, allow_nan=False))["classes"][2]["recall"] is None


def test_parameters_that_are_no_numbers_are_refused(
    straight: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = Checkpoints.newest

    def spoilt(self: Checkpoints, warn: Any) -> Any:
        checkpoint = newest(self, warn)
        assert checkpoint
        name = "params.conv_1.bias"
        checkpoint.arrays[name] = np.full_like(checkpoint.arrays[name], np.nan)
        return checkpoint

    monkeypatch.setattr(Checkpoints, "newest", spoilt)
    with pytest.raises(UserError, match="has parameters that are no numbers"):
        evaluate(straight[0])


def test_evaluate_says_where_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no checkpoint: allowed is"):
        evaluate(tmp_path)
    assert not list(tmp_path.iterdir())

"""`--mode=evaluate`: any checkpoint of a workdir, on any data set with images of its shape."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnn_jax.checkpoint.restore import newest_checkpoint
from cnn_jax.commands import evaluate as evaluate_mode
from cnn_jax.errors import UserError
from cnn_jax.evaluation import loading
from cnn_jax.evaluation.report import ClassificationReport
from cnn_jax.reporting.result import Result
from tests.support.random_models import random_model
from tests.support.small import run, small_config


def evaluate(workdir: Path, *arguments: Any) -> tuple[dict[str, Any], list[str]]:
    out = io.StringIO()
    report = evaluate_mode.evaluate(str(workdir), *arguments, out=out, err=io.StringIO())
    return report, out.getvalue().splitlines()


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the figures, which take longer than the rest."""
    monkeypatch.setattr(evaluate_mode, "_write_figures", lambda *_: [])


def test_evaluate_needs_only_a_workdir(straight_run: tuple[Path, Result]) -> None:
    workdir, result = straight_run
    report, lines = evaluate(workdir)
    assert report["test_loss"] == result.test_loss  # Bit for bit.
    assert report["test_accuracy"] == result.test_accuracy
    assert report["num_examples"] == np.sum(report["confusion_matrix"]) == 30
    assert lines[-1] == f"Test accuracy: {100 * result.test_accuracy:.2f}%"
    assert json.loads((workdir / "report.json").read_text()) == report
    for name in ("confusion_matrix", "mistakes", "calibration"):
        with Image.open(workdir / "pictures" / f"{name}.png") as figure:
            figure.verify()


@pytest.mark.usefixtures("without_figures")
def test_evaluate_scores_any_checkpoint(straight_run: tuple[Path, Result]) -> None:
    # The checkpoint of step 5 equals the end of a run of one epoch.
    assert evaluate(straight_run[0], None, 5)[0]["test_loss"] == run(None, num_epochs=1).test_loss


@pytest.mark.usefixtures("without_figures")
def test_evaluate_scores_the_data_set_of_a_config(straight_run: tuple[Path, Result]) -> None:
    # Values that only training uses may differ from those of the run.
    changes = {
        "dataset.test_split": "train[:70]",
        "learning_rate": 7.0,
        "model.init_stddev": 0.0,
    }
    report, _ = evaluate(straight_run[0], small_config(**changes))
    assert report["test_accuracy"] == straight_run[1].train_accuracy


def test_config_with_another_model_is_refused(straight_run: tuple[Path, Result]) -> None:
    message = (
        r"^--config is invalid for workdir .*: its model must equal the model of that run "
        r"\(model\.activation was relu and is sigmoid\)\. Use"
    )
    with pytest.raises(UserError, match=message):
        evaluate(straight_run[0], small_config(**{"model.activation": "sigmoid"}))


def test_class_that_is_never_predicted_counts_as_zero_in_the_mean() -> None:
    # One example of class a and one of class b are both predicted as a. Precision of a: 1 / 2,
    # recall 1, F1 2 / 3. Recall of b: 0. Class c has no example, and is left out of the mean.
    scores = ClassificationReport(np.array([[0.9, 0.1, 0.0], [0.8, 0.1, 0.1]]), np.array([0, 1]))
    total = {"loss": 0.5, "accuracy": 0.5}
    report = evaluate_mode._build_report(random_model(class_names=("a", "b", "c")), total, scores)
    table = evaluate_mode._format_report(report)[2].splitlines()
    assert table[2].split()[:8] == ["a", "50.00", "%", "100.00", "%", "66.67", "%", "1"]
    assert table[3].split()[:7] == ["b", "-", "0.00", "%", "0.00", "%", "1"]
    assert table[3].endswith("a (1 time)")
    assert table[5].split() == ["mean", "25.00", "%", "50.00", "%", "33.33", "%", "2"]
    assert json.loads(json.dumps(report, allow_nan=False))["classes"][2]["recall"] is None


def test_parameters_that_are_not_finite_are_refused(
    straight_run: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def newest_with_nan(folder: Path, warn: Any) -> Any:
        checkpoint = newest_checkpoint(folder, warn)
        assert checkpoint
        name = "params.conv_1.bias"
        checkpoint.arrays[name] = np.full_like(checkpoint.arrays[name], np.nan)
        return checkpoint

    monkeypatch.setattr(loading, "newest_checkpoint", newest_with_nan)
    with pytest.raises(UserError, match="has parameters that are NaN or inf: all must be finite"):
        evaluate(straight_run[0])


def test_workdir_without_a_checkpoint_is_reported_and_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="has no checkpoint: it must be the --workdir of a training run"
    ):
        evaluate(tmp_path)
    assert not list(tmp_path.iterdir())

"""Several models in one run: the same as each in a run of its own; interrupted; and used."""

import io
import json
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest

from cnn_jax import data, experiment
from cnn_jax.commands import evaluate as evaluate_mode
from cnn_jax.errors import Stopped, UserError
from cnn_jax.evaluation import loading
from cnn_jax.evaluation.ensemble import Ensemble
from cnn_jax.io import signals
from cnn_jax.io.workdir import read_metrics
from cnn_jax.reporting.result import Result
from cnn_jax.training.device_feed import DeviceFeed
from tests.support.small import AUGMENT, run, small_config

CHANGES: dict[str, Any] = {"num_models": 2, "learning_rate": (0.1, 0.05), "seed": 3}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, str]:
    """Trains two rates times two seeds; returns the workdir (read-only), the result, the output."""
    workdir, out = tmp_path_factory.mktemp("together"), io.StringIO()
    config = small_config(**CHANGES)
    return workdir, experiment.run(config, str(workdir), out=out, err=io.StringIO()), out.getvalue()


def select_model(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)


def test_each_model_equals_a_run_of_its_own(together: tuple[Path, Result, str]) -> None:
    _, result, _ = together
    assert result.models
    # The last model: rate 0.05, seed 4. A swept rate is an argument of the program, not a constant,
    # which adds one rounding.
    single = run(None, seed=4, learning_rate=0.05)
    chex.assert_trees_all_close(select_model(result.params, 3), single.params, atol=1e-6)
    assert result.models[3] == {
        "seed": 4,
        "learning_rate": 0.05,
        "test_accuracy": single.test_accuracy,
        "test_loss": pytest.approx(single.test_loss, rel=1e-5),
        "train_accuracy": single.train_accuracy,
    }
    assert result.num_parameters == single.num_parameters
    assert len({leaf.tobytes() for leaf in result.params["linear_1"]["kernel"]}) == 4


def test_each_augmented_model_equals_a_run_of_its_own() -> None:
    changes = {"num_epochs": 1, **AUGMENT}
    together, single = run(None, num_models=2, seed=3, **changes), run(None, seed=4, **changes)
    chex.assert_trees_all_equal(select_model(together.params, 1), single.params)


def test_swept_models_smooth_their_labels() -> None:
    together = run(None, learning_rate=(0.1, 0.05), label_smoothing=0.3)
    single = run(None, learning_rate=0.05, label_smoothing=0.3)
    chex.assert_trees_all_close(select_model(together.params, 1), single.params, atol=1e-6)
    plain = run(None, learning_rate=0.05)
    assert np.abs(plain.params["linear_1"]["bias"] - single.params["linear_1"]["bias"]).max() > 1e-3


def test_result_has_means_and_ensembles(together: tuple[Path, Result, str]) -> None:
    workdir, result, _ = together
    content = json.loads((workdir / "result.json").read_text())
    assert content == result.to_json()
    accuracies = [model["test_accuracy"] for model in content["models"]]
    assert content["test_accuracy"] == pytest.approx(np.mean(accuracies))
    by_rate = content["comparison"]
    assert [summary["learning_rate"] for summary in by_rate] == [0.1, 0.05]
    assert by_rate[1]["test_accuracy_mean"] == pytest.approx(np.mean(accuracies[2:]))
    # The ensemble, as `--mode=predict` computes it.
    ensemble = Ensemble([loading.load(workdir, model_index=index) for index in (0, 1)])
    examples = data.load(**ensemble.config.dataset).test
    mean = ensemble.probabilities(examples.image)
    right = (mean.argmax(axis=1) == examples.label).mean()
    assert by_rate[0]["ensemble_test_accuracy"] == pytest.approx(right)
    loss = -np.log(mean[range(len(mean)), examples.label]).mean()
    assert by_rate[0]["ensemble_test_loss"] == pytest.approx(loss, rel=1e-4)


def test_metrics_have_every_model_and_their_mean(together: tuple[Path, Result, str]) -> None:
    rows = read_metrics(together[0])
    assert len(rows) == 2 * (3 + 1) + 1  # As for a single model.
    for row in rows:
        assert row["loss"] == pytest.approx(np.mean(row["models"]["loss"]))
        assert len(row["models"]["accuracy"]) == 4


def test_console_lines(together: tuple[Path, Result, str]) -> None:
    lines = together[2].splitlines()
    assert "Models: 4 = 2 learning_rate x 2 seeds" in lines
    start = lines.index("Test accuracy in %, learning_rate 0.1:")
    assert lines[start + 1].startswith("  seed 3 to 4: ")
    assert lines[-1] == f"Test accuracy: {100 * together[1].test_accuracy:.2f}%"


def test_interrupted_run_resumes_to_the_same_bits(
    together: tuple[Path, Result, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stopped after the second of ten steps, within an epoch and before a row of metrics.
    train = DeviceFeed.train

    def stopping(self: Any, *arguments: Any) -> Any:
        if arguments[3] == 1:
            signals.StopRequest.signal_number = 15
        return train(self, *arguments)

    monkeypatch.setattr(signals.StopRequest, "signal_number", None)
    with monkeypatch.context() as patch:
        patch.setattr(DeviceFeed, "train", stopping)
        with pytest.raises(Stopped, match=r"after step [1-3] of 10"):
            run(tmp_path, **CHANGES)
    signals.StopRequest.signal_number = None
    result = run(tmp_path, **CHANGES)
    straight = together[1]
    assert result.params_sha256 == straight.params_sha256
    assert result.models == straight.models
    assert result.comparison == straight.comparison
    without_seconds = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in read_metrics(folder)]
        for folder in (tmp_path, together[0])
    ]
    assert without_seconds[0] == without_seconds[1]


def test_finished_run_is_evaluated_again(together: tuple[Path, Result, str]) -> None:
    out = io.StringIO()
    config = small_config(**CHANGES)
    result = experiment.run(config, str(together[0]), out=out, err=io.StringIO())
    assert result.models == together[1].models
    lines, before = out.getvalue().splitlines(), together[2].splitlines()
    assert lines == ["This run is finished after 2 epochs.", *before[before.index("") :]]


def test_other_models_are_another_run(together: tuple[Path, Result, str]) -> None:
    for key, value, message in (
        ("num_models", 3, "num_models was 2 and is 3"),
        ("learning_rate", (0.1, 0.2), "learning_rate was 0.1,0.05 and is 0.1,0.2"),
    ):
        with pytest.raises(UserError, match=message):
            run(together[0], **{**CHANGES, key: value})


def test_every_model_can_be_used(together: tuple[Path, Result, str]) -> None:
    workdir, result, _ = together
    assert result.models
    report = evaluate_mode.evaluate(
        str(workdir), None, None, 2, out=io.StringIO(), err=io.StringIO()
    )
    assert report["test_accuracy"] == result.models[2]["test_accuracy"]
    assert report["test_loss"] == pytest.approx(result.models[2]["test_loss"])
    message = r"has 4 models with several values of learning_rate: .* 0\.\.3, .* Use --model=K"
    with pytest.raises(UserError, match=message):
        loading.load(str(workdir), warn=print)
    with pytest.raises(UserError, match=message):  # Only models of one rate are an ensemble.
        loading.load_ensemble(workdir, None, None, None, print)
    with pytest.raises(UserError, match=r"--model=4 is invalid: it must be 0\.\.3"):
        loading.load(str(workdir), model_index=4, warn=print)


def test_single_model_has_index_0(straight_run: tuple[Path, Result]) -> None:
    assert loading.load(str(straight_run[0]), model_index=0, warn=print).step == 10
    with pytest.raises(UserError, match=r"--model=1 is invalid: it must be 0, .* has 1 model"):
        loading.load(str(straight_run[0]), model_index=1, warn=print)


def test_diverged_model_does_not_affect_the_others(tmp_path: Path) -> None:
    out = io.StringIO()
    config = small_config(learning_rate=(0.1, 1e30))
    result = experiment.run(config, str(tmp_path), out=out, err=io.StringIO())
    assert result.models
    assert "seed 1, learning_rate 1e+30: loss is nan at step" in out.getvalue()
    single = run(None, learning_rate=0.1)
    assert result.models[0]["test_accuracy"] == single.test_accuracy
    assert (result.models[1]["test_loss"], result.test_loss) == (None, None)
    assert result.test_accuracy == single.test_accuracy  # The diverged model does not count.
    rows = read_metrics(tmp_path)
    assert rows[-1]["models"]["loss"][1] is None
    assert rows[-1]["loss"] == rows[-1]["models"]["loss"][0]
    with pytest.raises(
        UserError, match=r"parameters that are NaN or inf: all must be finite.*--model"
    ):
        loading.load(str(tmp_path), model_index=1, warn=print)


def test_run_stops_when_all_models_diverge() -> None:
    with pytest.raises(UserError, match="loss is nan between step"):
        run(None, learning_rate=(1e30, 1e31))

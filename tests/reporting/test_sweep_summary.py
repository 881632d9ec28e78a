"""Mean, deviation, confidence interval and ensemble of a sweep, and its lines on the console."""

import math

import jax.numpy as jnp
import pytest

from cnn_jax.config.sweep import list_models
from cnn_jax.engine.loops import EvalMetrics
from cnn_jax.nn.metrics import Metrics
from cnn_jax.reporting import sweep_summary
from cnn_jax.reporting.per_model import compute_each
from tests.support.small import small_config


def metrics_of(correct: list[int], loss: list[float]) -> Metrics:
    """Returns the metrics of models that scored ten examples each."""
    count = jnp.full(len(correct), 10, jnp.int32)
    return Metrics(10 * jnp.asarray(loss, jnp.float32), jnp.asarray(correct, jnp.int32), count)


# Two learning rates with three seeds each, of which one model diverged; ten test examples.
CONFIG = small_config(num_models=3, learning_rate=(0.1, 9.0))
METRICS = EvalMetrics(
    metrics_of([8, 9, 10, 1, 1, 1], [0.5, 0.25, 0.125, math.nan, 4.0, 2.0]),
    metrics_of([10, 2], [0.25, math.nan]),
)


def test_mean_deviation_and_interval_of_the_models_that_converged() -> None:
    first, second = sweep_summary.summarize(CONFIG, METRICS)
    assert (first.swept, list(first.seeds)) == ({"learning_rate": 0.1}, [1, 2, 3])
    # 0.8, 0.9, 1.0: variance (0.01 + 0 + 0.01) / 2. Student's t for two degrees of freedom and
    # 97.5 % is 4.3027 (any table), so the mean is known to 4.3027 * 0.1 / sqrt(3) = 0.2484.
    assert first.mean == pytest.approx(0.9)
    assert first.stddev == pytest.approx(0.1)
    assert first.interval == pytest.approx((0.9 - 0.2484, 1.0), abs=1e-4)  # Clipped to 1.
    assert first.to_json() == {
        "learning_rate": 0.1,
        "num_models": 3,
        "test_accuracy_mean": pytest.approx(0.9),
        "test_accuracy_stddev": pytest.approx(0.1),
        "test_accuracy_interval_95": pytest.approx([0.6516, 1.0], abs=1e-4),
        "ensemble_test_accuracy": 1.0,
        "ensemble_test_loss": 0.25,
    }
    # The loss of one of three models is NaN: that model is excluded, and an ensemble with it has no
    # accuracy.
    assert second.accuracies == [0.1, 0.1]
    assert second.interval == pytest.approx((0.1, 0.1))
    assert second.to_json()["ensemble_test_accuracy"] is None
    assert sweep_summary.format_summaries([second])[-2].split()[:4] == ["9", "3,", "1", "diverged"]


def test_single_model_has_no_deviation() -> None:
    config = small_config(learning_rate=(0.1, 9.0))
    metrics = EvalMetrics(metrics_of([8, 1], [0.5, 2.0]), None)
    first, _ = sweep_summary.summarize(config, metrics)
    assert (first.mean, first.stddev, first.interval) == (0.8, None, None)
    assert first.ensemble == {"loss": 0.5, "accuracy": 0.8, "count": 10}
    cells = sweep_summary.format_summaries([first])[-2].split()
    assert cells == ["0.1", "1", "80.00", "%", "-", "-", "80.00", "%", "80.00", "%"]


def test_result_has_a_row_per_model() -> None:
    rows = sweep_summary.model_rows(
        list_models(CONFIG), compute_each(METRICS.models), compute_each(METRICS.models)
    )
    assert rows[2] == {
        "seed": 3,
        "learning_rate": 0.1,
        "test_accuracy": 1.0,
        "test_loss": 0.125,
        "train_accuracy": 1.0,
    }
    assert (rows[3]["test_loss"], rows[3]["test_accuracy"]) == (None, None)  # JSON has no NaN.


def test_lines_have_every_accuracy_and_end_with_the_table() -> None:
    config = small_config(seed=5, num_models=12)
    metrics = EvalMetrics(metrics_of([5] * 11 + [7], [1.0] * 12), metrics_of([6], [1.0]))
    lines = sweep_summary.format_summaries(sweep_summary.summarize(config, metrics))
    assert lines == [
        "",
        "Test accuracy in %:",
        "  seed 5 to 14: 50.00 50.00 50.00 50.00 50.00 50.00 50.00 50.00 50.00 50.00",
        "  seed 15 to 16: 50.00 70.00",
        "",
        "models     mean  std. dev.  95 % interval of the mean     best  ensemble",
        "------------------------------------------------------------------------",
        # One accuracy is 20 % above the others: mean 50 + 20 / 12, deviation 20 / sqrt(12) = 5.77,
        # and with t(97.5 %, 11) = 2.201 an interval of 2.201 * 5.77 / sqrt(12) = 3.67 on each side.
        "    12  51.67 %     5.77 %         48.00 % to 55.33 %  70.00 %   60.00 %",
        "",
    ]

"""The test results of models trained together: rows, mean and spread over seeds, ensembles."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from cnn_jax.config import sweep
from cnn_jax.config.sweep import SweptModel
from cnn_jax.engine.loops import EvalMetrics
from cnn_jax.io.console import format_table
from cnn_jax.nn.metrics import MetricValues
from cnn_jax.reporting.per_model import compute_each, finite_values

_PER_LINE = 10  # Accuracies on a console line.


@dataclasses.dataclass(frozen=True)
class SweepSummary:
    """Test results of models that differ only in their seed.

    Attributes:
      swept: value of each swept hyperparameter, the same for all of these models.
      seeds: seed of each model.
      test: `accuracy` and `loss` of each model on the test set.
      ensemble: `accuracy` and `loss` of the mean of the models' probabilities on the test set.
    """

    swept: Mapping[str, float]
    seeds: range
    test: Sequence[MetricValues]
    ensemble: MetricValues

    @property
    def accuracies(self) -> list[float]:
        """Test accuracies, 0..1, of the models whose loss is finite."""
        values = finite_values(self.test, "accuracy")
        return [float(accuracy) for accuracy in values if accuracy is not None]

    @property
    def mean(self) -> float | None:
        """Mean of the accuracies; None where there are none."""
        return statistics.fmean(self.accuracies) if self.accuracies else None

    @property
    def stddev(self) -> float | None:
        """Sample standard deviation of the accuracies (divisor n - 1); None where n < 2."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the mean accuracy over all seeds, clipped to 0..1.

        mean -+ t(97.5 %, n - 1) * stddev / sqrt(n), with Student's t distribution, which assumes
        normally distributed accuracies. It covers the choice of the seed, not that of the test set.
        None where n < 2.
        """
        if self.mean is None or self.stddev is None:
            return None
        from scipy import stats  # Imported here: it takes 0.2 s, and only sweeps need it.

        count = len(self.accuracies)
        margin = float(stats.t.ppf(0.975, count - 1)) * self.stddev / math.sqrt(count)
        return max(0.0, self.mean - margin), min(1.0, self.mean + margin)

    def to_json(self) -> dict[str, Any]:
        """Returns one entry of `comparison` in `result.json`.

        Accuracies are fractions, losses are in nats; null stands for an undefined value.
        """
        interval = self.interval
        ensemble = {name: finite_values([self.ensemble], name)[0] for name in ("accuracy", "loss")}
        return {
            **self.swept,
            "num_models": len(self.seeds),
            "test_accuracy_mean": self.mean,
            "test_accuracy_stddev": self.stddev,
            "test_accuracy_interval_95": list(interval) if interval else None,
            "ensemble_test_accuracy": ensemble["accuracy"],
            "ensemble_test_loss": ensemble["loss"],
        }


def summarize(config: ConfigDict, scores: EvalMetrics) -> list[SweepSummary]:
    """Groups the models of a config by their swept hyperparameters.

    Args:
      config: config of the run.
      scores: metrics of its models and ensembles on the test set.

    Returns:
      One summary for each combination of swept hyperparameters, in the order of the models.
    """
    test = compute_each(scores.models)
    # An ensemble of one model is that model.
    ensembles = compute_each(scores.ensembles) if scores.ensembles else test
    size = config.num_models
    seeds = range(config.seed, config.seed + size)
    return [
        SweepSummary(swept, seeds, test[k * size : (k + 1) * size], ensembles[k])
        for k, swept in enumerate(sweep.hyperparameter_combinations(config))
    ]


def model_rows(
    models: Sequence[SweptModel],
    test_metrics: Sequence[MetricValues],
    train_metrics: Sequence[MetricValues],
) -> list[dict[str, Any]]:
    """Returns one row for each model, the content of `models` in `result.json`.

    Args:
      models: seed and swept hyperparameters of each model.
      test_metrics: `accuracy` and `loss` of each model on the test set.
      train_metrics: `accuracy` and `loss` of each model on the training set.

    Returns:
      `seed`, the swept hyperparameters, `test_accuracy`, `test_loss` and `train_accuracy` of each
      model; the last three are None where the loss is not finite.
    """
    columns = (
        finite_values(test_metrics, "accuracy"),
        finite_values(test_metrics, "loss"),
        finite_values(train_metrics, "accuracy"),
    )
    return [
        {
            "seed": model.seed,
            **model.swept,
            "test_accuracy": test_accuracy,
            "test_loss": test_loss,
            "train_accuracy": train_accuracy,
        }
        for model, test_accuracy, test_loss, train_accuracy in zip(models, *columns, strict=True)
    ]


def format_summaries(summaries: Sequence[SweepSummary]) -> list[str]:
    """Formats summaries for the console.

    Args:
      summaries: at least one, all with the same swept hyperparameters.

    Returns:
      Lines with the test accuracy of every model, then a table with one row for each summary.
    """
    lines = []
    for summary in summaries:
        swept = ", ".join(f"{name} {value}" for name, value in summary.swept.items())
        lines.append(f"Test accuracy in %{', ' + swept if swept else ''}:")
        for start in range(0, len(summary.seeds), _PER_LINE):
            seeds = summary.seeds[start : start + _PER_LINE]
            accuracies = finite_values(summary.test[start : start + _PER_LINE], "accuracy")
            label = f"seed {seeds[0]}" + (f" to {seeds[-1]}" if len(seeds) > 1 else "")
            lines.append(f"  {label}: " + " ".join(map(_format_accuracy, accuracies)))
    header = [
        *summaries[0].swept,
        *("models", "mean", "std. dev.", "95 % interval of the mean", "best", "ensemble"),
    ]
    table = format_table(header, [_table_row(summary) for summary in summaries], left=())
    return ["", *lines, "", *table.splitlines(), ""]


def _format_accuracy(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{100 * accuracy:.2f}"


def _table_row(summary: SweepSummary) -> list[str]:
    def percent(fraction: float | None) -> str:
        return "-" if fraction is None else f"{100 * fraction:.2f} %"

    interval = summary.interval
    num_diverged = len(summary.seeds) - len(summary.accuracies)
    return [
        *(f"{value:g}" for value in summary.swept.values()),
        f"{len(summary.seeds)}{f', {num_diverged} diverged' if num_diverged else ''}",
        percent(summary.mean),
        percent(summary.stddev),
        " to ".join(map(percent, interval)) if interval else "-",
        percent(max(summary.accuracies, default=None)),
        percent(finite_values([summary.ensemble], "accuracy")[0]),
    ]

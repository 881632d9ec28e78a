"""What networks that were trained at once have come to: each, their spread, as ensembles."""

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
from cnn_jax.nn.metrics import MetricValues, finite_values

_PER_LINE = 10  # Accuracies.


@dataclasses.dataclass(frozen=True)
class SweepSummary:
    """Networks that differ in nothing but their seed.

    Attributes:
      swept: what they have in common and others have not, see `networks.Network`.
      seeds: of each.
      test: `accuracy` and `loss` of each on the test set.
      ensemble: those of the mean of their probabilities.
    """

    swept: Mapping[str, float]
    seeds: range
    test: Sequence[MetricValues]
    ensemble: MetricValues

    @property
    def accuracies(self) -> list[float]:
        """On the test set, 0..1; without those of networks whose loss is no number any more."""
        found = finite_values(self.test, "accuracy")
        return [float(accuracy) for accuracy in found if accuracy is not None]

    @property
    def mean(self) -> float | None:
        """Of the accuracies."""
        return statistics.fmean(self.accuracies) if self.accuracies else None

    @property
    def stddev(self) -> float | None:
        """Standard deviation of the accuracies of all seeds, as these let one guess (n - 1)."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the mean over all seeds, by Student's t distribution.

        mean -+ t(97.5 %, n - 1) * stddev / sqrt(n), which takes the accuracies for normally
        distributed, cut to 0..1. It says nothing of how other test images would be read.
        """
        if self.mean is None or self.stddev is None:
            return None
        from scipy import stats  # 0.2 s, for those who train several.

        count = len(self.accuracies)
        reach = float(stats.t.ppf(0.975, count - 1)) * self.stddev / math.sqrt(count)
        return max(0.0, self.mean - reach), min(1.0, self.mean + reach)

    def to_json(self) -> dict[str, Any]:
        """As it goes into `result.json`: fractions, losses in nats, null for what is unknown."""
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
    """The networks of a config, those together that differ in their seed alone.

    Args:
      config: of the run.
      scores: of its networks and ensembles on the test set.
    """
    test = scores.models.compute_each()
    ensembles = scores.ensembles.compute_each() if scores.ensembles else test
    size = config.num_models
    seeds = range(config.seed, config.seed + size)
    return [
        SweepSummary(swept, seeds, test[k * size : (k + 1) * size], ensembles[k])
        for k, swept in enumerate(sweep.hyperparameter_combinations(config))
    ]


def model_rows(
    found: Sequence[SweptModel], test: Sequence[MetricValues], trained: Sequence[MetricValues]
) -> list[dict[str, Any]]:
    """Each network as it goes into `result.json`; what has no loss any more has null.

    Args:
      found: the networks.
      test: `accuracy` and `loss` of each on the test set.
      trained: those on the training set.
    """
    columns = (
        finite_values(test, "accuracy"),
        finite_values(test, "loss"),
        finite_values(trained, "accuracy"),
    )
    return [
        {
            "seed": network.seed,
            **network.swept,
            "test_accuracy": test_accuracy,
            "test_loss": test_loss,
            "train_accuracy": train_accuracy,
        }
        for network, test_accuracy, test_loss, train_accuracy in zip(found, *columns, strict=True)
    ]


def format_summaries(comparisons: Sequence[SweepSummary]) -> list[str]:
    """Each network's accuracy, and the table of what they have come to."""
    shown = []
    for compared in comparisons:
        common = ", ".join(f"{name} {value}" for name, value in compared.swept.items())
        shown.append(f"Test accuracy in %{', ' + common if common else ''}:")
        for start in range(0, len(compared.seeds), _PER_LINE):
            part = compared.seeds[start : start + _PER_LINE]
            numbers = finite_values(compared.test[start : start + _PER_LINE], "accuracy")
            label = f"seed {part[0]}" + (f" to {part[-1]}" if len(part) > 1 else "")
            shown.append(f"  {label}: " + " ".join(map(_two_digits, numbers)))
    header = [
        *comparisons[0].swept,
        *("networks", "mean", "std. dev.", "95 % interval of the mean", "best", "ensemble"),
    ]
    table = format_table(header, [_row(compared) for compared in comparisons], left=())
    return ["", *shown, "", *table.splitlines(), ""]


def _two_digits(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{100 * accuracy:.2f}"


def _row(compared: SweepSummary) -> list[str]:
    def percent(number: float | None) -> str:
        return "-" if number is None else f"{100 * number:.2f} %"

    interval = compared.interval
    lost = len(compared.seeds) - len(compared.accuracies)
    return [
        *(f"{value:g}" for value in compared.swept.values()),
        f"{len(compared.seeds)}{f', {lost} lost' if lost else ''}",
        percent(compared.mean),
        percent(compared.stddev),
        " to ".join(map(percent, interval)) if interval else "-",
        percent(max(compared.accuracies, default=None)),
        percent(finite_values([compared.ensemble], "accuracy")[0]),
    ]

"""The metrics of the models of a run, as Python numbers."""

import math
from collections.abc import Sequence

import jax

from cnn_jax.nn.metrics import Metrics, MetricValues


def compute_each(metrics: Metrics) -> list[MetricValues]:
    """Returns the result of `Metrics.compute` for each model; the attributes are [num_models]."""
    sums = jax.device_get(metrics)
    models = zip(sums.loss_sum, sums.correct, sums.count, strict=True)
    return [Metrics(*model).compute() for model in models]


def finite_values(per_model: Sequence[MetricValues], name: str) -> list[float | int | None]:
    """Returns one metric of each model, and None for each model whose loss is not finite.

    The accuracy of a diverged model means nothing: its logits are NaN, and the argmax of equal
    values or NaNs is class 0.

    Args:
      per_model: the result of `Metrics.compute` for each model.
      name: `loss`, `accuracy` or `count`.
    """
    return [values[name] if math.isfinite(values["loss"]) else None for values in per_model]


def mean_of_finite(per_model: Sequence[MetricValues], name: str) -> float:
    """Returns the mean of one metric over the models whose loss is finite.

    Args:
      per_model: the result of `Metrics.compute` for each model.
      name: `loss`, `accuracy` or `count`.

    Returns:
      The mean, or NaN when no model has a finite loss.
    """
    values = [value for value in finite_values(per_model, name) if value is not None]
    return math.fsum(values) / len(values) if values else math.nan

"""Losses that are not finite are reported, and stop a run that has no other model."""

import math

import pytest

from cnn_jax.config.sweep import SweptModel
from cnn_jax.errors import UserError
from cnn_jax.nn.metrics import MetricValues
from cnn_jax.training.divergence import DivergenceCheck

THREE_MODELS = [SweptModel(1, {}), SweptModel(2, {}), SweptModel(3, {})]


def metrics_of(*losses: float) -> list[MetricValues]:
    """Returns the metrics of models with these losses."""
    return [{"loss": loss, "accuracy": 0.5, "count": 4} for loss in losses]


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_divergence_of_a_single_model_stops_the_run(loss: float) -> None:
    lines: list[str] = []
    check = DivergenceCheck([SweptModel(1, {})], lines.append, has_workdir=True)
    check.check(metrics_of(2.3), 0, 5, None)
    with pytest.raises(UserError) as error:
        check.check(metrics_of(loss), 5, 7, 5)
    assert str(error.value) == (
        f"loss is {loss} between step 5 and step 7: it must be finite. The checkpoint of step 5 is "
        "kept. Use a smaller learning_rate and another --workdir."
    )
    assert lines == []


def test_message_names_neither_checkpoint_nor_workdir_if_there_is_none() -> None:
    check = DivergenceCheck([SweptModel(1, {})], lambda _: None, has_workdir=False)
    with pytest.raises(UserError) as error:
        check.check(metrics_of(math.nan), 0, 2, None)
    assert str(error.value) == (
        "loss is nan between step 0 and step 2: it must be finite. Use a smaller learning_rate."
    )


def test_one_diverged_model_of_three_is_reported_once_and_training_continues() -> None:
    lines: list[str] = []
    models = [SweptModel(4, {"learning_rate": rate}) for rate in (0.1, 10.0, 0.2)]
    check = DivergenceCheck(models, lines.append, has_workdir=True)
    check.check(metrics_of(2.3, 2.3, 2.3), 0, 50, None)
    check.check(metrics_of(1.0, math.inf, 1.0), 50, 100, None)
    check.check(metrics_of(0.9, math.nan, 0.9), 100, 150, None)
    assert lines == ["seed 4, learning_rate 10.0: loss is inf at step 100"]


def test_each_diverged_model_is_reported_once_when_it_diverges() -> None:
    lines: list[str] = []
    check = DivergenceCheck(THREE_MODELS, lines.append, has_workdir=True)
    check.check(metrics_of(1.0, 1.0, math.nan), 0, 50, None)
    assert lines == ["seed 3: loss is nan at step 50"]
    # Model 3 has recovered by itself; it stays diverged and is not reported again.
    check.check(metrics_of(math.nan, 1.0, 1.0), 50, 100, None)
    check.check(metrics_of(1.0, 1.0, math.nan), 100, 150, None)
    assert lines == ["seed 3: loss is nan at step 50", "seed 1: loss is nan at step 100"]


def test_divergence_of_all_models_stops_the_run() -> None:
    lines: list[str] = []
    check = DivergenceCheck(THREE_MODELS, lines.append, has_workdir=True)
    check.check(metrics_of(1.0, math.nan, 1.0), 0, 50, None)
    with pytest.raises(UserError, match=r"^loss is inf between step 50 and step 100: .* of step 9"):
        check.check(metrics_of(math.inf, math.nan, math.nan), 50, 100, 9)
    assert lines == ["seed 2: loss is nan at step 50"]

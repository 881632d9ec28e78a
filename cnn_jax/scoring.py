"""Loss and accuracy of many examples, in calls short enough for a request to end to be seen."""

from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from cnn_jax import data, train
from cnn_jax.metrics import Metrics
from cnn_jax.pace import Pace
from cnn_jax.programs import compile_evaluate

Examples = tuple[jax.Array, jax.Array]


def examples_on_device(dataset: data.Dataset) -> Examples:
    """One array for all examples, training first: one program scores either part of it."""
    parts = (dataset.train, dataset.test)
    image = np.concatenate([part.image for part in parts])
    label = np.concatenate([part.label for part in parts])
    on_device: Examples = jax.device_put((image, label))
    return on_device


def score(
    evaluate: jax.stages.Compiled,
    state: train.TrainState,
    examples: Examples,
    start: int,
    stop: int,
    pace: Pace,
    pause: Callable[[], None],
) -> dict[str, float]:
    """Loss and accuracy of some examples with the parameters as they are.

    Args:
      evaluate: of `programs.Programs`.
      state: of the run.
      examples: see `examples_on_device`.
      start: first example.
      stop: one after the last.
      pace: for pieces of `train.EVAL_BATCH_SIZE` examples.
      pause: called after each piece.
    """
    total = Metrics.empty()
    for first, end in pace.pieces(start, stop, train.EVAL_BATCH_SIZE):
        total = jax.block_until_ready(evaluate(state, total, *examples, first, end))
        pause()
    values: dict[str, float] = total.compute()
    return values


def score_test(
    config: ConfigDict,
    info: data.Info,
    state: train.TrainState,
    dataset: data.Dataset,
    clock: Callable[[], float],
) -> dict[str, float]:
    """Loss and accuracy of the test set, with the bits that a training run ends with.

    Args:
      config: as checked by `config.check`.
      info: of its data set.
      state: of a run.
      dataset: its examples.
      clock: seconds as a function of nothing.
    """
    return score(
        compile_evaluate(config, info),
        state,
        examples_on_device(dataset),
        info.num_train,
        info.num_train + info.num_test,
        Pace(clock),
        pause=lambda: None,
    )

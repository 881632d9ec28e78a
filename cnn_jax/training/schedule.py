"""The order of a run's actions: which batches are trained on, what is evaluated, when to save.

`trainer.Trainer` carries the actions out; `stream_feed` reads ahead in the same order.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ml_collections import ConfigDict

from cnn_jax import data, train


class TrainBatches(NamedTuple):
    """Train on a stretch of batches, which makes a console line and a row of metrics.jsonl.

    Attributes:
      epoch: epoch, from 1.
      first: first batch of the epoch, from 0.
      end: one after the last.
    """

    epoch: int
    first: int
    end: int


class Evaluate(NamedTuple):
    """Compute the metrics of a range of examples, the training examples before the test examples.

    Attributes:
      epoch: epoch after whose last step it happens.
      split: `train_eval`, for the training examples, or `test`; as in metrics.jsonl.
      start: first example.
      stop: one after the last.
    """

    epoch: int
    split: str
    start: int
    stop: int


class Save(NamedTuple):
    """Save a checkpoint of the end of an epoch."""

    epoch: int


Action = TrainBatches | Evaluate | Save


def actions(config: ConfigDict, info: data.Info, step: int) -> Iterator[Action]:
    """Yields the actions of a run.

    Args:
      config: config checked by `schema.check`.
      info: its data set.
      step: number of steps already taken. After the last step of an epoch, its evaluation comes
        first: the run may have been stopped before it.
    """
    num_batches = train.steps_per_epoch(info.num_train, config.batch_size)
    every = config.log_every_steps
    for epoch in range(max(1, -(-step // num_batches)), config.num_epochs + 1):
        done = max(0, step - (epoch - 1) * num_batches)
        while done < num_batches:
            end = min(done - done % every + every, num_batches)
            yield TrainBatches(epoch, done, end)
            done = end
        is_last = epoch == config.num_epochs
        # The evaluation comes before the save, since it shows whether the parameters are finite.
        if is_last or epoch % config.evaluate_every_epochs == 0:
            yield Evaluate(epoch, "train_eval", 0, info.num_train)
        if is_last or epoch % config.checkpoint_every_epochs == 0:
            yield Save(epoch)
    yield Evaluate(config.num_epochs, "test", info.num_train, info.num_train + info.num_test)

"""The order of a run's actions: training on batches, evaluations, saves, frames of the film.

`trainer.Trainer` carries the actions out; `stream_feed` reads ahead in the same order.
"""

import bisect
from collections.abc import Iterator
from typing import NamedTuple

from ml_collections import ConfigDict

from cnn_jax import data, train


class TrainBatches(NamedTuple):
    """Train on a stretch of batches.

    Attributes:
      epoch: epoch, from 1.
      first: first batch of the epoch, from 0.
      end: one after the last.
      completes_row: whether a row of metrics.jsonl follows, with the metrics of all batches since
        the row before it. Otherwise the stretch ends for a frame of the film.
    """

    epoch: int
    first: int
    end: int
    completes_row: bool


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


class Snapshot(NamedTuple):
    """Write a frame of the film: the present parameters."""


Action = TrainBatches | Evaluate | Save | Snapshot


def actions(config: ConfigDict, info: data.Info, step: int) -> Iterator[Action]:
    """Yields the actions of a run.

    Args:
      config: config checked by `schema.check`.
      info: its data set.
      step: number of steps already taken. What follows that step, a frame or the evaluation of an
        epoch, comes first: the run may have been stopped before it.
    """
    num_batches = train.steps_per_epoch(info.num_train, config.batch_size)
    every = config.log_every_steps
    frames = film_steps(config.num_epochs * num_batches, config.film_frames)
    if step in frames:
        yield Snapshot()
    for epoch in range(max(1, -(-step // num_batches)), config.num_epochs + 1):
        epoch_start = (epoch - 1) * num_batches
        done = max(0, step - epoch_start)
        while done < num_batches:
            end = row_end = min(done - done % every + every, num_batches)
            if frames:  # The last one is at the end of the run.
                next_frame = frames[bisect.bisect(frames, epoch_start + done)]
                end = min(end, next_frame - epoch_start)
            yield TrainBatches(epoch, done, end, completes_row=end == row_end)
            if frames and end == next_frame - epoch_start:
                yield Snapshot()
            done = end
        is_last = epoch == config.num_epochs
        # The evaluation comes before the save, since it shows whether the parameters are finite.
        if is_last or epoch % config.evaluate_every_epochs == 0:
            yield Evaluate(epoch, "train_eval", 0, info.num_train)
        if is_last or epoch % config.checkpoint_every_epochs == 0:
            yield Save(epoch)
    yield Evaluate(config.num_epochs, "test", info.num_train, info.num_train + info.num_test)


def film_steps(num_steps: int, num_frames: int) -> list[int]:
    """Returns the steps after which the frames of a film are taken, spaced by their logarithm.

    After step 0 each frame is at the ratio to the one before it that leads in equal ratios to the
    last step, rounded, and at least one step later. So the first steps each have a frame, if the
    frames are many.

    Args:
      num_steps: number of steps of the run, >= 1.
      num_frames: 0, or at least 2.

    Returns:
      min(num_frames, num_steps + 1) ascending steps, the first 0 and the last `num_steps`; none if
      `num_frames` is 0.
    """
    if num_frames == 0:
        return []
    steps = [0]
    for remaining in range(min(num_frames - 1, num_steps), 0, -1):
        last = max(1, steps[-1])
        # At most num_steps - remaining + 1, since a geometric mean is at most the arithmetic one.
        step = round(last * (num_steps / last) ** (1 / remaining))
        steps.append(max(steps[-1] + 1, step))
    return steps

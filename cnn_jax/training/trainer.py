"""The loop over epochs: trains, evaluates and saves, from any step to the end or a stop request."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from cnn_jax import train
from cnn_jax.checkpoint import film
from cnn_jax.checkpoint.metadata import Progress, run_metadata
from cnn_jax.checkpoint.state import squeeze_model_axis, state_tree
from cnn_jax.config import sweep
from cnn_jax.engine import sharding
from cnn_jax.engine.loops import EvalMetrics
from cnn_jax.io.signals import StopRequest
from cnn_jax.nn.metrics import Metrics, MetricValues
from cnn_jax.nn.optimizer import learning_rate_schedule
from cnn_jax.reporting import result, sweep_summary
from cnn_jax.reporting.per_model import compute_each, mean_of_finite
from cnn_jax.reporting.result import Result
from cnn_jax.training import schedule
from cnn_jax.training.context import RunContext, Start
from cnn_jax.training.device_feed import Feed
from cnn_jax.training.divergence import DivergenceCheck
from cnn_jax.training.schedule import Evaluate, Save, Snapshot, TrainBatches

if TYPE_CHECKING:
    from cnn_jax.checkpoint.manager import Checkpoints


class Trainer:
    """Trains, evaluates, logs and saves the models of a run, epoch by epoch."""

    def __init__(
        self,
        context: RunContext,
        feed: Feed,
        checkpoints: "Checkpoints | None",
        request: StopRequest,
        start: Start,
        profile_folder: Path | None = None,
    ) -> None:
        """Prepares to train from `start`.

        Args:
          context: what all parts of the run share.
          feed: its examples.
          checkpoints: where the state is saved, or None.
          request: tells of a stop request.
          start: where the run starts; its state is donated.
          profile_folder: where a profile of some steps is written, or None.
        """
        self._config, self._info, self._cluster = context.config, context.info, context.cluster
        self._logger, self._clock, self._started = context.logger, context.clock, context.started
        self._feed, self._checkpoints, self._request = feed, checkpoints, request
        self._num_batches = train.steps_per_epoch(self._info.num_train, self._config.batch_size)
        self._num_steps = self._config.num_epochs * self._num_batches
        self._models = sweep.list_models(self._config)
        num_models, everywhere = len(self._models), sharding.replicated(context.mesh)
        empty = Metrics.empty(num_models), EvalMetrics.empty(num_models, self._config.num_models)
        self._empty, self._empty_eval = sharding.to_devices(empty, everywhere)
        # `_total` sums the metrics of the batches since the last line of metrics.jsonl.
        self._step, self._state, self._total, self._earlier = start
        self._first_step, self._profile_folder = start.step, profile_folder
        self._saved_step = start.step or None
        has_workdir = checkpoints is not None
        self._divergence = DivergenceCheck(self._models, self._logger.line, has_workdir=has_workdir)
        epoch_seconds = list(self._earlier.epoch_seconds)
        self._progress = dataclasses.replace(self._earlier, epoch_seconds=epoch_seconds)
        self._training_started = self._clock()

    def run(self) -> Result:
        """Trains to the end, saving checkpoints, and scores the test set.

        Raises:
          Stopped: after a stop request, once the state is saved, if there is a workdir.
          UserError: when the loss is not finite, or something cannot be written.
        """
        train_metrics: list[MetricValues] = []
        progress = self._progress
        for action in schedule.actions(self._config, self._info, self._step):
            match action:
                case TrainBatches():
                    self._train(action)
                    # The saved progress excludes the evaluation: a resumed run evaluates again.
                    progress = self._progress_now()
                case Evaluate(epoch, "train_eval", start, stop):
                    train_metrics = self._evaluate_epoch(epoch, start, stop)
                case Save():
                    self._save(progress)
                case Snapshot():
                    self._write_frame()
                case Evaluate(_, "test", start, stop):
                    self._end_training()
                    test_metrics = self._evaluate(start, stop)
        return self._make_result(train_metrics, test_metrics)

    def _end_training(self) -> None:
        self._logger.log_training_time(self._elapsed())
        if self._profile_folder:
            self._logger.line("No profile: the compiled loop was called less than twice")
        if self._checkpoints:
            self._checkpoints.wait()

    def _train(self, stretch: TrainBatches) -> None:
        """Trains on a stretch of batches, and logs their metrics."""
        epoch, done, stretch_end, completes_row = stretch
        if len(self._progress.epoch_seconds) < epoch:
            self._progress.epoch_seconds.append(0.0)
        epoch_start = (epoch - 1) * self._num_batches
        seconds_before = self._progress.epoch_seconds[-1]
        for first, end in self._feed.train_chunks(done, stretch_end):
            began = self._clock()
            with self._profile(epoch_start + first, epoch_start + end):
                self._state, self._total, first_batch = self._feed.train(
                    self._state, self._total, epoch, first, end
                )
                per_model = compute_each(self._total)
            self._step = epoch_start + end
            self._check_finite(per_model, epoch_start + first)
            self._progress.epoch_seconds[-1] += self._clock() - began
            self._logger.log_progress(
                epoch,
                first,
                mean_of_finite(compute_each(first_batch), "loss"),
                show=first % self._config.log_every_steps == 0,
                advance=end - first,
            )
            if completes_row and end == stretch_end:
                self._log_metrics(epoch, "train", per_model)
                seconds = self._progress.epoch_seconds[-1] - seconds_before
                self._log_speed(seconds / (stretch_end - done))
                self._total = self._empty
            self._stop_if_requested()

    def _profile(self, first: int, end: int) -> contextlib.AbstractContextManager[Any]:
        """Returns a context manager that profiles the second call of the compiled loop.

        The second call takes about a second; during the first one the devices warm up.

        Args:
          first: number of steps taken before the call.
          end: number of steps taken after it.
        """
        if self._profile_folder is None or first == self._first_step:
            return contextlib.nullcontext()
        folder, self._profile_folder = self._profile_folder, None
        self._logger.line(f"Profile of steps {first + 1} to {end}: {folder}/plugins/profile")
        return jax.profiler.trace(str(folder), create_perfetto_trace=True)

    def _log_speed(self, seconds_per_step: float) -> None:
        if board := self._logger.board:
            values = {"seconds_per_step": seconds_per_step}
            if not isinstance(self._config.learning_rate, tuple | list):
                values["learning_rate"] = float(self._schedule(self._step - 1))  # From 0, in Optax.
            board.add_scalars(self._step, values)

    @functools.cached_property
    def _schedule(self) -> Callable[[int], Any]:
        config = self._config
        # Not jitted, its first call would take half a second.
        return jax.jit(
            learning_rate_schedule(config.schedule, config.learning_rate, self._num_steps)
        )

    def _evaluate_epoch(self, epoch: int, start: int, stop: int) -> list[MetricValues]:
        """Computes and logs the metrics of the training set, start .. stop - 1, for each model."""
        per_model = compute_each(self._evaluate(start, stop).models)
        self._check_finite(per_model, self._step - 1)
        self._log_metrics(epoch, "train_eval", per_model)
        accuracy = mean_of_finite(per_model, "accuracy")
        self._logger.log_epoch_accuracy(epoch, accuracy, self._elapsed())
        # With several processes all must call `_params`, and only the first one has a board.
        params = self._params() if self._cluster.process_count > 1 or self._logger.board else None
        if board := self._logger.board:
            board.add_histograms(self._step, params)
            board.flush()
        return per_model

    def _make_result(
        self, train_metrics: Sequence[MetricValues], test_metrics: EvalMetrics
    ) -> Result:
        """Logs the metrics of the test set, and returns the result of the run."""
        config = self._config
        per_model = compute_each(test_metrics.models)
        self._check_finite(per_model, self._step - 1)
        self._log_metrics(config.num_epochs, "test", per_model)
        fields: dict[str, Any] = {}
        if len(self._models) > 1:
            summaries = sweep_summary.summarize(config, test_metrics)
            for line in sweep_summary.format_summaries(summaries):
                self._logger.line(line)
            fields = {
                "models": sweep_summary.model_rows(self._models, per_model, train_metrics),
                "comparison": [summary.to_json() for summary in summaries],
            }
        self._logger.log_test_accuracy(mean_of_finite(per_model, "accuracy"))
        params, progress = self._params(), self._progress_now()
        for name in ("epoch_seconds", "eval_seconds", "compile_seconds", "total_seconds"):
            fields[name] = getattr(progress, name)
        return result.make_result(params, per_model, train_metrics, steps=self._step, **fields)

    def _params(self) -> Any:
        """Copies the parameters to this process; all processes must call it."""
        params = sharding.to_host(self._state.params)
        return squeeze_model_axis(params) if len(self._models) == 1 else params

    def _evaluate(self, start: int, stop: int) -> EvalMetrics:
        """Computes the metrics of the examples start .. stop - 1 with the present parameters."""
        began = self._clock()
        total: EvalMetrics = self._empty_eval
        for first, end in self._feed.eval_chunks(start, stop):
            total = jax.block_until_ready(self._feed.evaluate(self._state, total, first, end))
            self._stop_if_requested()
        self._progress.eval_seconds += self._clock() - began
        return total

    def _stop_if_requested(self) -> None:
        """Saves the state and stops the run after a stop request; called between two chunks."""
        # A request to one process stops all, or the others would wait for it.
        number = self._cluster.agree_on_signal(self._request.signal_number)
        if number is None:
            return
        self._request.signal_number = number
        where = f"after step {self._step} of {self._num_steps}"
        message = f"{where}; nothing is saved without a --workdir"
        if self._checkpoints:
            self._save(self._progress_now())
            self._checkpoints.wait()
            self._cluster.barrier("saved")  # By process 0: only then may all say so.
            folder = self._checkpoints.folder
            message = f"{where}; saved in {folder}. The same command resumes from there"
        self._request.raise_if_requested(message)

    def _save(self, progress: Progress) -> None:
        """Starts to save the state, unless the step is saved already."""
        if self._checkpoints is None or self._saved_step == self._step:
            return
        tree = state_tree(*sharding.to_host((self._state, self._total)))
        # The loss of the last step is that of the parameters before it: check those after it.
        finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree["params"]))
        if len(self._models) == 1 and not finite:
            self._divergence.stop(math.nan, self._step - 1, self._step, self._saved_step)
        self._checkpoints.save(self._step, tree, run_metadata(self._config, self._info, progress))
        self._saved_step = self._step

    def _write_frame(self) -> None:
        """Writes the present parameters as a frame of the film, if there is a workdir."""
        if self._checkpoints is None:
            return
        params = self._params()
        if self._cluster.is_first:
            film.write_frame(self._checkpoints.folder.parent, self._step, params)

    def _check_finite(self, per_model: Sequence[MetricValues], first_step: int) -> None:
        self._divergence.check(per_model, first_step, self._step, self._saved_step)

    def _elapsed(self) -> float:
        """Returns the seconds of training, over all starts of the run."""
        return self._earlier.training_seconds + self._clock() - self._training_started

    def _progress_now(self) -> Progress:
        return dataclasses.replace(
            self._progress,
            epoch_seconds=list(self._progress.epoch_seconds),
            training_seconds=self._elapsed(),
            total_seconds=self._earlier.total_seconds + self._clock() - self._started,
            metrics_bytes=self._logger.metrics_size(),
        )

    def _log_metrics(self, epoch: int, split: str, per_model: Sequence[MetricValues]) -> None:
        self._logger.log_metrics(
            step=self._step, epoch=epoch, split=split, per_model=per_model, seconds=self._elapsed()
        )

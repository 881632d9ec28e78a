"""The loop over epochs, steps and scorings: from any step on, to the end or to a request to end."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cnn_jax import data, train
from cnn_jax.checkpoint.metadata import (
    Progress,
    data_info,
    environment,
    restore,
    squeeze_model_axis,
    state_tree,
)
from cnn_jax.config import sweep
from cnn_jax.distributed.cluster import Cluster
from cnn_jax.engine import sharding
from cnn_jax.engine.compile import Programs
from cnn_jax.engine.loops import EvalMetrics
from cnn_jax.errors import UserError
from cnn_jax.io.signals import StopRequest
from cnn_jax.nn.metrics import Metrics, MetricValues, mean_of_finite
from cnn_jax.nn.optimizer import learning_rate_schedule
from cnn_jax.reporting import result, sweep_summary
from cnn_jax.reporting.result import Result
from cnn_jax.reporting.train_logger import TrainLogger
from cnn_jax.training.device_feed import Feed

if TYPE_CHECKING:
    from cnn_jax.checkpoint.manager import Checkpoint, Checkpoints


class Trainer:
    """The state of a run, and what brings it forward."""

    def __init__(
        self,
        config: ConfigDict,
        info: data.Info,
        mesh: Mesh,
        programs: Programs,
        feed: Feed,
        report: TrainLogger,
        checkpoints: "Checkpoints | None",
        request: StopRequest,
        cluster: Cluster,
        *,
        clock: Callable[[], float],
        started: float,
        checkpoint: "Checkpoint | None",
        profile_folder: Path | None = None,
    ) -> None:
        """Draws the initial parameters or takes the saved ones.

        Args:
          config: as checked by `config.check`.
          info: of the data set.
          mesh: of `parallel.make_mesh`.
          programs: for these three.
          feed: of its examples.
          report: takes what happens.
          checkpoints: take the state, or None.
          request: to end, if one comes.
          cluster: the processes that train together.
          clock: seconds as a function of nothing.
          started: when the run was called for.
          checkpoint: where to go on from; None: from the beginning.
          profile_folder: for a profile of some steps, if one is wanted.
        """
        self._config, self._info, self._feed = config, info, feed
        self._report, self._checkpoints = report, checkpoints
        self._request, self._cluster = request, cluster
        self._clock = clock
        self._num_batches = train.steps_per_epoch(info.num_train, config.batch_size)
        self._networks = sweep.list_models(config)
        nothing = (
            Metrics.empty(len(self._networks)),
            EvalMetrics.empty(len(self._networks), config.num_models),
        )
        self._no_metrics, self._no_scores = sharding.to_devices(nothing, sharding.replicated(mesh))
        # The sum is that of the batches since the last row of metrics.jsonl.
        if checkpoint:
            self._state, self._total = restore(config, info, mesh, checkpoint)
            self._before = Progress.of(checkpoint)
            self._step = checkpoint.step
        else:
            self._state = programs.initial_state(*sweep.seeds_and_hyperparameters(config))
            self._total = self._no_metrics
            self._before = Progress()
            self._step = 0
        self._first_step, self._profile_folder = self._step, profile_folder
        self._saved_step = checkpoint.step if checkpoint else None
        self._lost: set[int] = set()  # Networks whose loss is no number any more.
        self._progress = dataclasses.replace(
            self._before,
            epoch_seconds=list(self._before.epoch_seconds),
            compile_seconds=self._before.compile_seconds + programs.seconds,
        )
        self._started = started
        self._training_started = clock()

    def run(self) -> Result:
        """Trains to the end, saving as it goes, and scores the test set.

        Raises:
          Stopped: as soon as the state is saved, if that was asked for.
          UserError: when the loss is no number any more, or something cannot be written.
        """
        # An epoch whose steps are done is still to be scored.
        first_epoch = max(1, -(-self._step // self._num_batches))
        for epoch in range(first_epoch, self._config.num_epochs + 1):
            self._train_epoch(epoch)
            last = epoch == self._config.num_epochs
            saves = last or epoch % self._config.checkpoint_every_epochs == 0
            # Scoring shows whether the parameters are good, and so comes before the saving; but a
            # process that goes on from here scores them anew.
            progress = self._progress_now() if saves else None
            train_each = self._score_epoch(epoch)
            if progress:
                self._save(progress)
        self._report.training_time(self._elapsed())
        if self._profile_folder:
            self._report.line("No profile: the compiled loop was called less than twice")
        if self._checkpoints:
            self._checkpoints.wait()
        return self._finish(train_each)

    def _train_epoch(self, epoch: int) -> None:
        """Takes the steps of an epoch that are not taken yet; `epoch` counts from 1."""
        if len(self._progress.epoch_seconds) < epoch:
            self._progress.epoch_seconds.append(0.0)
        steps_before = (epoch - 1) * self._num_batches
        every = self._config.log_every_steps
        while (done := self._step - steps_before) < self._num_batches:
            row_end = min(done - done % every + every, self._num_batches)
            seconds_before = self._progress.epoch_seconds[-1]
            for first, end in self._feed.train_chunks(done, row_end):
                began = self._clock()
                with self._profile(steps_before + first, steps_before + end):
                    self._state, self._total, last = self._feed.train(
                        self._state, self._total, epoch, first, end
                    )
                    each = self._total.compute_each()
                self._step = steps_before + end
                self._check_finite(each, steps_before + first)
                self._progress.epoch_seconds[-1] += self._clock() - began
                self._report.batches(
                    epoch,
                    end,
                    mean_of_finite(last.compute_each(), "loss"),
                    show=end == row_end and end % every == 0,
                    advance=end - first,
                )
                if end == row_end:
                    self._metrics(epoch, "train", each)
                    seconds = self._progress.epoch_seconds[-1] - seconds_before
                    self._pace_to_board(seconds / (row_end - done))
                    self._total = self._no_metrics
                self._pause()

    def _profile(self, first: int, end: int) -> contextlib.AbstractContextManager[Any]:
        """While it lasts, the second call's steps are profiled, if that is wanted.

        Its length is about a second's, and in the first one the devices wake up.

        Args:
          first: steps taken before the call.
          end: steps taken after it.
        """
        if self._profile_folder is None or first == self._first_step:
            return contextlib.nullcontext()
        folder, self._profile_folder = self._profile_folder, None
        self._report.line(f"Profile of steps {first + 1} to {end}: {folder}/plugins/profile")
        trace: contextlib.AbstractContextManager[Any] = jax.profiler.trace(
            str(folder), create_perfetto_trace=True
        )
        return trace

    def _pace_to_board(self, seconds_per_step: float) -> None:
        if board := self._report.board:
            values = {"seconds_per_step": seconds_per_step}
            if not isinstance(self._config.learning_rate, tuple | list):
                values["learning_rate"] = self._learning_rate()
            board.scalars(self._step, values)

    def _learning_rate(self) -> float:
        """Of the last step taken; Optax counts from 0."""
        return float(self._schedule(self._step - 1))

    @functools.cached_property
    def _schedule(self) -> Callable[[int], Any]:
        config, num_steps = self._config, self._config.num_epochs * self._num_batches
        # Step by step it would take half a second at first.
        return jax.jit(learning_rate_schedule(config.schedule, config.learning_rate, num_steps))

    def _score_epoch(self, epoch: int) -> list[MetricValues]:
        each = self._score(0, self._info.num_train).models.compute_each()
        self._check_finite(each, self._step - 1)
        self._metrics(epoch, "train_eval", each)
        self._report.epoch_accuracy(epoch, mean_of_finite(each, "accuracy"), self._elapsed())
        params = self._params() if self._cluster.count > 1 or self._report.board else None
        if board := self._report.board:
            board.histograms(self._step, params)
            board.flush()
        return each

    def _finish(self, train_each: Sequence[MetricValues]) -> Result:
        """Scores the test set and sums up."""
        info, config = self._info, self._config
        scores = self._score(info.num_train, info.num_train + info.num_test)
        test = scores.models.compute_each()
        self._check_finite(test, self._step - 1)
        self._metrics(config.num_epochs, "test", test)
        others: dict[str, Any] = {}
        if len(self._networks) > 1:
            compared = sweep_summary.summarize(config, scores)
            for line in sweep_summary.format_summaries(compared):
                self._report.line(line)
            others = {
                "networks": sweep_summary.model_rows(self._networks, test, train_each),
                "comparison": [c.to_json() for c in compared],
            }
        self._report.test_accuracy(mean_of_finite(test, "accuracy"))
        params, progress = self._params(), self._progress_now()
        for name in ("epoch_seconds", "eval_seconds", "compile_seconds", "total_seconds"):
            others[name] = getattr(progress, name)
        return result.make_result(params, test, train_each, steps=self._step, **others)

    def _params(self) -> Any:
        """The parameters in this process; all processes must ask for them."""
        params = sharding.to_host(self._state.params)
        return squeeze_model_axis(params) if len(self._networks) == 1 else params

    def _score(self, start: int, stop: int) -> EvalMetrics:
        """Metrics of examples start .. stop - 1 with the parameters as they are."""
        began = self._clock()
        total: EvalMetrics = self._no_scores
        for first, end in self._feed.eval_chunks(start, stop):
            total = jax.block_until_ready(self._feed.score(self._state, total, first, end))
            self._pause()
        self._progress.eval_seconds += self._clock() - began
        return total

    def _pause(self) -> None:
        """The moment between two calls, when the state is whole: ends the run if that is asked."""
        # A request to one process is one to all, or the others would wait for it.
        number = self._cluster.agreed_signal(self._request.number)
        if number is None:
            return
        self._request.number = number
        where = f"after step {self._step} of {self._config.num_epochs * self._num_batches}"
        if self._checkpoints is None:
            self._request.raise_if_requested(f"{where}, and nothing is saved without a --workdir")
        else:
            self._save(self._progress_now())
            self._checkpoints.wait()
            folder = self._checkpoints.folder
            self._request.raise_if_requested(
                f"{where}, saved in {folder}; the same command goes on from there"
            )

    def _save(self, progress: Progress) -> None:
        """Begins to save the state, unless that is done already."""
        if self._checkpoints is None or self._saved_step == self._step:
            return
        tree = state_tree(*sharding.to_host((self._state, self._total)))
        # The loss of the last step is that of the parameters before it.
        if len(self._networks) == 1 and not _all_finite(tree["params"]):
            self._stop_at(math.nan, self._step - 1)
        record = {
            "config": self._config.to_dict(),
            **environment(),
            "data": data_info(self._info),
            "progress": dataclasses.asdict(progress),
        }
        self._checkpoints.save(self._step, tree, record)
        self._saved_step = self._step

    def _check_finite(self, each: Sequence[MetricValues], first_step: int) -> None:
        """Stops a run whose loss is no number any more; of several networks, all of them.

        Args:
          each: metrics of the steps up to this one, of each network.
          first_step: the step before them.

        Raises:
          UserError: naming the steps between which it happened.
        """
        lost = {k for k, values in enumerate(each) if not math.isfinite(values["loss"])}
        if len(lost) == len(each):
            self._stop_at(each[0]["loss"], first_step)
        for number in sorted(lost - self._lost):
            name = self._networks[number].name
            self._report.line(f"The loss of {name} is no number any more, by step {self._step}")
        self._lost |= lost

    def _stop_at(self, loss: float, first_step: int) -> None:
        kept = f"; the checkpoint of step {self._saved_step} stays" if self._saved_step else ""
        where = " and another --workdir" if self._checkpoints else ""
        raise UserError(
            f"the loss became {loss} between step {first_step} and step {self._step}"
            f"{kept}: allowed is a finite number. Use a smaller learning_rate{where}."
        )

    def _elapsed(self) -> float:
        return self._before.training_seconds + self._clock() - self._training_started

    def _progress_now(self) -> Progress:
        return dataclasses.replace(
            self._progress,
            epoch_seconds=list(self._progress.epoch_seconds),
            training_seconds=self._elapsed(),
            total_seconds=self._before.total_seconds + self._clock() - self._started,
            metrics_size=self._report.metrics_size(),
        )

    def _metrics(self, epoch: int, split: str, each: Sequence[MetricValues]) -> None:
        self._report.metrics(
            step=self._step, epoch=epoch, split=split, each=each, seconds=self._elapsed()
        )


def _all_finite(tree: Any) -> bool:
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))

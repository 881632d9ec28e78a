"""The loop over epochs, steps and scorings: from any step on, to the end or to a request to end."""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cnn_jax import data, result, train
from cnn_jax.errors import UserError
from cnn_jax.metrics import Metrics
from cnn_jax.pace import Pace
from cnn_jax.programs import Programs
from cnn_jax.report import Report
from cnn_jax.result import Result
from cnn_jax.resume import Progress, environment, form_of, restore, saved_tree
from cnn_jax.scoring import examples_on_device, score
from cnn_jax.signals import Held

if TYPE_CHECKING:
    from cnn_jax.checkpoint import Checkpoint, Checkpoints


class Trainer:
    """The state of a run, and what brings it forward."""

    def __init__(
        self,
        config: ConfigDict,
        info: data.Info,
        dataset: data.Dataset,
        programs: Programs,
        report: Report,
        checkpoints: "Checkpoints | None",
        request: Held,
        *,
        clock: Callable[[], float],
        started: float,
        checkpoint: "Checkpoint | None",
        profile_folder: Path | None = None,
    ) -> None:
        """Puts the data on the device, and draws the initial parameters or takes the saved ones.

        Args:
          config: as checked by `config.check`.
          info: of the data set.
          dataset: its examples.
          programs: for this config and data set.
          report: takes what happens.
          checkpoints: take the state, or None.
          request: to end, if one comes.
          clock: seconds as a function of nothing.
          started: when the run was called for.
          checkpoint: where to go on from; None: from the beginning.
          profile_folder: for a profile of some steps, if one is wanted.
        """
        self._config, self._info = config, info
        self._programs, self._report, self._checkpoints = programs, report, checkpoints
        self._request = request
        self._clock = clock
        self._num_batches = train.steps_per_epoch(info.num_train, config.batch_size)
        num_steps = config.num_epochs * self._num_batches
        self._learning_rate = jax.jit(  # Step by step it would take half a second at first.
            train.learning_rate_schedule(config.schedule, config.learning_rate, num_steps)
        )
        self._examples = examples_on_device(dataset)
        self._train_pace, self._score_pace = Pace(clock), Pace(clock)
        # The sum is that of the batches since the last row of metrics.jsonl.
        if checkpoint:
            self._state, self._total = restore(config, info, checkpoint)
            self._before = Progress.of(checkpoint)
        else:
            self._state = programs.initial_state(jax.random.key(config.seed))
            self._total = Metrics.empty()
            self._before = Progress()
        self._step = int(self._state.step)
        self._first_step, self._profile_folder = self._step, profile_folder
        self._saved_step = checkpoint.step if checkpoint else None
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
            train_values = self._score_epoch(epoch)
            if progress:
                self._save(progress)
        self._report.training_time(self._elapsed())
        if self._profile_folder:
            self._report.line("No profile: the compiled loop was called less than twice")
        if self._checkpoints:
            self._checkpoints.wait()
        return self._finish(train_values)

    def _train_epoch(self, epoch: int) -> None:
        """Takes the steps of an epoch that are not taken yet; `epoch` counts from 1."""
        if len(self._progress.epoch_seconds) < epoch:
            self._progress.epoch_seconds.append(0.0)
        order = train.epoch_order(self._config.seed, epoch, self._info.num_train)
        steps_before = (epoch - 1) * self._num_batches
        every = self._config.log_every_steps
        while (done := self._step - steps_before) < self._num_batches:
            row_end = min(done - done % every + every, self._num_batches)
            seconds_before = self._progress.epoch_seconds[-1]
            for first, end in self._train_pace.pieces(done, row_end):
                began = self._clock()
                with self._profile(steps_before + first, steps_before + end):
                    self._state, self._total, last = self._programs.train_steps(
                        self._state, self._total, *self._examples, order, first, end - first
                    )
                    values = self._total.compute()
                self._step = steps_before + end
                self._check_finite(values["loss"], steps_before + first)
                self._progress.epoch_seconds[-1] += self._clock() - began
                self._report.batches(
                    epoch,
                    end,
                    last.compute()["loss"],
                    show=end == row_end and end % every == 0,
                    advance=end - first,
                )
                if end == row_end:
                    self._metrics(epoch, "train", values)
                    seconds = self._progress.epoch_seconds[-1] - seconds_before
                    self._pace_to_board(seconds / (row_end - done))
                    self._total = Metrics.empty()
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
            # Of the last step taken; Optax counts from 0.
            rate = float(self._learning_rate(self._step - 1))
            board.scalars(self._step, {"learning_rate": rate, "seconds_per_step": seconds_per_step})

    def _score_epoch(self, epoch: int) -> dict[str, float]:
        values = self._score(0, self._info.num_train)
        self._metrics(epoch, "train_eval", values)
        self._report.epoch_accuracy(epoch, values["accuracy"], self._elapsed())
        if board := self._report.board:
            board.histograms(self._step, self._state.params)
            board.flush()
        return values

    def _finish(self, train_values: dict[str, float]) -> Result:
        """Scores the test set and sums up."""
        info = self._info
        test = self._score(info.num_train, info.num_train + info.num_test)
        self._metrics(self._config.num_epochs, "test", test)
        self._report.test_accuracy(test["accuracy"])
        params = jax.device_get(self._state.params)
        progress = self._progress_now()
        return Result(
            test_accuracy=test["accuracy"],
            test_loss=test["loss"],
            train_accuracy=train_values["accuracy"],
            num_parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
            steps=self._step,
            epoch_seconds=progress.epoch_seconds,
            eval_seconds=progress.eval_seconds,
            compile_seconds=progress.compile_seconds,
            total_seconds=progress.total_seconds,
            params_sha256=result.params_sha256(params),
            versions=result.versions(),
            devices=result.devices(),
            params=params,
        )

    def _score(self, start: int, stop: int) -> dict[str, float]:
        """Loss and accuracy of examples start .. stop - 1 with the parameters as they are."""
        began = self._clock()
        values = score(
            self._programs.evaluate,
            self._state,
            self._examples,
            start,
            stop,
            self._score_pace,
            self._pause,
        )
        self._check_finite(values["loss"], self._step - 1)
        self._progress.eval_seconds += self._clock() - began
        return values

    def _pause(self) -> None:
        """The moment between two calls, when the state is whole: ends the run if that is asked."""
        if self._request.number is None:
            return
        where = f"after step {self._step} of {self._config.num_epochs * self._num_batches}"
        if self._checkpoints is None:
            self._request.answer(f"{where}, and nothing is saved without a --workdir")
        else:
            self._save(self._progress_now())
            self._checkpoints.wait()
            folder = self._checkpoints.folder
            self._request.answer(f"{where}, saved in {folder}; the same command goes on from there")

    def _save(self, progress: Progress) -> None:
        """Begins to save the state, unless that is done already."""
        if self._checkpoints is None or self._saved_step == self._step:
            return
        tree = jax.device_get(saved_tree(self._state, self._total))
        # The loss of the last step is that of the parameters before it.
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree["params"])):
            self._check_finite(math.nan, self._step - 1)
        record = {
            "config": self._config.to_dict(),
            **environment(),
            "data": form_of(self._info),
            "progress": dataclasses.asdict(progress),
        }
        self._checkpoints.save(self._step, tree, record)
        self._saved_step = self._step

    def _check_finite(self, loss: float, first_step: int) -> None:
        """Stops a run whose loss is no number any more.

        Args:
          loss: of the steps up to this one.
          first_step: the step before them.

        Raises:
          UserError: naming the steps between which it happened.
        """
        if not math.isfinite(loss):
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

    def _metrics(self, epoch: int, split: str, values: dict[str, float]) -> None:
        self._report.metrics(
            step=self._step, epoch=epoch, split=split, values=values, seconds=self._elapsed()
        )

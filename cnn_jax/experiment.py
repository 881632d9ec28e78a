"""One training run from start to end: the only module that sees all stages."""

import dataclasses
import hashlib
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Any, TextIO

import jax
import numpy as np
from ml_collections import ConfigDict

from cnn_jax import config as config_module
from cnn_jax import data, train
from cnn_jax.errors import UserError
from cnn_jax.programs import Programs, compile_programs
from cnn_jax.report import Report, check_finite

_PACKAGES = ("cnn_jax", "jax", "jaxlib", "flax", "optax", "numpy", "tensorflow-datasets")


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run has come to; all but `params` is in `result.json`.

    Attributes:
      test_accuracy: fraction, 0..1.
      test_loss: mean cross-entropy in nats.
      train_accuracy: fraction, over the whole training set with the final parameters.
      num_parameters: how many numbers were trained.
      steps: steps taken.
      epoch_seconds: of each epoch, training alone.
      eval_seconds: of all evaluations together.
      compile_seconds: for the compiled programs, part of them while the data are read.
      total_seconds: from the call of `run` to its end.
      params_sha256: over the parameters' bytes in tree order.
      versions: of Python and of the packages.
      devices: names of the devices that trained.
      params: the trained parameters.
    """

    test_accuracy: float
    test_loss: float
    train_accuracy: float
    num_parameters: int
    steps: int
    epoch_seconds: list[float]
    eval_seconds: float
    compile_seconds: float
    total_seconds: float
    params_sha256: str
    versions: dict[str, str]
    devices: list[str]
    params: Any = dataclasses.field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """The content of `result.json`."""
        fields = (f.name for f in dataclasses.fields(self) if f.name != "params")
        return {name: getattr(self, name) for name in fields}


def run(
    config: ConfigDict,
    workdir: str | None = None,
    *,
    out: TextIO | None = None,
    err: TextIO | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Result:
    """Trains, prints as the reference program does, and scores the test set once, at the end.

    Args:
      config: as `configs/mnist.py` makes it; checked before anything else.
      workdir: a folder for `config.json`, `metrics.jsonl` and `result.json`, or None.
      out: takes the console lines; default: standard output.
      err: takes the progress bar; default: standard error.
      clock: seconds as a function of nothing.

    Raises:
      UserError: for whatever the user can mend: config, data, workdir, a loss that is not finite.
    """
    started = clock()
    info = config_module.check(config)
    err = err or sys.stderr
    report = Report(
        workdir,
        out=out or sys.stdout,
        err=err,
        num_epochs=config.num_epochs,
        num_batches=train.steps_per_epoch(info.num_train, config.batch_size),
    )
    try:
        report.write_json(
            "config.json",
            {"config": config.to_dict(), "versions": versions(), "devices": devices()},
        )
        with ThreadPoolExecutor() as pool:  # XLA compiles while the data are read.
            programs = pool.submit(compile_programs, config, info, clock)
            dataset = data.load(**config.dataset, show_progress=err.isatty())
        trainer = _Trainer(config, info, dataset, programs.result(), report, clock)
        for epoch in range(1, config.num_epochs + 1):
            trainer.train_epoch(epoch)
        result = trainer.finish(started)
        report.write_json("result.json", result.to_json())
        return result
    finally:
        report.close()


class _Trainer:
    """The state of a run between its epochs."""

    def __init__(
        self,
        config: ConfigDict,
        info: data.Info,
        dataset: data.Dataset,
        programs: Programs,
        report: Report,
        clock: Callable[[], float],
    ) -> None:
        """Puts the data on the device and draws the initial parameters."""
        self._config = config
        self._report = report
        self._clock = clock
        self._epoch_seconds: list[float] = []
        self._eval_seconds = 0.0
        self._num_batches = train.steps_per_epoch(info.num_train, config.batch_size)
        # One array for all examples, training first: one program scores either part of it.
        self._num_train = info.num_train
        self._num_examples = info.num_train + info.num_test
        self._examples = jax.device_put(
            (
                np.concatenate([dataset.train.image, dataset.test.image]),
                np.concatenate([dataset.train.label, dataset.test.label]),
            )
        )
        self._state = programs.initial_state(jax.random.key(config.seed))
        self._programs = programs
        report.begin(devices(), programs.seconds, (config.batch_size, *info.image_shape))
        self._started = clock()

    def train_epoch(self, epoch: int) -> None:
        """Trains on every example once, then scores the training set; `epoch` counts from 1."""
        started = self._clock()
        order = train.epoch_order(self._config.seed, epoch, self._num_train)
        steps_before = (epoch - 1) * self._num_batches
        every = self._config.log_every_steps
        for first in range(0, self._num_batches, every):
            num_steps = min(every, self._num_batches - first)
            self._state, total, last = self._programs.train_steps(
                self._state, *self._examples, order, first, num_steps
            )
            values = total.compute()
            done = first + num_steps
            check_finite(values["loss"], steps_before + first, steps_before + done)
            self._report.batches(
                epoch, done, last.compute()["loss"], show=num_steps == every, advance=num_steps
            )
            self._metrics(epoch, steps_before + done, "train", values)
        self._epoch_seconds.append(self._clock() - started)
        self._train_values = self._score(0, self._num_train)
        self._metrics(epoch, steps_before + self._num_batches, "train_eval", self._train_values)
        self._report.epoch_accuracy(epoch, self._train_values["accuracy"], self._elapsed())

    def finish(self, started: float) -> Result:
        """Scores the test set and sums up; `started` is when the run was called for."""
        self._report.training_time(self._elapsed())
        test = self._score(self._num_train, self._num_examples)
        steps = int(self._state.step)
        self._metrics(self._config.num_epochs, steps, "test", test)
        self._report.test_accuracy(test["accuracy"])
        params = jax.device_get(self._state.params)
        leaves = jax.tree.leaves(params)
        return Result(
            test_accuracy=test["accuracy"],
            test_loss=test["loss"],
            train_accuracy=self._train_values["accuracy"],
            num_parameters=sum(leaf.size for leaf in leaves),
            steps=steps,
            epoch_seconds=self._epoch_seconds,
            eval_seconds=self._eval_seconds,
            compile_seconds=self._programs.seconds,
            total_seconds=self._clock() - started,
            params_sha256=hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest(),
            versions=versions(),
            devices=devices(),
            params=params,
        )

    def _elapsed(self) -> float:
        return self._clock() - self._started

    def _score(self, start: int, stop: int) -> dict[str, float]:
        """Loss and accuracy of examples start .. stop - 1 with the parameters as they are."""
        started = self._clock()
        metrics = self._programs.evaluate(self._state, *self._examples, start, stop)
        values: dict[str, float] = metrics.compute()
        steps = int(self._state.step)
        check_finite(values["loss"], steps - 1, steps)
        self._eval_seconds += self._clock() - started
        return values

    def _metrics(self, epoch: int, step: int, split: str, values: dict[str, float]) -> None:
        self._report.metrics(
            step=step, epoch=epoch, split=split, values=values, seconds=self._elapsed()
        )


def versions() -> dict[str, str]:
    """Of Python and of the packages that the numbers depend on."""
    return {"python": platform.python_version()} | {p: metadata.version(p) for p in _PACKAGES}


def devices() -> list[str]:
    """The accelerators, or the CPU, that JAX found."""
    try:
        return [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()]
    except RuntimeError as error:  # JAX_PLATFORMS names one that is not there.
        raise UserError(f"JAX has no device: {error}. Change JAX_PLATFORMS.") from error

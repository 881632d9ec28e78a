"""One training run from start to end: the only module that sees all stages."""

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ml_collections import ConfigDict

from cnn_jax import config as config_module
from cnn_jax import data, resume, signals, train
from cnn_jax.config_changes import check_same_model
from cnn_jax.errors import UserError
from cnn_jax.pace import Pace
from cnn_jax.programs import compile_evaluate, compile_programs
from cnn_jax.report import Report
from cnn_jax.result import Result, devices
from cnn_jax.trainer import Trainer, examples_on_device, score
from cnn_jax.workdir import Workdir

if TYPE_CHECKING:
    from cnn_jax.checkpoint import Checkpoints

__all__ = ["Result", "evaluate", "run"]


def run(
    config: ConfigDict,
    workdir: str | None = None,
    *,
    out: TextIO | None = None,
    err: TextIO | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Result:
    """Trains, prints as the reference program does, and scores the test set once, at the end.

    With a workdir it goes on from the newest checkpoint there, and ends with the same bits as if it
    had never been cut; a run that is finished is evaluated, and its files stay as they are.

    Args:
      config: as `configs/mnist.py` makes it; checked before anything else.
      workdir: a folder for checkpoints, metrics and the result, or None.
      out: takes the console lines; default: standard output.
      err: takes warnings and the progress bar; default: standard error.
      clock: seconds as a function of nothing.

    Raises:
      UserError: for whatever the user can mend: config, data, workdir, a loss that is not finite.
      Stopped: after SIGINT, SIGTERM or SIGHUP, when the state is saved.
    """
    started = clock()
    info = config_module.check(config)
    out, err = out or _stdout(), err or _stderr()
    num_batches = train.steps_per_epoch(info.num_train, config.batch_size)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(Workdir(workdir)) if workdir is not None else None
        report = Report(
            folder, out=out, err=err, num_epochs=config.num_epochs, num_batches=num_batches
        )
        stack.callback(report.close)
        checkpoints = checkpoint = None
        if folder:
            checkpoints = stack.enter_context(_checkpoints(folder.path, read_only=False))
            checkpoint = resume.find_start(config, info, folder, checkpoints, report.warn)
            if checkpoint and checkpoint.step == config.num_epochs * num_batches:
                state, _ = resume.restore(config, info, checkpoint)
                result = Result.from_json(folder.read_json("result.json"), state.params)
                if result and result.steps == checkpoint.step:
                    report.line(f"This run is finished after {config.num_epochs} epochs.")
                    _score_test(config, info, state, report, clock)
                    return result
            resume.take_up(checkpoint, folder, checkpoints, report.warn)
        report.write_json("config.json", {"config": config.to_dict(), **resume.environment()})
        with ThreadPoolExecutor() as pool:  # XLA compiles while the data are read.
            compiled = pool.submit(compile_programs, config, info, clock)
            dataset = data.load(**config.dataset, show_progress=err.isatty())
        programs = compiled.result()
        with signals.held() as request:
            step = checkpoint.step if checkpoint else 0
            shape = (config.batch_size, *info.image_shape)
            report.begin(devices(), programs.seconds, shape, step)
            trainer = Trainer(
                config,
                info,
                dataset,
                programs,
                report,
                checkpoints,
                request,
                clock=clock,
                started=started,
                checkpoint=checkpoint,
            )
            result = trainer.run()
            report.write_json("result.json", result.to_json())
            request.answer("when the run was finished")
        return result


def evaluate(
    workdir: str,
    config: ConfigDict | None = None,
    step: int | None = None,
    *,
    out: TextIO | None = None,
    err: TextIO | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Scores the test set with a checkpoint; changes nothing in the workdir.

    Args:
      workdir: of a run, which may go on meanwhile.
      config: names the data set to score, and must have the same `model`; None: that of the run.
      step: of the checkpoint; None: the newest.
      out: takes the result's line; default: standard output.
      err: takes warnings; default: standard error.
      clock: seconds as a function of nothing.

    Returns:
      `loss`, mean cross-entropy in nats, `accuracy`, 0..1, and `count`.

    Raises:
      UserError: when there is no such checkpoint, or the config is of another network.
    """
    path = Path(os.path.expanduser(workdir))
    report = Report(None, out=out or _stdout(), err=err or _stderr(), num_epochs=0, num_batches=0)
    with _checkpoints(path, read_only=True) as checkpoints:
        checkpoint = checkpoints.newest(report.warn) if step is None else checkpoints.at(step)
    if checkpoint is None:
        raise UserError(
            f"workdir {path} has no checkpoint: allowed is the --workdir of a training run. Train "
            "first, with the same --workdir."
        )
    saved = config_module.from_json(resume.saved_config(checkpoint))
    if config:
        config_module.check_fields(config)
        check_same_model(config, path, saved)
        saved.dataset = config.dataset
    info = config_module.check(saved)
    if array := resume.different_array(saved, info, checkpoint):
        raise UserError(
            f"checkpoint {checkpoint.step} of {path} is of another network: {array}. Choose "
            "another --workdir, or a --config with a data set of the same form."
        )
    state, _ = resume.restore(saved, info, checkpoint)
    return _score_test(saved, info, state, report, clock)


def _stdout() -> TextIO:
    return sys.stdout or io.StringIO()  # None where a shell has closed it.


def _stderr() -> TextIO:
    return sys.stderr or io.StringIO()


def _checkpoints(workdir: Path, *, read_only: bool) -> "Checkpoints":
    from cnn_jax.checkpoint import Checkpoints  # Orbax takes 0.3 s, and only a workdir needs it.

    return Checkpoints(workdir, read_only=read_only)


def _score_test(
    config: ConfigDict,
    info: data.Info,
    state: train.TrainState,
    report: Report,
    clock: Callable[[], float],
) -> dict[str, float]:
    """Scores the test set with a state, and says the result."""
    with ThreadPoolExecutor() as pool:  # XLA compiles while the data are read.
        compiled = pool.submit(compile_evaluate, config, info)
        dataset = data.load(**config.dataset)
    values = score(
        compiled.result(),
        state,
        examples_on_device(dataset),
        info.num_train,
        info.num_train + info.num_test,
        Pace(clock),
        pause=lambda: None,
    )
    report.test_accuracy(values["accuracy"])
    return values

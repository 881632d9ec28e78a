"""One training run from start to end: the only module that sees all stages."""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TextIO

from ml_collections import ConfigDict

from cnn_jax import config as config_module
from cnn_jax import data, resume, signals, train
from cnn_jax.console import Console
from cnn_jax.programs import compile_programs
from cnn_jax.report import Report
from cnn_jax.result import Result, devices
from cnn_jax.scoring import score_test
from cnn_jax.trainer import Trainer
from cnn_jax.workdir import Workdir, read_metrics

__all__ = ["Result", "run"]


def run(
    config: ConfigDict,
    workdir: str | None = None,
    *,
    profile: bool = False,
    out: TextIO | None = None,
    err: TextIO | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Result:
    """Trains, prints as the reference program does, and scores the test set once, at the end.

    With a workdir it goes on from the newest checkpoint there, and ends with the same bits as if it
    had never been cut; a run that is finished is evaluated, and its files stay as they are.

    Args:
      config: as `configs/mnist.py` makes it; checked before anything else.
      workdir: a folder for checkpoints, metrics, pictures and the result, or None.
      profile: writes a trace of some steps into the workdir, for JAX's profiler.
      out: takes the console lines; default: standard output.
      err: takes warnings and the progress bar; default: standard error.
      clock: seconds as a function of nothing.

    Raises:
      UserError: for whatever the user can mend: config, data, workdir, a loss that is not finite.
      Stopped: after SIGINT, SIGTERM or SIGHUP, when the state is saved.
    """
    started = clock()
    info = config_module.check(config)
    console = Console(out, err)
    num_batches = train.steps_per_epoch(info.num_train, config.batch_size)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(Workdir(workdir)) if workdir is not None else None
        report = Report(folder, console, num_epochs=config.num_epochs, num_batches=num_batches)
        stack.callback(report.close)
        checkpoints = checkpoint = None
        if folder:
            from cnn_jax.checkpoint import Checkpoints  # Orbax takes 0.3 s: not without a workdir.

            checkpoints = stack.enter_context(Checkpoints(folder.path, read_only=False))
            checkpoint = resume.find_start(config, info, folder, checkpoints, console.warn)
            if checkpoint and checkpoint.step == config.num_epochs * num_batches:
                state, _ = resume.restore(config, info, checkpoint)
                result = Result.from_json(folder.read_json("result.json"), state.params)
                if result and result.steps == checkpoint.step:
                    report.line(f"This run is finished after {config.num_epochs} epochs.")
                    if profile:
                        report.line("No profile: nothing is left to train")
                    test = score_test(config, info, state, data.load(**config.dataset), clock)
                    report.test_accuracy(test["accuracy"])
                    return result
            resume.take_up(checkpoint, folder, checkpoints, console.warn)
        report.write_json("config.json", {"config": config.to_dict(), **resume.environment()})
        if data.needs_tfds(**config.dataset):
            import tensorflow_datasets  # noqa: F401  # Before another thread imports anything.
        with ThreadPoolExecutor() as pool:  # XLA compiles while the data are read.
            compiled = pool.submit(compile_programs, config, info, clock)
            dataset = data.load(**config.dataset, show_progress=console.err.isatty())
        programs = compiled.result()
        with signals.held() as request:
            step = checkpoint.step if checkpoint else 0
            shape = (config.batch_size, *info.image_shape)
            report.begin(devices(), programs.seconds, shape, step, config.to_dict())
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
                profile_folder=folder.path / "tensorboard" if folder and profile else None,
            )
            result = trainer.run()
            if folder:
                _draw(folder, config, info, dataset, result, report)
            report.write_json("result.json", result.to_json())
            request.answer("when the run was finished")
        return result


def _draw(
    folder: Workdir,
    config: ConfigDict,
    info: data.Info,
    dataset: data.Dataset,
    result: Result,
    report: Report,
) -> None:
    """Draws how the training went and, for TensorBoard, which class is taken for which."""
    from cnn_jax.pictures import confusion, curves, figure  # Matplotlib takes half a second.

    drawn = curves.draw(read_metrics(folder.path), f"Training of {config.dataset.name}")
    figure.save(drawn, folder.path / "pictures" / "learning_curves.png")
    if report.board:
        from cnn_jax.scores import Scores
        from cnn_jax.trained import Trained

        network = Trained(
            folder.path, result.steps, config, info.image_shape, info.class_names, result.params
        )
        scores = Scores(network.probabilities(dataset.test.image), dataset.test.label)
        drawn = confusion.draw(scores.confusion, info.class_names, network.about)
        report.board.image(
            result.steps, "confusion_matrix", figure.png(drawn), drawn.canvas.get_width_height()
        )

"""One training run, from its config to its result."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

import numpy as np
from ml_collections import ConfigDict

from cnn_jax import data, train
from cnn_jax.checkpoint import metadata
from cnn_jax.checkpoint.restore import Checkpoint
from cnn_jax.checkpoint.state import restore_state, squeeze_model_axis
from cnn_jax.config import schema, sweep
from cnn_jax.config.changes import cluster_fingerprint
from cnn_jax.distributed.cluster import Cluster
from cnn_jax.engine import sharding
from cnn_jax.engine.score import score_test
from cnn_jax.engine.sharding import device_names
from cnn_jax.io import signals
from cnn_jax.io.console import Console
from cnn_jax.io.folders import local_folder
from cnn_jax.io.workdir import Workdir, read_metrics
from cnn_jax.reporting import sweep_summary
from cnn_jax.reporting.per_model import compute_each, mean_of_finite
from cnn_jax.reporting.result import Result
from cnn_jax.reporting.train_logger import TrainLogger
from cnn_jax.training.context import RunContext
from cnn_jax.training.session import Session
from cnn_jax.training.trainer import Trainer
from cnn_jax.wording import pluralize

if TYPE_CHECKING:  # Orbax takes 0.3 s: not without a workdir.
    from cnn_jax.checkpoint.manager import Checkpoints

_MANY_STEPS = 1000  # After which a model should have learned something.
_LABEL_SAMPLE = 10_000  # Examples that are enough to estimate the share of a class.
_TEST_CHUNK = 10_000  # Test examples read at once, since a stream's may exceed memory.


def run(
    config: ConfigDict,
    workdir: str | os.PathLike[str] | None = None,
    *,
    profile: bool = False,
    cluster: Cluster | None = None,
    out: TextIO | None = None,
    err: TextIO | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Result:
    """Trains, prints the lines of the reference program, and scores the test set once, at the end.

    With a workdir it resumes from the newest checkpoint there, with the bits of an uninterrupted
    run. A finished run is only evaluated (by several processes: its saved accuracy is printed).

    Args:
      config: config such as `configs/mnist.py` returns; checked before anything else.
      workdir: folder for checkpoints, metrics, plots and the result, or None.
      profile: whether to write a trace of some steps into the workdir, with JAX's profiler.
      cluster: the processes that train together, all called with the same arguments and a workdir
        that all of them see; None: a single process.
      out: where console lines are printed; default: standard output.
      err: where warnings and the progress bar are printed; default: standard error.
      clock: returns the time in seconds.

    Returns:
      The result, which is also in `result.json` if there is a workdir.

    Raises:
      UserError: for an invalid config, missing data, a workdir that cannot be used, or a loss that
        is not finite.
      Stopped: after a stop signal, once the state is saved, if there is a workdir.
    """
    started = clock()
    cluster = cluster or Cluster()
    info = schema.check(config, cluster.is_first and Console(out, err).err.isatty())
    cluster.check_same("the config", cluster_fingerprint(config))
    cluster.check_same("the SHA-256 of the files", info.digest)
    cluster.check_same("--workdir", str(workdir))
    cluster.check_same("the software", json.dumps(metadata.environment()["versions"]))
    num_batches = train.steps_per_epoch(info.num_train, config.batch_size)
    with contextlib.ExitStack() as stack:
        console = Console(out, err) if cluster.is_first else stack.enter_context(_silent())
        opened = None
        if workdir is not None and cluster.is_first:
            opened = stack.enter_context(Workdir(workdir))
        logger = TrainLogger(opened, console, num_epochs=config.num_epochs, num_batches=num_batches)
        stack.callback(logger.close)
        mesh = sharding.make_mesh(sweep.count_models(config))
        context = RunContext(config, info, mesh, cluster, logger, clock, started)
        session = Session(context, console, opened, stack)
        if workdir is None:
            return _train(session, None, None, profile)
        path = local_folder("--workdir", workdir)
        checkpoint = session.find_start(path)
        if checkpoint and checkpoint.step == config.num_epochs * num_batches:
            result = _evaluate_finished(session, checkpoint, profile)
            if result:
                return result
        return _train(session, session.open_checkpoints(path, checkpoint), checkpoint, profile)


@contextlib.contextmanager
def _silent() -> Iterator[Console]:
    """Context manager of a console that prints nothing, for all processes but the first."""
    with open(os.devnull, "w", encoding="utf-8") as null:  # noqa: PTH123
        yield Console(null, null)


def _evaluate_finished(session: Session, checkpoint: Checkpoint, profile: bool) -> Result | None:
    """Evaluates a finished run again; returns its result, or None where result.json is missing."""
    context = session.context
    config, info, mesh, logger = context.config, context.info, context.mesh, context.logger
    saved = session.workdir.read_json("result.json") if session.workdir else None
    content = json.loads(context.cluster.broadcast_from_first(json.dumps(saved)))
    state, _ = restore_state(config, info, mesh, checkpoint)
    params = sharding.to_host(state.params)
    if sweep.count_models(config) == 1:
        params = squeeze_model_axis(params)
    result = Result.from_json(content, params)
    if result is None or result.steps != checkpoint.step:
        return None
    logger.line(f"This run is finished after {pluralize(config.num_epochs, 'epoch')}.")
    if profile:
        logger.line("No profile: nothing is left to train")
    if context.cluster.process_count > 1:  # The result is known: it is not worth reading all data.
        logger.log_test_accuracy(result.test_accuracy)
        return result
    test = data.load_test(**config.dataset)
    metrics = score_test(config, info, mesh, state.params, test)
    if sweep.count_models(config) > 1:
        for line in sweep_summary.format_summaries(sweep_summary.summarize(config, metrics)):
            logger.line(line)
    logger.log_test_accuracy(mean_of_finite(compute_each(metrics.models), "accuracy"))
    return result


def _train(
    session: Session,
    checkpoints: "Checkpoints | None",
    checkpoint: Checkpoint | None,
    profile: bool,
) -> Result:
    """Trains from a checkpoint, or from step 0, to the end, and writes the result."""
    context = session.context
    config, cluster, logger = context.config, context.cluster, context.logger
    if session.workdir:
        content = {"config": config.to_dict(), **metadata.environment()}
        session.workdir.write_json("config.json", content)
    programs, examples = session.prepare()
    with signals.defer_signals() as request:
        step = checkpoint.step if checkpoint else 0
        shape = (config.batch_size, *context.info.image_shape)
        logger.start(device_names(), programs.seconds, shape, step, config.to_dict())
        if cluster.process_count > 1:
            logger.line(f"Processes: {cluster.process_count}")
        if sweep.count_models(config) > 1:
            logger.line(sweep.describe(config))
        feed = session.make_feed(programs, examples, step)
        start = session.make_start(programs, checkpoint)
        tensorboard = session.workdir.path / "tensorboard" if session.workdir else None
        profile_folder = tensorboard if profile else None
        trainer = Trainer(context, feed, checkpoints, request, start, profile_folder)
        # As in `Session.make_feed`.
        cluster.barrier("the programs are compiled")
        result = trainer.run()
        if session.workdir:
            _draw(context, session.workdir, examples, result)
            result.write(session.workdir)
        if cluster.is_first:
            _warn_if_nothing_learned(session, examples, result)
        request.signal_number = cluster.agree_on_signal(request.signal_number)
        request.raise_if_requested("after the last step; the run is finished")
    return result


def _warn_if_nothing_learned(session: Session, examples: data.RandomAccess, result: Result) -> None:
    """Prints a line if a long training is no better than to name the commonest class each time."""
    num_train = session.context.info.num_train
    if result.steps < _MANY_STEPS:
        return
    rows = np.linspace(0, num_train - 1, min(num_train, _LABEL_SAMPLE)).astype(np.int64)
    labels = [examples.read(part).label for part in np.array_split(rows, 10)]
    share = np.bincount(np.concatenate(labels)).max() / len(rows)
    # Where one class has nearly all examples, a point is more than there is to learn.
    if result.train_accuracy <= share + min(0.01, (1 - share) / 2) and share < 1:
        accuracy = f"{100 * result.train_accuracy:.1f} %"
        session.console.warn(
            f"the model has learned nothing: its training accuracy, {accuracy}, is at most a point "
            f"above {100 * share:.1f} %, the share of the commonest class. Usual causes: a "
            "learning_rate that is too small or too large, initial weights that are too small "
            "(model.init_stddev), or labels that do not belong to the images"
        )


def _draw(
    context: RunContext, workdir: Workdir, examples: data.RandomAccess, result: Result
) -> None:
    """Draws the learning curves and, for TensorBoard, the confusion matrix."""
    from cnn_jax.plots import curves, evaluation, figure  # Matplotlib takes half a second.

    config, info, board = context.config, context.info, context.logger.board
    name = data.display_name(**config.dataset)
    drawn = curves.draw(read_metrics(workdir.path), f"Training of {name}")
    figure.save(drawn, workdir.path / "pictures" / "learning_curves.png")
    if not board or sweep.count_models(config) > 1:
        return
    from cnn_jax.evaluation.report import ClassificationReport
    from cnn_jax.evaluation.trained import TrainedModel

    trained = TrainedModel(
        workdir.path, result.steps, config, info.image_shape, info.class_names, result.params
    )
    indices = np.arange(info.num_train, info.num_train + info.num_test)
    probabilities, labels = [], []
    for start in range(0, len(indices), _TEST_CHUNK):
        test = examples.read(indices[start : start + _TEST_CHUNK])
        probabilities.append(trained.probabilities(test.image))
        labels.append(test.label)
    report = ClassificationReport(np.concatenate(probabilities), np.concatenate(labels))
    drawn = evaluation.draw_confusion(report.confusion, info.class_names, trained.label)
    size = drawn.canvas.get_width_height()
    board.add_image(result.steps, "confusion_matrix", figure.to_png(drawn), size)

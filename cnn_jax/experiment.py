"""One training run from start to end: the only module that sees all stages."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np
from ml_collections import ConfigDict

from cnn_jax import data, train
from cnn_jax.checkpoint import metadata
from cnn_jax.config import schema, sweep
from cnn_jax.config.changes import cluster_fingerprint
from cnn_jax.distributed.cluster import Cluster
from cnn_jax.engine import sharding
from cnn_jax.engine.score import score_test
from cnn_jax.engine.sharding import device_names
from cnn_jax.io import signals
from cnn_jax.io.console import Console
from cnn_jax.io.workdir import Workdir, read_metrics
from cnn_jax.nn.metrics import mean_of_finite
from cnn_jax.reporting import sweep_summary
from cnn_jax.reporting.result import Result
from cnn_jax.reporting.train_logger import TrainLogger
from cnn_jax.training.session import Session
from cnn_jax.training.trainer import Trainer

if TYPE_CHECKING:  # Orbax takes 0.3 s: not without a workdir.
    from cnn_jax.checkpoint.manager import Checkpoint, Checkpoints

__all__ = ["Result", "run"]

_TEST_PART = 10_000  # Test examples that are held at once, where not all are in memory.


def run(
    config: ConfigDict,
    workdir: str | None = None,
    *,
    profile: bool = False,
    cluster: Cluster | None = None,
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
      cluster: the processes that run this together, all with the same arguments, and with the
        workdir on a file system that all of them see; None: this one alone.
      out: takes the console lines; default: standard output.
      err: takes warnings and the progress bar; default: standard error.
      clock: seconds as a function of nothing.

    Raises:
      UserError: for whatever the user can mend: config, data, workdir, a loss that is not finite.
      Stopped: after SIGINT, SIGTERM or SIGHUP, when the state is saved.
    """
    started = clock()
    cluster = cluster or Cluster()
    info = schema.check(config)
    cluster.check_same("the config", cluster_fingerprint(config))
    cluster.check_same("--workdir", str(workdir))
    cluster.check_same("the software", json.dumps(metadata.environment()["versions"]))
    num_batches = train.steps_per_epoch(info.num_train, config.batch_size)
    with contextlib.ExitStack() as stack:
        console = Console(out, err) if cluster.is_first else stack.enter_context(_silence())
        folder = None
        if workdir is not None and cluster.is_first:
            folder = stack.enter_context(Workdir(workdir))
        report = TrainLogger(folder, console, num_epochs=config.num_epochs, num_batches=num_batches)
        stack.callback(report.close)
        session = Session(config, info, cluster, console, folder, report, clock, started, stack)
        checkpoints = checkpoint = None
        if workdir is not None:
            path = Path(os.path.expanduser(workdir))
            checkpoint = session.find_start(path)
            at_end = checkpoint and checkpoint.step == config.num_epochs * num_batches
            if checkpoint and at_end and (result := _finished(session, checkpoint, profile)):
                return result
            checkpoints = session.open_checkpoints(path, checkpoint)
        return _train(session, checkpoints, checkpoint, profile)


@contextlib.contextmanager
def _silence() -> Iterator[Console]:
    """The console of a process that leaves it to the first one to speak."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        yield Console(nowhere, nowhere)


def _finished(session: Session, checkpoint: "Checkpoint", profile: bool) -> Result | None:
    """The result of a run that is finished, evaluated anew; None where it is not written."""
    config, info, mesh, report = session.config, session.info, session.mesh, session.report
    saved = session.folder.read_json("result.json") if session.folder else None
    content = json.loads(session.cluster.broadcast_from_first(json.dumps(saved)))
    state, _ = metadata.restore(config, info, mesh, checkpoint)
    params = sharding.to_host(state.params)
    if sweep.count_models(config) == 1:
        params = metadata.squeeze_model_axis(params)
    result = Result.from_json(content, params)
    if result is None or result.steps != checkpoint.step:
        return None
    report.line(f"This run is finished after {config.num_epochs} epochs.")
    if profile:
        report.line("No profile: nothing is left to train")
    if session.cluster.count > 1:  # For what is known, nobody reads all data.
        report.test_accuracy(result.test_accuracy)
        return result
    test = data.load_test(**config.dataset)
    scores = score_test(config, info, mesh, state.params, test)
    if sweep.count_models(config) > 1:
        for line in sweep_summary.format_summaries(sweep_summary.summarize(config, scores)):
            report.line(line)
    report.test_accuracy(mean_of_finite(scores.models.compute_each(), "accuracy"))
    return result


def _train(
    session: Session,
    checkpoints: "Checkpoints | None",
    checkpoint: "Checkpoint | None",
    profile: bool,
) -> Result:
    """Trains from a checkpoint, or from the beginning, to the end."""
    config, info, report = session.config, session.info, session.report
    report.write_json("config.json", {"config": config.to_dict(), **metadata.environment()})
    step = checkpoint.step if checkpoint else 0
    programs, examples = session.prepare()
    with signals.defer_signals() as request:
        shape = (config.batch_size, *info.image_shape)
        report.begin(device_names(), programs.seconds, shape, step, config.to_dict())
        if session.cluster.count > 1:
            report.line(f"Processes: {session.cluster.count}")
        if sweep.count_models(config) > 1:
            report.line(sweep.describe(config))
        tensorboard = session.folder.path / "tensorboard" if session.folder else None
        trainer = Trainer(
            config,
            info,
            session.mesh,
            programs,
            session.make_feed(programs, examples, step),
            report,
            checkpoints,
            request,
            session.cluster,
            clock=session.clock,
            started=session.started,
            checkpoint=checkpoint,
            profile_folder=tensorboard if profile else None,
        )
        # Gloo lets processes connect for 30 s from when the first one has something to add up.
        session.cluster.barrier("the programs are compiled")
        result = trainer.run()
        if session.folder:
            _draw(session, session.folder, examples, result)
        report.write_json("result.json", result.to_json())
        request.raise_if_requested("when the run was finished")
    return result


def _draw(session: Session, folder: Workdir, examples: data.RandomAccess, result: Result) -> None:
    """Draws how the training went and, for TensorBoard, which class is taken for which."""
    from cnn_jax.plots import curves, evaluation, figure  # Matplotlib takes half a second.

    config, info, board = session.config, session.info, session.report.board
    drawn = curves.draw(read_metrics(folder.path), f"Training of {config.dataset.name}")
    figure.save(drawn, folder.path / "pictures" / "learning_curves.png")
    if not board or sweep.count_models(config) > 1:
        return
    from cnn_jax.evaluation.report import ClassificationReport
    from cnn_jax.evaluation.trained import TrainedModel

    network = TrainedModel(
        folder.path, result.steps, config, info.image_shape, info.class_names, result.params
    )
    rows = np.arange(info.num_train, info.num_train + info.num_test)
    probabilities, labels = [], []
    for start in range(0, len(rows), _TEST_PART):
        part = examples.read(rows[start : start + _TEST_PART])
        probabilities.append(network.probabilities(part.image))
        labels.append(part.label)
    scores = ClassificationReport(np.concatenate(probabilities), np.concatenate(labels))
    drawn = evaluation.draw_confusion(scores.confusion, info.class_names, network.label)
    size = drawn.canvas.get_width_height()
    board.image(result.steps, "confusion_matrix", figure.png(drawn), size)

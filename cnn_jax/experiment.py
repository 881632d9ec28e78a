"""One training run from start to end: the only module that sees all stages."""

import contextlib
import dataclasses
import functools
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cnn_jax import data, train
from cnn_jax.checkpoint import metadata
from cnn_jax.config import schema, sweep
from cnn_jax.config.changes import same_everywhere
from cnn_jax.distributed.cluster import Cluster
from cnn_jax.engine import sharding
from cnn_jax.engine.compile import Programs, compile_programs
from cnn_jax.engine.score import score_test
from cnn_jax.engine.sharding import devices
from cnn_jax.errors import UserError
from cnn_jax.io import signals
from cnn_jax.io.console import Console
from cnn_jax.io.files import write_whole
from cnn_jax.io.workdir import Workdir, read_metrics
from cnn_jax.nn.metrics import mean
from cnn_jax.plots import evaluation
from cnn_jax.reporting import sweep_summary
from cnn_jax.reporting.result import Result
from cnn_jax.reporting.train_logger import Report
from cnn_jax.training import device_feed, resume
from cnn_jax.training.chunking import Pace
from cnn_jax.training.stream_feed import StreamFeed, chunk_of
from cnn_jax.training.trainer import Trainer

if TYPE_CHECKING:  # Orbax takes 0.3 s: not without a workdir.
    from cnn_jax.checkpoint.manager import Checkpoint, Checkpoints

__all__ = ["Result", "run"]

_SHARED_SECONDS = 10.0  # Until a file that one host has written must be seen by the others.
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
    cluster.check_same("the config", same_everywhere(config))
    cluster.check_same("--workdir", str(workdir))
    cluster.check_same("the software", json.dumps(metadata.environment()["versions"]))
    num_batches = train.steps_per_epoch(info.num_train, config.batch_size)
    with contextlib.ExitStack() as stack:
        console = Console(out, err) if cluster.is_first else stack.enter_context(_silence())
        folder = None
        if workdir is not None and cluster.is_first:
            folder = stack.enter_context(Workdir(workdir))
        report = Report(folder, console, num_epochs=config.num_epochs, num_batches=num_batches)
        stack.callback(report.close)
        this = _Run(config, info, cluster, console, folder, report, clock, started, stack)
        checkpoints = checkpoint = None
        if workdir is not None:
            path = Path(os.path.expanduser(workdir))
            checkpoint = this.find_start(path)
            at_end = checkpoint and checkpoint.step == config.num_epochs * num_batches
            if checkpoint and at_end and (result := this.finished(checkpoint, profile)):
                return result
            checkpoints = this.open_checkpoints(path, checkpoint)
        return this.train(checkpoints, checkpoint, profile)


@contextlib.contextmanager
def _silence() -> Iterator[Console]:
    """The console of a process that leaves it to the first one to speak."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        yield Console(nowhere, nowhere)


@dataclasses.dataclass
class _Run:
    """A run in this process; what is to be closed at its end goes onto the stack."""

    config: ConfigDict
    info: data.Info
    cluster: Cluster
    console: Console
    folder: Workdir | None  # Of the first process alone.
    report: Report
    clock: Callable[[], float]
    started: float
    stack: contextlib.ExitStack

    @functools.cached_property
    def mesh(self) -> Mesh:
        """Of all devices of all processes."""
        return sharding.make_mesh(sweep.count(self.config))

    def find_start(self, path: Path) -> "Checkpoint | None":
        """The checkpoint to go on from; the first process chooses, the others take the same one."""
        from cnn_jax.checkpoint.manager import Checkpoints

        self._check_shared(path)
        found = None
        if self.folder:
            with Checkpoints(path, read_only=True) as checkpoints:
                found = resume.find_start(
                    self.config, self.info, self.folder, checkpoints, self.console.warn
                )
        step = self.cluster.from_first(str(found.step) if found else "")
        if step and not self.folder:
            with Checkpoints(path, read_only=True) as checkpoints:
                found = checkpoints.at(int(step))
        return found

    def _check_shared(self, path: Path) -> None:
        """Makes sure that all processes see one folder, or the first checkpoint would never end.

        Raises:
          UserError: in a process that sees another one.
        """
        if self.cluster.count == 1:
            return
        mark = path / ".cluster"
        token = f"{socket.gethostname()} {os.getpid()} {time.time_ns()}"
        if self.folder:
            write_whole(mark, token.encode())
        token = self.cluster.from_first(token)
        until = time.monotonic() + _SHARED_SECONDS
        while not mark.is_file() or mark.read_text() != token:
            if time.monotonic() > until:
                raise UserError(
                    f"process {self.cluster.index} on {socket.gethostname()} does not find in "
                    f"--workdir={path} what process 0 has written there: allowed is one folder on "
                    "a file system that all hosts share, by its absolute path. Change --workdir."
                )
            time.sleep(0.1)

    def finished(self, checkpoint: "Checkpoint", profile: bool) -> Result | None:
        """The result of a run that is finished, evaluated anew; None where it is not written."""
        config, info, mesh, report = self.config, self.info, self.mesh, self.report
        saved = self.folder.read_json("result.json") if self.folder else None
        content = json.loads(self.cluster.from_first(json.dumps(saved)))
        state, _ = metadata.restore(config, info, mesh, checkpoint)
        params = sharding.get(state.params)
        if sweep.count(config) == 1:
            params = metadata.without_axis(params)
        result = Result.from_json(content, params)
        if result is None or result.steps != checkpoint.step:
            return None
        report.line(f"This run is finished after {config.num_epochs} epochs.")
        if profile:
            report.line("No profile: nothing is left to train")
        if self.cluster.count > 1:  # For what is known, nobody reads all data.
            report.test_accuracy(result.test_accuracy)
            return result
        test = data.load_test(**config.dataset)
        scores = score_test(config, info, mesh, state.params, test)
        if sweep.count(config) > 1:
            for line in sweep_summary.lines(sweep_summary.compare(config, scores)):
                report.line(line)
        report.test_accuracy(mean(scores.each.each(), "accuracy"))
        return result

    def open_checkpoints(self, path: Path, checkpoint: "Checkpoint | None") -> "Checkpoints":
        """Clears the way for the checkpoints to come, which all processes write together."""
        from cnn_jax.checkpoint.manager import Checkpoints

        together = self.mesh if self.cluster.count > 1 else None
        checkpoints = Checkpoints(path, read_only=False, mesh=together)
        self.stack.enter_context(checkpoints)
        if self.folder:
            resume.take_up(checkpoint, self.folder, checkpoints, self.console.warn)
        self.cluster.barrier("the workdir is ready")
        return checkpoints

    def train(
        self, checkpoints: "Checkpoints | None", checkpoint: "Checkpoint | None", profile: bool
    ) -> Result:
        """Trains from a checkpoint, or from the beginning, to the end."""
        config, info, report = self.config, self.info, self.report
        report.write_json("config.json", {"config": config.to_dict(), **metadata.environment()})
        step = checkpoint.step if checkpoint else 0
        programs, examples = self._prepare()
        with signals.held() as request:
            shape = (config.batch_size, *info.image_shape)
            report.begin(devices(), programs.seconds, shape, step, config.to_dict())
            if self.cluster.count > 1:
                report.line(f"Processes: {self.cluster.count}")
            if sweep.count(config) > 1:
                report.line(sweep.describe(config))
            tensorboard = self.folder.path / "tensorboard" if self.folder else None
            trainer = Trainer(
                config,
                info,
                self.mesh,
                programs,
                self._feed(programs, examples, step),
                report,
                checkpoints,
                request,
                self.cluster,
                clock=self.clock,
                started=self.started,
                checkpoint=checkpoint,
                profile_folder=tensorboard if profile else None,
            )
            # Gloo lets processes connect for 30 s from when the first one has something to add up.
            self.cluster.barrier("the programs are compiled")
            result = trainer.run()
            if self.folder:
                self._draw(self.folder, examples, result)
            report.write_json("result.json", result.to_json())
            request.answer("when the run was finished")
        return result

    def _prepare(self) -> tuple[Programs, data.Examples]:
        """Compiles while the data are read: all of them, or where they are to be read from."""
        config, info, cluster = self.config, self.info, self.cluster
        streams = self._streams()
        chunk = chunk_of(config, info, self.mesh) if streams else None
        if data.needs_tfds(**config.dataset):
            import tensorflow_datasets  # noqa: F401  # Before another thread imports anything.
        progress = self.console.err.isatty()
        examples: data.Examples
        with ThreadPoolExecutor() as pool:
            compiled = pool.submit(compile_programs, config, info, self.mesh, chunk, self.clock)
            if cluster.count == 1 and not streams:
                examples = data.load(**config.dataset, show_progress=progress)
            else:
                with cluster.first_then_others():  # One prepares what the others may see as well.
                    examples = data.source(**config.dataset, show_progress=progress)
        return compiled.result(), examples

    def _streams(self) -> bool:
        """Whether the examples come as they are needed; the same in all processes.

        Raises:
          UserError: when they are to lie in the devices' memory, and do not fit.
        """
        wanted = self.config.dataset.feed
        if wanted == "device":
            device_feed.check_fits(self.info)
        if wanted == "auto":
            return bool(self.cluster.largest(int(not device_feed.fits(self.info))))
        return bool(wanted == "stream")

    def _feed(self, programs: Programs, examples: data.Examples, step: int) -> device_feed.Feed:
        arguments = self.config, self.info, self.mesh, programs
        if programs.chunk:
            assert isinstance(examples, data.Source)
            stream = StreamFeed(*arguments, examples, step)
            return self.stack.enter_context(contextlib.closing(stream))
        if isinstance(examples, data.Source):
            arrays = device_feed.shared_out(examples, self.mesh)
        else:
            arrays = device_feed.in_memory(examples, self.mesh)
        pace = functools.partial(Pace, self.clock, self.cluster.smallest)
        return device_feed.DeviceFeed(*arguments, arrays, pace)

    def _draw(self, folder: Workdir, examples: data.Examples, result: Result) -> None:
        """Draws how the training went and, for TensorBoard, which class is taken for which."""
        from cnn_jax.plots import curves, figure  # Matplotlib takes half a second.

        config, info, board = self.config, self.info, self.report.board
        drawn = curves.draw(read_metrics(folder.path), f"Training of {config.dataset.name}")
        figure.save(drawn, folder.path / "pictures" / "learning_curves.png")
        if not board or sweep.count(config) > 1:
            return
        from cnn_jax.evaluation.report import Scores
        from cnn_jax.evaluation.trained import Trained

        network = Trained(
            folder.path, result.steps, config, info.image_shape, info.class_names, result.params
        )
        rows = np.arange(info.num_train, info.num_train + info.num_test)
        probabilities, labels = [], []
        for start in range(0, len(rows), _TEST_PART):
            part = examples.read(rows[start : start + _TEST_PART])
            probabilities.append(network.probabilities(part.image))
            labels.append(part.label)
        scores = Scores(np.concatenate(probabilities), np.concatenate(labels))
        drawn = evaluation.draw_confusion(scores.confusion, info.class_names, network.about)
        size = drawn.canvas.get_width_height()
        board.image(result.steps, "confusion_matrix", figure.png(drawn), size)

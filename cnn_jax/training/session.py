"""Opens and prepares what a run needs in this process: checkpoints, data, programs, the feed."""

import contextlib
import dataclasses
import functools
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from cnn_jax import data
from cnn_jax.checkpoint.metadata import Progress
from cnn_jax.checkpoint.restore import Checkpoint, checkpoint_at
from cnn_jax.checkpoint.state import restore_state
from cnn_jax.config import sweep
from cnn_jax.engine import sharding
from cnn_jax.engine.compile import Programs, compile_programs
from cnn_jax.errors import UserError
from cnn_jax.io.console import Console
from cnn_jax.io.files import write_output
from cnn_jax.io.workdir import Workdir
from cnn_jax.nn.metrics import Metrics
from cnn_jax.training import device_feed, resume
from cnn_jax.training.chunking import ChunkTimer
from cnn_jax.training.context import RunContext, Start
from cnn_jax.training.stream_feed import StreamFeed, chunk_sizes
from cnn_jax.wording import pluralize

if TYPE_CHECKING:  # Orbax takes 0.3 s: not without a workdir.
    from cnn_jax.checkpoint.manager import Checkpoints


_SHARED_SECONDS = 10.0  # After which all hosts must see a file that one of them has written.


@dataclasses.dataclass(frozen=True)
class Session:
    """Opens the parts of one run in this process.

    Attributes:
      context: what all parts share.
      console: standard output and standard error; silent in all but the first process.
      workdir: the open workdir; None without one, and in all but the first process.
      stack: closes what is opened here at the end of the run.
    """

    context: RunContext
    console: Console
    workdir: Workdir | None
    stack: contextlib.ExitStack

    def find_start(self, path: Path) -> Checkpoint | None:
        """Returns the checkpoint to resume from, the same in all processes, or None at step 0."""
        self._check_shared(path)
        checkpoint = None
        if self.workdir:
            config, info = self.context.config, self.context.info
            checkpoint = resume.find_start(config, info, self.workdir, self.console.warn)
        step = self.context.cluster.broadcast_from_first(str(checkpoint.step) if checkpoint else "")
        if step and not self.workdir:
            checkpoint = checkpoint_at(path / "checkpoints", int(step))
        return checkpoint

    def _check_shared(self, path: Path) -> None:
        """Checks that all processes see the same folder, since process 0 alone writes to it.

        Raises:
          UserError: in a process that sees another folder.
        """
        cluster = self.context.cluster
        if cluster.process_count == 1:
            return
        marker = path / ".cluster"
        token = f"{socket.gethostname()} {os.getpid()} {time.time_ns()}"
        if self.workdir:
            write_output(marker, token.encode())
        token = cluster.broadcast_from_first(token)
        deadline = time.monotonic() + _SHARED_SECONDS
        while not marker.is_file() or marker.read_text("utf-8") != token:
            if time.monotonic() > deadline:
                raise UserError(
                    f"process {cluster.process_index} on {socket.gethostname()} does not see "
                    f"what process 0 wrote to --workdir={path}: it must be a folder on a file "
                    "system that all hosts share. Use the absolute path of such a folder."
                )
            time.sleep(0.1)

    def open_checkpoints(self, path: Path, checkpoint: Checkpoint | None) -> "Checkpoints":
        """Prepares the workdir, and opens its checkpoints for writing."""
        from cnn_jax.checkpoint.manager import Checkpoints

        if self.workdir:
            resume.prepare_workdir(checkpoint, self.workdir, self.console.warn)
        self.context.cluster.barrier("the workdir is ready")
        return self.stack.enter_context(Checkpoints(path))

    def prepare(self) -> tuple[Programs, data.RandomAccess]:
        """Reads the data, or opens them for a stream, while a thread compiles the programs."""
        config, info, mesh = self.context.config, self.context.info, self.context.mesh
        cluster, clock = self.context.cluster, self.context.clock
        streams = self._streams()
        sizes = chunk_sizes(config, info, mesh) if streams else None
        if data.needs_tfds(**config.dataset):
            import tensorflow_datasets  # noqa: F401  # Before another thread imports anything.
        if info.source:
            self.console.line(f"Data: {info.source}")
        for warning in info.warnings:
            self.console.warn(warning)
        progress = self.console.err.isatty()
        examples: data.RandomAccess
        with ThreadPoolExecutor() as pool:
            compiled = pool.submit(compile_programs, config, info, mesh, sizes, clock)
            if cluster.process_count == 1 and not streams:
                examples = data.load(**config.dataset, show_progress=progress)
            else:
                with cluster.first_then_others():  # The others may see what the first one prepares.
                    examples = data.open_source(**config.dataset, show_progress=progress)
        if info.source and isinstance(examples, data.Dataset):
            self._warn_of_shared_images(examples)
        return compiled.result(), examples

    def _warn_of_shared_images(self, examples: data.Dataset) -> None:
        if count := data.count_shared(examples.train.image, examples.test.image):
            self.console.warn(
                f"{pluralize(count, 'test image')} of {len(examples.test.label):,} "
                f"{'is' if count == 1 else 'are'} also in the training part: the test accuracy is "
                "higher than that of new images"
            )

    def _streams(self) -> bool:
        """Returns whether the examples are streamed; the same in all processes.

        Raises:
          UserError: when `dataset.feed=device` and the examples do not fit into device memory.
        """
        feed, info = self.context.config.dataset.feed, self.context.info
        if feed == "device":
            device_feed.check_fits(info)
        if feed == "auto":
            exceeds_memory = int(not device_feed.fits_in_memory(info))
            return bool(self.context.cluster.all_reduce_max(exceeds_memory))
        return bool(feed == "stream")

    def make_feed(
        self, programs: Programs, examples: data.RandomAccess, step: int
    ) -> device_feed.Feed:
        """Returns the feed of a run that starts after `step` steps."""
        context = self.context
        arguments = context.config, context.info, context.mesh, programs
        if programs.chunk_sizes:
            assert isinstance(examples, data.Source)
            stream = StreamFeed(*arguments, examples, step)
            return self.stack.enter_context(contextlib.closing(stream))
        if isinstance(examples, data.Source):
            # Gloo waits 30 s for all processes once the first one starts a collective operation.
            context.cluster.barrier("the data are there")
            arrays = device_feed.load_sharded(examples, context.mesh)
        else:
            arrays = device_feed.load_to_devices(examples, context.mesh)
        make_timer = functools.partial(ChunkTimer, context.clock, context.cluster.all_reduce_min)
        return device_feed.DeviceFeed(*arguments, arrays, make_timer)

    def make_start(self, programs: Programs, checkpoint: Checkpoint | None) -> Start:
        """Restores a checkpoint, or draws the initial parameters."""
        config, mesh = self.context.config, self.context.mesh
        if checkpoint:
            step, progress = checkpoint.step, Progress(**checkpoint.metadata["progress"])
            state, total = restore_state(config, self.context.info, mesh, checkpoint)
        else:
            step, progress = 0, Progress()
            state = programs.initial_state(*sweep.seeds_and_hyperparameters(config))
            empty = Metrics.empty(sweep.count_models(config))
            total = sharding.to_devices(empty, sharding.replicated(mesh))
        progress.compile_seconds += programs.seconds
        return Start(step, state, total, progress)

"""One run in this process: its workdir opened, its data and programs prepared, its feed made."""

import contextlib
import dataclasses
import functools
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from jax.sharding import Mesh
from ml_collections import ConfigDict

from cnn_jax import data
from cnn_jax.config import sweep
from cnn_jax.distributed.cluster import Cluster
from cnn_jax.engine import sharding
from cnn_jax.engine.compile import Programs, compile_programs
from cnn_jax.errors import UserError
from cnn_jax.io.console import Console
from cnn_jax.io.files import write_output
from cnn_jax.io.workdir import Workdir
from cnn_jax.reporting.train_logger import TrainLogger
from cnn_jax.training import device_feed, resume
from cnn_jax.training.chunking import ChunkTimer
from cnn_jax.training.stream_feed import StreamFeed, chunk_sizes

if TYPE_CHECKING:  # Orbax takes 0.3 s: not without a workdir.
    from cnn_jax.checkpoint.manager import Checkpoint, Checkpoints


_SHARED_SECONDS = 10.0  # Until a file that one host has written must be seen by the others.


@dataclasses.dataclass
class Session:
    """A run in this process; what is to be closed at its end goes onto the stack."""

    config: ConfigDict
    info: data.Info
    cluster: Cluster
    console: Console
    folder: Workdir | None  # Of the first process alone.
    report: TrainLogger
    clock: Callable[[], float]
    started: float
    stack: contextlib.ExitStack

    @functools.cached_property
    def mesh(self) -> Mesh:
        """Of all devices of all processes."""
        return sharding.make_mesh(sweep.count_models(self.config))

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
        step = self.cluster.broadcast_from_first(str(found.step) if found else "")
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
            write_output(mark, token.encode())
        token = self.cluster.broadcast_from_first(token)
        until = time.monotonic() + _SHARED_SECONDS
        while not mark.is_file() or mark.read_text() != token:
            if time.monotonic() > until:
                raise UserError(
                    f"process {self.cluster.index} on {socket.gethostname()} does not find in "
                    f"--workdir={path} what process 0 has written there: allowed is one folder on "
                    "a file system that all hosts share, by its absolute path. Change --workdir."
                )
            time.sleep(0.1)

    def open_checkpoints(self, path: Path, checkpoint: "Checkpoint | None") -> "Checkpoints":
        """Clears the way for the checkpoints to come, which all processes write together."""
        from cnn_jax.checkpoint.manager import Checkpoints

        together = self.mesh if self.cluster.count > 1 else None
        checkpoints = Checkpoints(path, read_only=False, mesh=together)
        self.stack.enter_context(checkpoints)
        if self.folder:
            resume.prepare_workdir(checkpoint, self.folder, checkpoints, self.console.warn)
        self.cluster.barrier("the workdir is ready")
        return checkpoints

    def prepare(self) -> tuple[Programs, data.RandomAccess]:
        """Compiles while the data are read: all of them, or where they are to be read from."""
        config, info, cluster = self.config, self.info, self.cluster
        streams = self._streams()
        chunk = chunk_sizes(config, info, self.mesh) if streams else None
        if data.needs_tfds(**config.dataset):
            import tensorflow_datasets  # noqa: F401  # Before another thread imports anything.
        progress = self.console.err.isatty()
        examples: data.RandomAccess
        with ThreadPoolExecutor() as pool:
            compiled = pool.submit(compile_programs, config, info, self.mesh, chunk, self.clock)
            if cluster.count == 1 and not streams:
                examples = data.load(**config.dataset, show_progress=progress)
            else:
                with cluster.first_then_others():  # One prepares what the others may see as well.
                    examples = data.open_source(**config.dataset, show_progress=progress)
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
            return bool(self.cluster.largest(int(not device_feed.fits_in_memory(self.info))))
        return bool(wanted == "stream")

    def make_feed(
        self, programs: Programs, examples: data.RandomAccess, step: int
    ) -> device_feed.Feed:
        arguments = self.config, self.info, self.mesh, programs
        if programs.chunk:
            assert isinstance(examples, data.Source)
            stream = StreamFeed(*arguments, examples, step)
            return self.stack.enter_context(contextlib.closing(stream))
        if isinstance(examples, data.Source):
            arrays = device_feed.load_sharded(examples, self.mesh)
        else:
            arrays = device_feed.load_to_devices(examples, self.mesh)
        pace = functools.partial(ChunkTimer, self.clock, self.cluster.smallest)
        return device_feed.DeviceFeed(*arguments, arrays, pace)

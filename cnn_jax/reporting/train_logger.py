"""What a run shows and writes: console lines, a progress bar, and the files of a workdir."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from cnn_jax.io.console import Console
from cnn_jax.io.workdir import Workdir
from cnn_jax.nn.metrics import MetricValues, finite_values, mean_of_finite
from cnn_jax.reporting import tensorboard
from cnn_jax.reporting.tensorboard import TensorBoard

_NAMED = 8  # Devices; more of them are counted.


class TrainLogger:
    """Console and files of one run. The lines are those of the reference program.

    Without a workdir no file is written.

    Attributes:
      board: TensorBoard's files, where there is a workdir and the extra is installed.
    """

    def __init__(
        self,
        workdir: Workdir | None,
        console: Console,
        *,
        num_epochs: int,
        num_batches: int,
    ) -> None:
        """Shows and writes nothing yet.

        Args:
          workdir: takes the files, or None.
          console: takes the lines and, where it is a terminal, the progress bar.
          num_epochs: of the run.
          num_batches: of an epoch.
        """
        self._console = console
        self._num_epochs = num_epochs
        self._num_batches = num_batches
        self._workdir = workdir
        self._bar = tqdm(disable=True)  # Until the training begins.
        self.board: TensorBoard | None = None

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Writes `name` into the workdir, whole or not at all."""
        if self._workdir:
            self._workdir.write_json(name, content)

    def line(self, text: str) -> None:
        """Prints a line above the progress bar."""
        self._bar.clear()
        self._console.line(text)
        self._bar.refresh()

    def begin(
        self,
        devices: list[str],
        compile_seconds: float,
        image_shape: tuple[int, ...],
        step: int,
        config: Mapping[str, Any],
    ) -> None:
        """Says what the training runs on and from where it goes on, and starts the progress bar.

        Args:
          devices: their names.
          compile_seconds: how long XLA compiled.
          image_shape: of a batch: (examples, height, width, channels).
          step: steps taken by earlier processes.
          config: of the run.
        """
        if self._workdir and tensorboard.installed():
            self.board = TensorBoard(self._workdir.path / "tensorboard", step)
            self.board.config(config)
        num_steps = self._num_epochs * self._num_batches
        self.line(f"Device: {_in_short(devices)} | Compiled in {compile_seconds:.1f} s")
        self.line(f"Image batch dimensions: {image_shape}")
        self.line(f"Image label dimensions: {image_shape[:1]}")
        if step:
            self.line(f"Going on after step {step} of {num_steps}")
        self._bar = tqdm(
            total=num_steps,
            initial=step,
            unit=" steps",
            file=self._console.err,
            leave=False,
            disable=not self._console.err.isatty(),
        )

    def batches(self, epoch: int, batch: int, cost: float, *, show: bool, advance: int) -> None:
        """Says how far an epoch has come.

        Args:
          epoch: number of the epoch, from 1.
          batch: how many batches of it are done.
          cost: mean cross-entropy of the last of them.
          show: whether to print the line.
          advance: batches since the last call.
        """
        self._bar.set_description(f"Epoch {epoch}/{self._num_epochs}", refresh=False)
        self._bar.update(advance)
        if show:
            self.line(
                f"Epoch: {epoch:03d}/{self._num_epochs:03d} | "
                f"Batch {batch:03d}/{self._num_batches:03d} | Cost: {cost:.4f}"
            )

    def epoch_accuracy(self, epoch: int, accuracy: float, seconds: float) -> None:
        """Says how well the training set is known, after `seconds` of the run."""
        self.line(
            f"Epoch: {epoch:03d}/{self._num_epochs:03d} training accuracy: {100 * accuracy:.2f}%"
        )
        self.line(f"Time elapsed: {seconds / 60:.2f} min")

    def training_time(self, seconds: float) -> None:
        """Says how long the training took."""
        self.line(f"Total Training Time: {seconds / 60:.2f} min")

    def test_accuracy(self, accuracy: float) -> None:
        """Says the result."""
        self.line(f"Test accuracy: {100 * accuracy:.2f}%")

    def metrics(
        self, *, step: int, epoch: int, split: str, each: Sequence[MetricValues], seconds: float
    ) -> None:
        """Appends one line to `metrics.jsonl`.

        Args:
          step: steps taken so far.
          epoch: number of the epoch, from 1.
          split: `train`: the batches since the line before, each with the parameters of its
            moment; `train_eval`: the whole training set with the parameters as they are; `test`.
          each: `loss` and `accuracy` of each network; where there are several, the line has their
            means over those that are finite, and all of them.
          seconds: since the training began.
        """
        means = {name: mean_of_finite(each, name) for name in ("loss", "accuracy")}
        if self._workdir:
            row: dict[str, Any] = {
                "step": step,
                "epoch": epoch,
                "split": split,
                **means,
                "seconds": round(seconds, 3),
            }
            if len(each) > 1:
                row["networks"] = {name: finite_values(each, name) for name in means}
            self._workdir.add_metrics(row)
        if self.board:
            self.board.scalars(step, {f"{name}/{split}": value for name, value in means.items()})

    def metrics_size(self) -> int:
        """Bytes of `metrics.jsonl`, all of which are on the disk when this returns."""
        return self._workdir.metrics_size() if self._workdir else 0

    def close(self) -> None:
        """Removes the progress bar, and ends TensorBoard's file."""
        self._bar.close()
        if self.board:
            self.board.close()


def _in_short(devices: Sequence[str]) -> str:
    """The names of some devices, or how many there are of each kind."""
    if len(devices) <= _NAMED:
        return ", ".join(devices)
    kinds = collections.Counter(name.partition(" ")[2] for name in devices)
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.items())

"""Reports the progress of a run: console lines, progress bar, `metrics.jsonl`, TensorBoard."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from cnn_jax.io.console import Console
from cnn_jax.io.workdir import Workdir
from cnn_jax.nn.metrics import MetricValues
from cnn_jax.reporting import tensorboard
from cnn_jax.reporting.per_model import finite_values, mean_of_finite
from cnn_jax.reporting.tensorboard import TensorBoard

_MAX_DEVICE_NAMES = 8  # A line with more devices has their counts instead of their names.


class TrainLogger:
    """Writes the console lines and the files of one run. The lines are the reference program's.

    Without a workdir it writes no file.

    Attributes:
      board: TensorBoard writer; None without a workdir, without the extra `tensorboard`, and before
        `start`.
    """

    def __init__(
        self,
        workdir: Workdir | None,
        console: Console,
        *,
        num_epochs: int,
        num_batches: int,
    ) -> None:
        """Stores its arguments; prints and writes nothing.

        Args:
          workdir: open workdir that receives the files, or None.
          console: receives the lines and, where it is a terminal, the progress bar.
          num_epochs: number of epochs of the run.
          num_batches: number of batches of an epoch.
        """
        self._console = console
        self._num_epochs = num_epochs
        self._num_batches = num_batches
        self._workdir = workdir
        self._bar = tqdm(disable=True)  # Stands in for the bar that `start` shows.
        self.board: TensorBoard | None = None

    def line(self, text: str) -> None:
        """Prints a line above the progress bar."""
        self._bar.clear()
        self._console.line(text)
        self._bar.refresh()

    def start(
        self,
        devices: list[str],
        compile_seconds: float,
        batch_shape: tuple[int, ...],
        step: int,
        config: Mapping[str, Any],
    ) -> None:
        """Opens TensorBoard's file, prints the lines before training, and shows the progress bar.

        Args:
          devices: names of the devices that train.
          compile_seconds: seconds of compilation.
          batch_shape: shape of a batch of images, (batch, height, width, channels).
          step: number of steps taken before this start of the run.
          config: config of the run.
        """
        if self._workdir and tensorboard.is_installed():
            self.board = TensorBoard(self._workdir.path / "tensorboard", step)
            self.board.add_config(config)
        num_steps = self._num_epochs * self._num_batches
        self.line(f"Device: {_format_devices(devices)} | Compiled in {compile_seconds:.1f} s")
        self.line(f"Image batch dimensions: {batch_shape}")
        self.line(f"Image label dimensions: {batch_shape[:1]}")
        if step:
            self.line(f"Resuming after step {step} of {num_steps}")
        self._bar = self._console.progress_bar(total=num_steps, initial=step, unit="steps")

    def log_progress(
        self, epoch: int, batch: int, cost: float, *, show: bool, advance: int
    ) -> None:
        """Advances the progress bar and, on demand, prints the loss.

        Args:
          epoch: number of the epoch, from 1.
          batch: index in the epoch, from 0, of the first batch since the last call.
          cost: mean cross-entropy of that batch, in nats.
          show: whether to print the line.
          advance: number of batches since the last call.
        """
        self._bar.set_description(f"Epoch {epoch}/{self._num_epochs}", refresh=False)
        self._bar.update(advance)
        if show:
            self.line(
                f"Epoch: {epoch:03d}/{self._num_epochs:03d} | "
                f"Batch {batch:03d}/{self._num_batches:03d} | Cost: {cost:.4f}"
            )

    def log_epoch_accuracy(self, epoch: int, accuracy: float, seconds: float) -> None:
        """Prints the training accuracy after an epoch, and the seconds since training began."""
        self.line(
            f"Epoch: {epoch:03d}/{self._num_epochs:03d} training accuracy: {100 * accuracy:.2f}%"
        )
        self.line(f"Time elapsed: {seconds / 60:.2f} min")

    def log_training_time(self, seconds: float) -> None:
        """Prints how long the training took."""
        self.line(f"Total Training Time: {seconds / 60:.2f} min")

    def log_test_accuracy(self, accuracy: float) -> None:
        """Prints the test accuracy, given as a fraction."""
        self.line(f"Test accuracy: {100 * accuracy:.2f}%")

    def log_metrics(
        self,
        *,
        step: int,
        epoch: int,
        split: str,
        per_model: Sequence[MetricValues],
        seconds: float,
    ) -> None:
        """Appends one line to `metrics.jsonl` and one point to each curve of TensorBoard.

        Args:
          step: number of steps taken.
          epoch: number of the epoch, from 1.
          split: `train`: the batches since the previous `train` line, each with the parameters of
            its own step; `train_eval`: the entire training set with the current parameters;
            `test`: the test set with the current parameters.
          per_model: `loss` and `accuracy` of each model. Of several models the line has the mean
            over those whose loss is finite and, as `models`, the values of each.
          seconds: seconds since the training began.

        Raises:
          UserError: when a file cannot be written.
        """
        means = {name: mean_of_finite(per_model, name) for name in ("loss", "accuracy")}
        if self._workdir:
            row: dict[str, Any] = {
                "step": step,
                "epoch": epoch,
                "split": split,
                **means,
                "seconds": round(seconds, 3),
            }
            if len(per_model) > 1:
                row["models"] = {name: finite_values(per_model, name) for name in means}
            self._workdir.append_metrics(row)
        if self.board:
            self.board.add_scalars(
                step, {f"{name}/{split}": value for name, value in means.items()}
            )

    def metrics_size(self) -> int:
        """Flushes `metrics.jsonl` to the disk, and returns its size in bytes; 0 without a file."""
        return self._workdir.metrics_size() if self._workdir else 0

    def close(self) -> None:
        """Removes the progress bar, and closes TensorBoard's file."""
        self._bar.close()
        if self.board:
            self.board.close()


def _format_devices(devices: Sequence[str]) -> str:
    """Returns the names of a few devices, or the number of each kind of many."""
    if len(devices) <= _MAX_DEVICE_NAMES:
        return ", ".join(devices)
    kinds = collections.Counter(name.partition(" ")[2] for name in devices)
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.items())

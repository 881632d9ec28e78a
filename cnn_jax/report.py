"""What a run shows and writes: console lines, a progress bar, and the files of a workdir."""

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from cnn_jax.errors import UserError


class Report:
    """Console and files of one run. The lines are those of the reference program.

    Without a workdir no file is written.
    """

    def __init__(
        self, workdir: str | None, *, out: TextIO, err: TextIO, num_epochs: int, num_batches: int
    ) -> None:
        """Opens the workdir, and claims it.

        Args:
          workdir: a folder, made if need be, or None.
          out: takes the lines.
          err: takes the progress bar, where it is a terminal.
          num_epochs: of the run.
          num_batches: of an epoch.

        Raises:
          UserError: when the folder cannot be written or holds a run already.
        """
        self._out, self._err = out, err
        self._num_epochs = num_epochs
        self._num_batches = num_batches
        self._workdir = _claim(Path(os.path.expanduser(workdir))) if workdir else None
        self._bar = tqdm(disable=True)  # Until the training begins.

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Writes `name` into the workdir, whole or not at all."""
        if self._workdir:
            path = self._workdir / name
            unfinished = path.with_suffix(".tmp")
            with _said(path):
                unfinished.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
                unfinished.replace(path)

    def line(self, text: str) -> None:
        """Prints a line above the progress bar, at once even into a pipe."""
        self._bar.clear()
        print(text, file=self._out, flush=True)
        self._bar.refresh()

    def begin(
        self, devices: list[str], compile_seconds: float, image_shape: tuple[int, ...]
    ) -> None:
        """Says what the training runs on, and starts the progress bar.

        Args:
          devices: their names.
          compile_seconds: how long XLA compiled.
          image_shape: of a batch: (examples, height, width, channels).
        """
        self.line(f"Device: {', '.join(devices)} | Compiled in {compile_seconds:.1f} s")
        self.line(f"Image batch dimensions: {image_shape}")
        self.line(f"Image label dimensions: {image_shape[:1]}")
        self._bar = tqdm(
            total=self._num_epochs * self._num_batches,
            unit=" steps",
            file=self._err,
            leave=False,
            disable=not self._err.isatty(),
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
        self, *, step: int, epoch: int, split: str, values: dict[str, float], seconds: float
    ) -> None:
        """Appends one line to `metrics.jsonl`.

        Args:
          step: steps taken so far.
          epoch: number of the epoch, from 1.
          split: `train`: the batches since the line before, each with the parameters of its
            moment; `train_eval`: the whole training set with the parameters as they are; `test`.
          values: has `loss` and `accuracy`.
          seconds: since the training began.
        """
        if self._workdir:
            row = {
                "step": step,
                "epoch": epoch,
                "split": split,
                "loss": values["loss"],
                "accuracy": values["accuracy"],
                "seconds": round(seconds, 3),
            }
            path = self._workdir / "metrics.jsonl"
            with _said(path), path.open("a") as file:
                file.write(json.dumps(row, allow_nan=False) + "\n")

    def close(self) -> None:
        """Removes the progress bar."""
        self._bar.close()


def _claim(workdir: Path) -> Path:
    """Makes the folder, and refuses one whose earlier results would be lost."""
    with _said(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        metrics = workdir / "metrics.jsonl"
        metrics.touch()
        # A run that came to nothing, for want of data say, left an empty file.
        if metrics.stat().st_size:
            raise UserError(
                f"workdir {workdir} holds a run already: allowed is a new or empty folder. "
                "Choose another --workdir, or delete that one."
            )
    return workdir


@contextlib.contextmanager
def _said(path: Path) -> Iterator[None]:
    """Turns what the operating system refuses into words."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}): allowed is a --workdir in a "
            "folder that can be written, on a disk with room. Choose another --workdir."
        ) from error


def check_finite(loss: float, first_step: int, last_step: int) -> None:
    """Stops a run whose loss is no number any more.

    Raises:
      UserError: naming the steps between which it happened.
    """
    if not math.isfinite(loss):
        raise UserError(
            f"the loss became {loss} between step {first_step} and step {last_step}: allowed is a "
            "finite number. Use a smaller learning_rate."
        )

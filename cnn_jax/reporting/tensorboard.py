"""Writes TensorBoard event files, where the extra `tensorboard` is installed.

It writes each event synchronously, with tensorboardX's lower-level functions. The usual
`SummaryWriter` has a thread that ends silently when the disk is full, after which the program would
wait for it forever.
"""

import contextlib
import json
import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from cnn_jax.checkpoint.tree import flatten
from cnn_jax.errors import UserError
from cnn_jax.io.files import translate_write_errors


def is_installed() -> bool:
    """Returns whether tensorboardX is installed."""
    return find_spec("tensorboardX") is not None


class TensorBoard:
    """Writes the events of one process of a run, into a file of its own."""

    def __init__(self, folder: Path, step: int) -> None:
        """Opens a new event file.

        Args:
          folder: folder with the event files of all processes of the run; created if missing.
          step: last step before this process. TensorBoard hides the later steps that an earlier,
            interrupted process wrote.

        Raises:
          UserError: when tensorboardX cannot be imported, or the file cannot be written. All other
            methods raise it as well when the file cannot be written.
        """
        try:
            # Imported here: it takes 0.3 s, and imports torch where that is installed.
            from tensorboardX import event_file_writer, summary
            from tensorboardX.proto import event_pb2, summary_pb2
        except Exception as error:  # For example, an incompatible version of protobuf.
            raise UserError(
                f"tensorboardX is installed but cannot be imported ({error}): it must be a working "
                "installation or absent. Use pip install -e '.[tensorboard]', or uninstall it."
            ) from error
        self._summary, self._event, self._message = summary, event_pb2, summary_pb2
        self._folder = folder
        with self._translate_errors():
            folder.mkdir(parents=True, exist_ok=True)
            # tensorboardX's file names differ by the second only; two processes may start within
            # one.
            self._writer = event_file_writer.EventsWriter(
                str(folder / "events"), f".{os.getpid()}.{step}"
            )
        log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step + 1, session_log=log)

    def add_config(self, config: Mapping[str, Any]) -> None:
        """Adds the config, as JSON in Markdown."""
        text = "".join(f"    {line}\n" for line in json.dumps(config, indent=2).splitlines())
        self._write(0, summary=self._summary.text("config", text))

    def add_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one point to each named curve."""
        for name, value in values.items():
            self._write(step, summary=self._summary.scalar(name, value))

    def add_histograms(self, step: int, params: Any) -> None:
        """Adds a histogram of each array in a parameter tree."""
        for path, array in flatten(params).items():
            finite = array[np.isfinite(array)]  # One of several models may have diverged.
            histogram = self._summary.histogram(path.replace(".", "/"), finite, "auto")
            self._write(step, summary=histogram)

    def add_image(self, step: int, name: str, png: bytes, size: tuple[int, int]) -> None:
        """Adds a figure.

        Args:
          step: number of steps after which it was drawn.
          name: name of the figure.
          png: content of a PNG file.
          size: (width, height) in pixels.
        """
        image = self._message.Summary.Image(
            encoded_image_string=png, width=size[0], height=size[1], colorspace=4
        )
        value = self._message.Summary.Value(tag=name, image=image)
        self._write(step, summary=self._message.Summary(value=[value]))

    def flush(self) -> None:
        """Flushes all events to the disk."""
        with self._translate_errors():
            self._writer.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        with self._translate_errors():
            self._writer.close()

    def _write(self, step: int, **content: Any) -> None:
        event = self._event.Event(step=step, wall_time=time.time(), **content)
        with self._translate_errors():
            self._writer.write_event(event)

    def _translate_errors(self) -> contextlib.AbstractContextManager[None]:
        return translate_write_errors(self._folder)

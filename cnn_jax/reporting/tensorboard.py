"""TensorBoard's files of a run, where the extra `tensorboard` is installed.

They are written by tensorboardX's functions for events, at once: its usual writer has a thread that
ends without a word where the disk is full, and the program then waits for it for ever.
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
from cnn_jax.io.files import translate_errors


def installed() -> bool:
    """Whether tensorboardX is there."""
    return find_spec("tensorboardX") is not None


class TensorBoard:
    """What TensorBoard shows of one run: the events of this process, in a file of its own."""

    def __init__(self, folder: Path, step: int) -> None:
        """Begins a file.

        Args:
          folder: for the files of all processes of the run; made if need be.
          step: from which the run goes on; what an earlier process wrote of later ones is hidden.

        Raises:
          UserError: when it cannot be written, as by all other functions here, or tensorboardX
            is damaged.
        """
        try:
            from tensorboardX import event_file_writer, summary  # 0.3 s, and torch where it is.
            from tensorboardX.proto import event_pb2, summary_pb2
        except Exception as error:  # Such as another version of protobuf than its own.
            raise UserError(
                f"tensorboardX is installed and cannot be imported ({error}): allowed is one that "
                "can be, or none. Use pip install -e '.[tensorboard]', or uninstall it."
            ) from error
        self._summary, self._event, self._message = summary, event_pb2, summary_pb2
        self._folder = folder
        with self._said():
            folder.mkdir(parents=True, exist_ok=True)
            # Two processes may begin within a second, which is all that its own name tells.
            self._writer = event_file_writer.EventsWriter(
                str(folder / "events"), f".{os.getpid()}.{step}"
            )
        log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step + 1, session_log=log)

    def config(self, config: Mapping[str, Any]) -> None:
        """Shows the config, as JSON in Markdown."""
        text = "".join(f"    {line}\n" for line in json.dumps(config, indent=2).splitlines())
        self._write(0, summary=self._summary.text("config", text))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a point to each of some curves."""
        for name, value in values.items():
            self._write(step, summary=self._summary.scalar(name, value))

    def histograms(self, step: int, params: Any) -> None:
        """Shows how the values of every array of a tree are spread."""
        for path, array in flatten(params).items():
            finite = array[np.isfinite(array)]  # One of several networks may have diverged.
            histogram = self._summary.histogram(path.replace(".", "/"), finite, "auto")
            self._write(step, summary=histogram)

    def image(self, step: int, name: str, png: bytes, size: tuple[int, int]) -> None:
        """Shows a picture.

        Args:
          step: after which it was made.
          name: of the picture.
          png: its file.
          size: (width, height) in pixels.
        """
        image = self._message.Summary.Image(
            encoded_image_string=png, width=size[0], height=size[1], colorspace=4
        )
        value = self._message.Summary.Value(tag=name, image=image)
        self._write(step, summary=self._message.Summary(value=[value]))

    def flush(self) -> None:
        """Brings all of it onto the disk."""
        with self._said():
            self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        with self._said():
            self._writer.close()

    def _write(self, step: int, **content: Any) -> None:
        event = self._event.Event(step=step, wall_time=time.time(), **content)
        with self._said():
            self._writer.write_event(event)

    def _said(self) -> contextlib.AbstractContextManager[None]:
        return translate_errors(self._folder)

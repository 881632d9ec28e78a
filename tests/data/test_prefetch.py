"""Tests of prefetching: the order and content of the elements, errors, and cleanup of workers."""

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import numpy as np
import numpy.typing as npt
import pytest

from cnn_jax import data
from cnn_jax.errors import Stopped, UserError
from tests.data.small_mnist import accept_as_originals, write_originals
from tests.support.command_line import ROOT

LENGTH = 1000  # More elements than any test reads, so that the workers are always busy.


class Rows:
    """Element indices: element k is the single row k."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> npt.NDArray[np.int32]:
        assert "tensorflow" not in sys.modules  # Neither here nor in a worker.
        return np.array([index], np.int32)


class FailingRows(Rows):
    """Rows whose third element raises a UserError."""

    def __getitem__(self, index: int) -> npt.NDArray[np.int32]:
        if index == 2:
            raise UserError("index=2 is invalid: it must be 0 or 1. Use another.")
        return super().__getitem__(index)


class BlockingRows(Rows):
    """Rows whose third element blocks for a day."""

    def __getitem__(self, index: int) -> npt.NDArray[np.int32]:
        if index == 2:
            time.sleep(100_000)
        return super().__getitem__(index)


def wait_for_reading_threads() -> None:
    """Waits until the reading thread has ended; Grain does not join it when a stream is closed."""
    while any("prefetch" in thread.name for thread in threading.enumerate()):
        time.sleep(0.01)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_elements_are_complete_in_order_and_padded(
    num_workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_originals(tmp_path / "originals")
    accept_as_originals(monkeypatch)
    folders = {"data_dir": str(tmp_path / "data"), "manual_dir": str(tmp_path / "originals")}
    dataset = data.load("mnist", **folders)  # type: ignore[arg-type]
    image = np.concatenate([dataset.train.image, dataset.test.image])
    label = np.concatenate([dataset.train.label, dataset.test.label])
    element_indices = [
        np.array(rows, np.int32)
        for rows in ([[3, 39], [0, 3]], [[5, -1], [-1, -1]], [[-1, -1], [-1, -1]], 7, [8, 9, 10])
    ]
    source = data.open_source("mnist", **folders)  # type: ignore[arg-type]
    with data.prefetch(source, element_indices, num_workers) as stream:
        elements = list(stream)
    assert len(elements) == len(element_indices)
    for examples, rows in zip(elements, element_indices, strict=True):
        assert type(examples.image) is np.ndarray  # Not a subclass that shares memory.
        assert examples.image.dtype == np.uint8
        assert examples.label.dtype == np.int32
        assert examples.image.shape == (*rows.shape, 28, 28, 1)
        mask = rows >= 0
        np.testing.assert_array_equal(examples.image[mask], image[rows[mask]])
        np.testing.assert_array_equal(examples.label[mask], label[rows[mask]])
        assert not examples.image[~mask].any()
        assert (examples.label[~mask] == -1).all()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("missing", ["fcntl", "SIGUSR1", "pthread_kill", "pthread_sigmask"])
def test_a_thread_reads_where_the_platform_cannot_end_workers(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing == "fcntl":
        monkeypatch.setitem(sys.modules, "fcntl", None)
    else:
        monkeypatch.delattr(signal, missing)
    source = data.open_source("digits")
    with data.prefetch(source, Rows(), num_workers=2) as stream:
        assert multiprocessing.active_children() == []
        examples, expected = next(stream), source.read(np.array([0]))
    np.testing.assert_array_equal(examples.image, expected.image)
    np.testing.assert_array_equal(examples.label, expected.label)
    wait_for_reading_threads()


def test_empty_stream_ends_at_once() -> None:
    with data.prefetch(data.open_source("digits"), [], 2) as stream:
        assert list(stream) == []


@pytest.mark.parametrize("num_workers", [0, 1])
def test_error_in_a_worker_is_raised_in_the_main_process(num_workers: int) -> None:
    with data.prefetch(data.open_source("digits"), FailingRows(), num_workers) as stream:
        next(stream)
        next(stream)
        with pytest.raises(
            UserError, match=r"^index=2 is invalid: it must be 0 or 1\. Use another\.$"
        ):
            next(stream)
    assert multiprocessing.active_children() == []
    wait_for_reading_threads()


def test_closed_stream_stops_reading() -> None:
    with data.prefetch(data.open_source("digits"), Rows(), 0) as stream:
        next(stream)
    assert list(stream) == []
    wait_for_reading_threads()


@pytest.mark.durability
def test_closing_does_not_wait_for_a_blocked_worker() -> None:
    with data.prefetch(data.open_source("digits"), BlockingRows(), 1) as stream:
        next(stream)
        next(stream)
        started = time.monotonic()
    assert time.monotonic() - started < 10
    assert multiprocessing.active_children() == []


@pytest.mark.durability
def test_killed_worker_is_reported() -> None:
    # A blocked worker, because one that is killed while it creates shared memory cannot free it.
    with data.prefetch(data.open_source("digits"), BlockingRows(), 1) as stream:
        next(stream)
        next(stream)
        (worker,) = multiprocessing.active_children()
        worker.kill()
        with pytest.raises(
            UserError, match="a worker that reads the examples ended with exit code -9"
        ):
            next(stream)
    assert multiprocessing.active_children() == []


@pytest.mark.durability
def test_workers_end_with_the_program() -> None:
    start_reader = functools.partial(
        subprocess.Popen,
        [sys.executable, "-m", "tests.data.test_prefetch"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with start_reader() as interrupted, start_reader() as killed:
        assert interrupted.stdout
        assert killed.stdout
        assert interrupted.stdout.readline() == killed.stdout.readline() == "reading\n"
        os.killpg(interrupted.pid, signal.SIGINT)  # Like Ctrl-C in a terminal.
        killed.kill()
        # The workers inherit the output pipes, which close only when the last worker has ended.
        out, err = interrupted.communicate(timeout=20)
        assert (interrupted.returncode, out, err) == (128 + signal.SIGINT, "", "")
        killed.communicate(timeout=20)


def _read_until_interrupted() -> None:
    """Reads until SIGINT, then exits like `main.py`, without Python's regular shutdown."""

    def raise_stopped(number: int, frame: FrameType | None) -> None:
        del frame
        raise Stopped("stopped", number)

    signal.signal(signal.SIGINT, raise_stopped)
    try:
        with data.prefetch(data.open_source("digits"), Rows(), 1) as stream:
            next(stream)
            print("reading", flush=True)
            while True:
                next(stream)
                time.sleep(0.1)
    except Stopped as stopped:
        os._exit(128 + stopped.signal_number)


if __name__ == "__main__":
    _read_until_interrupted()

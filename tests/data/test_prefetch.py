"""Streams of elements: in order, whole, and gone without a trace however they end."""

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
from tests.data.small_mnist import take_for_originals, write_originals
from tests.support.command_line import ROOT

LENGTH = 1000  # More elements than any test takes: the workers have always something to do.


class Rows:
    """Element k is row k, alone."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, number: int) -> npt.NDArray[np.int32]:
        assert "tensorflow" not in sys.modules  # Whichever process this is.
        return np.array([number], np.int32)


class Refusing(Rows):
    """Refuses the third element."""

    def __getitem__(self, number: int) -> npt.NDArray[np.int32]:
        if number == 2:
            raise UserError("given 2, allowed 0 and 1, take another")
        return super().__getitem__(number)


class Waiting(Rows):
    """Lets the third element wait until tomorrow."""

    def __getitem__(self, number: int) -> npt.NDArray[np.int32]:
        if number == 2:
            time.sleep(100_000)
        return super().__getitem__(number)


def wait_for_end_of_threads() -> None:
    """Grain does not wait for the thread that reads in this process; it ends with its element."""
    while any("prefetch" in thread.name for thread in threading.enumerate()):
        time.sleep(0.01)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_elements_come_in_order_whole_and_with_filler(
    num_workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_originals(tmp_path / "originals")
    take_for_originals(monkeypatch)
    folders = {"data_dir": str(tmp_path / "data"), "manual_dir": str(tmp_path / "originals")}
    dataset = data.load("mnist", **folders)  # type: ignore[arg-type]
    image = np.concatenate([dataset.train.image, dataset.test.image])
    label = np.concatenate([dataset.train.label, dataset.test.label])
    wanted = [
        np.array(rows, np.int32)
        for rows in ([[3, 39], [0, 3]], [[5, -1], [-1, -1]], [[-1, -1], [-1, -1]], 7, [8, 9, 10])
    ]
    source = data.open_source("mnist", **folders)  # type: ignore[arg-type]
    with data.prefetch(source, wanted, num_workers) as splits:
        found = list(splits)
    assert len(found) == len(wanted)
    for split, rows in zip(found, wanted, strict=True):
        assert type(split.image) is np.ndarray  # And none of the kind that shares memory.
        assert split.image.dtype == np.uint8
        assert split.label.dtype == np.int32
        assert split.image.shape == (*rows.shape, 28, 28, 1)
        real = rows >= 0
        np.testing.assert_array_equal(split.image[real], image[rows[real]])
        np.testing.assert_array_equal(split.label[real], label[rows[real]])
        assert not split.image[~real].any()
        assert (split.label[~real] == -1).all()
    assert multiprocessing.active_children() == []


def test_a_stream_of_nothing_ends_at_once() -> None:
    with data.prefetch(data.open_source("digits"), [], 2) as splits:
        assert list(splits) == []


@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_a_worker_refuses_is_said_here(num_workers: int) -> None:
    with data.prefetch(data.open_source("digits"), Refusing(), num_workers) as splits:
        next(splits)
        next(splits)
        with pytest.raises(UserError, match=r"^given 2, allowed 0 and 1, take another$"):
            next(splits)
    assert multiprocessing.active_children() == []
    wait_for_end_of_threads()


def test_a_stream_that_is_closed_early_reads_no_more() -> None:
    with data.prefetch(data.open_source("digits"), Rows(), 0) as splits:
        next(splits)
    assert list(splits) == []
    wait_for_end_of_threads()


@pytest.mark.durability
def test_closing_does_not_wait_for_a_worker_that_waits() -> None:
    with data.prefetch(data.open_source("digits"), Waiting(), 1) as splits:
        next(splits)
        next(splits)
        started = time.monotonic()
    assert time.monotonic() - started < 10
    assert multiprocessing.active_children() == []


@pytest.mark.durability
def test_a_worker_that_is_killed_is_said() -> None:
    # One that waits: killed while it makes shared memory it would leave that, as nothing can help.
    with data.prefetch(data.open_source("digits"), Waiting(), 1) as splits:
        next(splits)
        next(splits)
        (worker,) = multiprocessing.active_children()
        worker.kill()
        with pytest.raises(UserError, match="reads the examples ended with exit code -9"):
            next(splits)
    assert multiprocessing.active_children() == []


@pytest.mark.durability
def test_workers_end_with_the_program() -> None:
    start = functools.partial(
        subprocess.Popen,
        [sys.executable, "-m", "tests.data.test_prefetch"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with start() as interrupted, start() as killed:
        assert interrupted.stdout
        assert killed.stdout
        assert interrupted.stdout.readline() == killed.stdout.readline() == "reading\n"
        os.killpg(interrupted.pid, signal.SIGINT)  # As a terminal does.
        killed.kill()
        # The workers have the programs' outputs, which end with whoever has them last.
        out, err = interrupted.communicate(timeout=20)
        assert (interrupted.returncode, out, err) == (128 + signal.SIGINT, "", "")
        killed.communicate(timeout=20)


def _read_on() -> None:
    """Reads until it is interrupted, and ends as `main.py` does: without tidying up."""

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        raise Stopped("stopped", number)

    signal.signal(signal.SIGINT, stop)
    try:
        with data.prefetch(data.open_source("digits"), Rows(), 1) as splits:
            next(splits)
            print("reading", flush=True)
            while True:
                next(splits)
                time.sleep(0.1)
    except Stopped as stopped:
        os._exit(128 + stopped.number)


if __name__ == "__main__":
    _read_on()

"""Reads ahead: worker processes, or a thread, decode what is wanted next while the network trains.

Grain does the work. What stands here around it is for the ends: a stream that is closed, a program
that dies and a worker that is killed leave neither a process behind nor anybody who waits for ever.
"""

import contextlib
import fcntl
import functools
import gc
import multiprocessing
import os
import pickle
import re
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cnn_jax.data.source import Source
from cnn_jax.data.types import Examples
from cnn_jax.errors import UserError

# Those of `signals.py`: a terminal sends them to workers as well, but the program answers them.
_REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FILLER = -1
_PATIENCE_SECONDS = 0.1

Element = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]


class ElementIndices(Protocol):
    """What a stream is to read; can be pickled.

    Each element is an int32 array of any shape: indices of a `Source`, or -1 for filler.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> npt.NDArray[np.int32]: ...


@contextlib.contextmanager
def prefetch(
    source: Source, wanted: ElementIndices, num_workers: int, buffer_size: int = 2
) -> Iterator[Iterator[Examples]]:
    """Reads one element after the other, ahead of whoever takes them.

    Reading starts at once. Of n workers each reads every n-th element, in order.

    Args:
      source: where the examples are.
      wanted: which of them make up each element. A worker asks for its elements one by one, and
        has asked for at most `2 * buffer_size + 3` more than were taken from it. It may be let
        wait: a stream that is closed meanwhile interrupts it in a worker, but not in the thread of
        this process, and a program does not end before its threads.
      num_workers: number of processes that read; with 0 it is a thread of this process.
      buffer_size: how many elements a worker holds ready; as many again lie ready here.

    Yields:
      An iterator over as many Splits as `wanted` has elements, of which image is uint8
      [*shape, H, W, C], 0 at filler, and label int32 [*shape], -1 there. It raises UserError when
      records are missing or damaged, or when a worker was killed.
    """
    num_workers = min(num_workers, len(wanted))
    if num_workers == 0:
        source.open()  # Not in the thread: see there.
        plan = _thread_plan(_Elements(source, wanted, ""), buffer_size)
        with contextlib.closing(_Splits(plan)) as splits:
            splits.start()
            yield splits
        return
    with tempfile.NamedTemporaryFile(prefix="cnn_jax-stream-") as line:
        # Held as long as this process lives and wants the workers to go on: see `_attend`.
        fcntl.flock(line, fcntl.LOCK_EX)
        pickle.dump((source, wanted), line)
        line.flush()
        plan = _worker_plan(_Elements(source, wanted, line.name), num_workers, buffer_size)
        splits = _Splits(plan)
        try:
            with _requests_blocked():
                splits.start()
            yield splits
        finally:
            line.close()  # First, or Grain would wait until each worker has read one more element.
            splits.close()
            _let_go()


def _thread_plan(elements: "_Elements", buffer_size: int) -> Any:
    """What Grain is to do: read all elements in order, ahead in a thread."""
    import grain  # Takes a second, with the JAX and Orbax behind it.

    ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=buffer_size)
    return grain.MapDataset.source(elements).to_iter_dataset(ahead)


def _worker_plan(elements: "_Elements", num_workers: int, buffer_size: int) -> Any:
    """The same in processes."""
    import grain
    from absl import flags

    # Grain reads this flag, which absl refuses in a program that has not parsed any, as in a test.
    flags.FLAGS["grain_enable_multiprocess_worker_profiling"].present = 1
    # A worker reads in its main thread, which alone can be interrupted.
    at_once = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    workers = grain.MultiprocessingOptions(num_workers, per_worker_buffer_size=buffer_size)
    attend = functools.partial(_attend, elements.line)
    return grain.MapDataset.source(elements).to_iter_dataset(at_once).mp_prefetch(workers, attend)


class _Splits(Iterator[Examples]):
    """What Grain hands over, without the memory that it shares, which is to end with the stream."""

    def __init__(self, plan: Any) -> None:
        self._elements: Any = iter(plan)

    def start(self) -> None:
        """Starts to read."""
        # Makes Grain know all its workers now, which it would otherwise with the elements that are
        # taken; it ends only those that it knows.
        self._elements.get_state()
        self._elements.start_prefetch()

    def close(self) -> None:
        """Ends the workers, and holds on to nothing of Grain's."""
        elements, self._elements = self._elements, iter(())
        elements.close()

    def __next__(self) -> Examples:
        try:
            return _copied(next(self._elements))
        except StopIteration:
            raise
        except UserError as error:
            message = str(error)  # Without what Grain adds to it.
        except BaseException as error:
            ended = re.match(r"Worker process .* exit code (-?\d+)", str(error))
            if not ended:
                # Grain's frames would keep what it shares for as long as somebody keeps the error.
                error.add_note("".join(traceback.format_tb(error.__traceback__)))
                raise error.with_traceback(None) from None
            message = (
                f"a process that reads the examples ended with exit code {ended[1]}: allowed is "
                "that it runs on. If there was too little memory, make room for it."
            )
        raise UserError(message)


def _copied(element: Element) -> Examples:
    return Examples(*map(np.array, element))


def _let_go() -> None:
    """Gives back all shared memory and semaphores, of which Grain leaves some to chance."""
    from grain.multiprocessing import SharedMemoryArray

    gc.collect()  # Errors of workers hold in cycles what was at hand.
    # Memory is given back in a thread, one piece after the other: this waits for the last one.
    if thread := getattr(SharedMemoryArray, "_del_thread_pool", None):
        thread.apply(int)


@contextlib.contextmanager
def _requests_blocked() -> Iterator[None]:
    """Processes and threads that are started meanwhile are never going to see a request."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _REQUESTS)
    try:
        resource_tracker.ensure_running()  # It would start with the first worker, and unblock two.
        signal.pthread_sigmask(signal.SIG_BLOCK, _REQUESTS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Elements:
    """The elements of a stream, each read when it is asked for."""

    def __init__(self, source: Source, wanted: ElementIndices, line: str) -> None:
        """Elements that a worker finds in the file `line`; in a thread there is none."""
        self._source = source
        self._wanted = wanted
        self.line = line

    def __reduce__(self) -> tuple[Callable[[str], "_Elements"], tuple[str]]:
        # A worker finds the rest in the file. Through the pipe to a new process only little may
        # go, 64 KiB: if it ends unheard, Python would wait for ever for more to be taken.
        return _elements_in, (self.line,)

    def __len__(self) -> int:
        return len(self._wanted)

    def __getitem__(self, number: int) -> Element:
        if _line_is_cut:
            raise _Closed
        indices = self._wanted[number]
        image = np.zeros((*indices.shape, *self._source.image_shape), np.uint8)
        label = np.full(indices.shape, _FILLER, np.int32)
        real = indices != _FILLER
        found = self._source.read(indices[real])
        image[real], label[real] = found.image, found.label
        return image, label


# --- in a worker

_line_is_cut = False


def _elements_in(line: str) -> _Elements:
    with Path(line).open("rb") as file:
        source, wanted = pickle.load(file)
    return _Elements(source, wanted, line)


class _Closed(Exception):  # noqa: N818  # Nobody hears of it: there is no error.
    """Ends the reading of an element that nobody wants any more."""


def _attend(line: str, index: int, num_workers: int) -> None:
    """Makes this process end with the stream, or with the process that it reads for.

    Args:
      line: a file that is locked until then, so that both come to the same: the lock is gone.
      index: of the worker; not used.
      num_workers: not used.
    """
    del index, num_workers
    reader = threading.get_ident()
    signal.signal(signal.SIGUSR1, _leave)

    def wait() -> None:
        with contextlib.suppress(OSError), Path(line).open() as held:  # Or it is gone already.
            fcntl.flock(held, fcntl.LOCK_SH)
        parent = multiprocessing.parent_process()
        assert parent is not None
        # If only the stream was closed, Grain ends this process, and the thread with it.
        while parent.is_alive():
            # More than once, since a signal does not end a sleep that is only just to begin.
            signal.pthread_kill(reader, signal.SIGUSR1)
            parent.join(_PATIENCE_SECONDS)
        Path(line).unlink(missing_ok=True)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _leave(number: int, frame: FrameType | None) -> None:
    """Interrupts the reading of an element, but neither Grain nor an import, which would suffer.

    Raises:
      _Closed: there; elsewhere the next element raises it.
    """
    global _line_is_cut
    del number
    _line_is_cut = True
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        if frame.f_code is _Elements.__getitem__.__code__:
            raise _Closed
        frame = frame.f_back

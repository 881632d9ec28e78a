"""Reads examples ahead of time, in worker processes or a thread, while the model trains.

Grain runs the workers. The rest of this module makes them end cleanly: after a stream is closed,
the program dies, or a worker is killed, no process is left over and nobody waits forever.
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
from cnn_jax.io.signals import STOP_SIGNALS

_PADDING = -1
_SIGNAL_INTERVAL_SECONDS = 0.1

# Images and labels.
Element = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]


class ElementIndices(Protocol):
    """The sequence of elements that a stream reads; can be pickled.

    Each element is an int32 array of any shape: indices of a `Source`, or -1 for padding.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> npt.NDArray[np.int32]: ...


@contextlib.contextmanager
def prefetch(
    source: Source, element_indices: ElementIndices, num_workers: int, buffer_size: int = 2
) -> Iterator[Iterator[Examples]]:
    """Reads elements in order, ahead of the consumer.

    Reading starts at once. Of n workers, each reads every n-th element.

    Args:
      source: source of the examples.
      element_indices: indices of the examples of each element. Each worker gets its elements one by
        one, at most `2 * buffer_size + 3` of them ahead of the consumer. `__getitem__` may block:
        closing the stream interrupts it in a worker, but not in the thread of this process, and
        the program cannot end before that thread does.
      num_workers: number of worker processes; 0: read in a thread of this process.
      buffer_size: number of elements that each worker buffers; this process buffers as many more
        for each worker.

    Yields:
      An iterator over one `Examples` per element: image uint8 [*shape, H, W, C], 0 for padding,
      and label int32 [*shape], -1 for padding. It raises UserError if records are missing or
      damaged, or a worker was killed.
    """
    num_workers = min(num_workers, len(element_indices))
    if num_workers == 0:
        source.open()  # Not in the thread: it imports TFDS, see `Source.open`.
        plan = _thread_plan(_Elements(source, element_indices, ""), buffer_size)
        with contextlib.closing(_Stream(plan)) as stream:
            stream.start()
            yield stream
        return
    with tempfile.NamedTemporaryFile(prefix="cnn_jax-stream-") as lifeline:
        # Locked until this process closes the stream or dies: see `_watch_lifeline`.
        fcntl.flock(lifeline, fcntl.LOCK_EX)
        pickle.dump((source, element_indices), lifeline)
        lifeline.flush()
        elements = _Elements(source, element_indices, lifeline.name)
        stream = _Stream(_worker_plan(elements, num_workers, buffer_size))
        try:
            with _block_stop_signals():
                stream.start()
            yield stream
        finally:
            # Before the stream: else Grain would wait until each worker has read one more element.
            lifeline.close()
            stream.close()
            _release_shared_memory()


def _thread_plan(elements: "_Elements", buffer_size: int) -> Any:
    """Returns the Grain dataset that reads the elements in order, in a thread."""
    import grain  # Takes a second, because it imports JAX and Orbax.

    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=buffer_size)
    return grain.MapDataset.source(elements).to_iter_dataset(options)


def _worker_plan(elements: "_Elements", num_workers: int, buffer_size: int) -> Any:
    """Returns the Grain dataset that reads the elements in order, in worker processes."""
    import grain
    from absl import flags

    # Grain reads this flag, and absl raises an error if no flags were parsed, as in a test.
    flags.FLAGS["grain_enable_multiprocess_worker_profiling"].present = 1
    # Workers read in their main thread, because a signal can interrupt no other thread.
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    workers = grain.MultiprocessingOptions(num_workers, per_worker_buffer_size=buffer_size)
    on_start = functools.partial(_watch_lifeline, elements.lifeline)
    return grain.MapDataset.source(elements).to_iter_dataset(options).mp_prefetch(workers, on_start)


class _Stream(Iterator[Examples]):
    """Iterator over the elements that Grain reads.

    It copies each element out of the memory that Grain shares with the workers, because that memory
    is freed when the stream is closed.
    """

    def __init__(self, plan: Any) -> None:
        self._elements: Any = iter(plan)

    def start(self) -> None:
        """Starts reading."""
        # `get_state` makes Grain register all its workers now, and not at their first element;
        # `close` ends only registered workers.
        self._elements.get_state()
        self._elements.start_prefetch()

    def close(self) -> None:
        """Ends the workers and drops all references to objects of Grain."""
        elements, self._elements = self._elements, iter(())
        elements.close()

    def __next__(self) -> Examples:
        try:
            return _copy(next(self._elements))
        except StopIteration:
            raise
        except UserError as error:
            message = str(error)  # Drops the traceback, which refers to objects of Grain.
        except BaseException as error:
            ended = re.match(r"Worker process .* exit code (-?\d+)", str(error))
            if not ended:
                # The frames of the traceback would keep shared memory alive as long as the error.
                error.add_note("".join(traceback.format_tb(error.__traceback__)))
                raise error.with_traceback(None) from None
            message = (
                f"a worker that reads the examples ended with exit code {ended[1]}: it must run "
                "until the end of the training. If memory was short, free some, and start again."
            )
        raise UserError(message)


def _copy(element: Element) -> Examples:
    return Examples(*map(np.array, element))


def _release_shared_memory() -> None:
    """Frees the shared memory and semaphores that Grain would free at an unknown later time."""
    from grain.multiprocessing import SharedMemoryArray

    gc.collect()  # Errors from workers are in reference cycles with the arrays.
    # Grain frees memory in a thread, in order: this waits until all earlier tasks are done.
    if thread := getattr(SharedMemoryArray, "_del_thread_pool", None):
        thread.apply(int)


@contextlib.contextmanager
def _block_stop_signals() -> Iterator[None]:
    """Blocks stop signals, also in the processes and threads that are started in the context.

    A terminal sends these signals to the workers as well, but only this process must handle them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        # Started here, because starting it with the first worker would unblock two signals.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Elements:
    """Sequence of elements, each of which is read when it is indexed.

    Attributes:
      lifeline: file that holds the pickled source and indices, and whose lock tells a worker that
        the stream is open; empty if a thread reads.
    """

    def __init__(self, source: Source, element_indices: ElementIndices, lifeline: str) -> None:
        self._source = source
        self._element_indices = element_indices
        self.lifeline = lifeline

    def __reduce__(self) -> tuple[Callable[[str], "_Elements"], tuple[str]]:
        # A new process receives only the file's name through its pipe. Pipes buffer 64 KiB: if the
        # process died before it read a larger message, Python would wait forever.
        return _load_elements, (self.lifeline,)

    def __len__(self) -> int:
        return len(self._element_indices)

    def __getitem__(self, number: int) -> Element:
        if _is_closed:
            raise _StreamClosed
        indices = self._element_indices[number]
        image = np.zeros((*indices.shape, *self._source.image_shape), np.uint8)
        label = np.full(indices.shape, _PADDING, np.int32)
        mask = indices != _PADDING
        examples = self._source.read(indices[mask])
        image[mask], label[mask] = examples.image, examples.label
        return image, label


# --- The following runs in workers.

_is_closed = False


def _load_elements(lifeline: str) -> _Elements:
    with Path(lifeline).open("rb") as file:
        source, element_indices = pickle.load(file)
    return _Elements(source, element_indices, lifeline)


class _StreamClosed(Exception):  # noqa: N818  # Not an error, and nobody receives it.
    """Interrupts the reading of an element after the stream was closed."""


def _watch_lifeline(lifeline: str, worker_index: int, num_workers: int) -> None:
    """Makes this worker end when the stream is closed or the main process dies.

    Starts a thread that waits until the main process no longer locks the file. Both events release
    the lock.

    Args:
      lifeline: file that the main process has locked.
      worker_index: ignored; Grain passes it.
      num_workers: ignored; Grain passes it.
    """
    del worker_index, num_workers
    main_thread = threading.get_ident()
    signal.signal(signal.SIGUSR1, _interrupt_read)

    def wait() -> None:
        with contextlib.suppress(OSError), Path(lifeline).open() as file:  # Or it is deleted.
            fcntl.flock(file, fcntl.LOCK_SH)
        parent = multiprocessing.parent_process()
        assert parent is not None
        # If the stream was closed, Grain ends this process, and with it this thread.
        while parent.is_alive():
            # Repeatedly: a signal that arrives just before a sleep starts does not interrupt it.
            signal.pthread_kill(main_thread, signal.SIGUSR1)
            parent.join(_SIGNAL_INTERVAL_SECONDS)
        Path(lifeline).unlink(missing_ok=True)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _interrupt_read(signal_number: int, frame: FrameType | None) -> None:
    """Signal handler that interrupts the reading of an element.

    It interrupts neither an import nor code of Grain, which an exception could leave in an
    inconsistent state; then the next element raises the exception.

    Raises:
      _StreamClosed: if an element is being read.
    """
    global _is_closed
    del signal_number
    _is_closed = True
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        if frame.f_code is _Elements.__getitem__.__code__:
            raise _StreamClosed
        frame = frame.f_back

"""The worker processes that read the elements of a stream.

Grain runs them. This module makes them end cleanly: after a stream is closed, the program dies, or
a worker is killed, no process is left over and nobody waits forever. That takes Unix's locks and
signals, so this module is imported only where workers are used.
"""

import contextlib
import fcntl
import functools
import gc
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType
from typing import Any

from cnn_jax.data.source import Source
from cnn_jax.data.stream import Element, ElementIndices, Elements, Stream
from cnn_jax.io.signals import STOP_SIGNALS

assert sys.platform != "win32"  # For `mypy --platform win32`.

_SIGNAL_INTERVAL_SECONDS = 0.1


@contextlib.contextmanager
def read_in_workers(
    source: Source, element_indices: ElementIndices, num_workers: int, buffer_size: int
) -> Iterator[Stream]:
    """Opens a stream that worker processes read; the arguments are those of `prefetch`."""
    with tempfile.NamedTemporaryFile(prefix="cnn_jax-stream-") as lifeline:
        # Locked until this process closes the stream or dies: see `_watch_lifeline`.
        fcntl.flock(lifeline, fcntl.LOCK_EX)
        pickle.dump((source, element_indices), lifeline)
        lifeline.flush()
        elements = _WorkerElements(source, element_indices, lifeline.name)
        stream = Stream(_worker_plan(elements, num_workers, buffer_size))
        try:
            with _block_stop_signals():
                stream.start()
            yield stream
        finally:
            # Before the stream: else Grain would wait until each worker has read one more element.
            lifeline.close()
            stream.close()
            _release_shared_memory()


def _worker_plan(elements: "_WorkerElements", num_workers: int, buffer_size: int) -> Any:
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


class _WorkerElements(Elements):
    """Elements that a worker reads until the stream is closed.

    Attributes:
      lifeline: file that holds the pickled source and indices, and whose lock tells a worker that
        the stream is open.
    """

    def __init__(self, source: Source, element_indices: ElementIndices, lifeline: str) -> None:
        super().__init__(source, element_indices)
        self.lifeline = lifeline

    def __reduce__(self) -> tuple[Callable[[str], "_WorkerElements"], tuple[str]]:
        # A new process receives only the file's name through its pipe. Pipes buffer 64 KiB: if the
        # process died before it read a larger message, Python would wait forever.
        return _load_elements, (self.lifeline,)

    def __getitem__(self, number: int) -> Element:
        if _is_closed:
            raise _StreamClosed
        return super().__getitem__(number)


# --- The following runs in workers.

_is_closed = False


def _load_elements(lifeline: str) -> _WorkerElements:
    with Path(lifeline).open("rb") as file:
        source, element_indices = pickle.load(file)
    return _WorkerElements(source, element_indices, lifeline)


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
        with contextlib.suppress(OSError), Path(lifeline).open("rb") as file:  # Or it is deleted.
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
        if frame.f_code is _WorkerElements.__getitem__.__code__:
            raise _StreamClosed
        frame = frame.f_back

"""Reads many pictures in several processes.

Most of the work is in small steps, between which Python runs: threads of one process, of which one
runs Python at a time, take longer than a single thread.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from cnn_jax.errors import UserError
from cnn_jax.io.signals import STOP_SIGNALS

_MIN_CHUNKS = 2  # Fewer are read sooner than processes start.
_MAX_PROCESSES = 8  # Each takes 100 MB, and more for a picture of a hundred megapixels.

Item = TypeVar("Item")
Read = TypeVar("Read")


def read_chunks(
    read: Callable[[Sequence[Item]], Read], items: Sequence[Item], chunk_size: int, advice: str
) -> Iterator[tuple[Sequence[Item], Read]]:
    """Yields pictures, a chunk at a time, and what was read from them, in order.

    Args:
      read: reads pictures, such as a `functools.partial` of `read_photos`; must be picklable.
      items: pages, paths or other names of the pictures.
      chunk_size: pictures that a process reads at a time: they should take half a second.
      advice: what to do where memory is short, for the message.

    Raises:
      UserError: when the system has killed one of the processes.
    """
    chunks = [items[start : start + chunk_size] for start in range(0, len(items), chunk_size)]
    num_processes = min(os.cpu_count() or 1, _MAX_PROCESSES, len(chunks))
    if len(items) < _MIN_CHUNKS * chunk_size or num_processes == 1:
        for chunk in chunks:
            yield chunk, read(chunk)
        return
    pool = ProcessPoolExecutor(
        num_processes, multiprocessing.get_context("spawn"), _leave_signals_to_parent
    )
    reading: deque[tuple[Sequence[Item], Future[Read]]] = deque()
    try:
        for chunk in chunks:
            reading.append((chunk, pool.submit(read, chunk)))
            if len(reading) > 2 * num_processes:  # Results that are not yet used take memory.
                done, result = reading.popleft()
                yield done, result.result()
        for done, result in reading:
            yield done, result.result()
    except BrokenProcessPool as error:
        raise UserError(
            "cannot read the pictures: the system has killed a process that reads them, perhaps "
            f"for lack of memory. {advice}"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_signals_to_parent() -> None:
    """Makes this process ignore the signals that stop its parent, and end with it."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)  # It was killed: else this process would wait for work forever.

    threading.Thread(target=wait, daemon=True).start()

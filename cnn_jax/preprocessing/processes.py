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

from cnn_jax.errors import UserError
from cnn_jax.io.signals import STOP_SIGNALS
from cnn_jax.preprocessing.decode import PhotoError
from cnn_jax.preprocessing.pages import Page
from cnn_jax.preprocessing.photo import Photo

_CHUNK_SIZE = 50  # Pages that a process reads at a time: half a second.
_MIN_PAGES = 100  # Fewer are read sooner than processes start.
_MAX_PROCESSES = 8  # Each takes 100 MB, and more for a picture of a hundred megapixels.

Photos = list[Photo | PhotoError]


def read_chunks(
    read: Callable[[Sequence[Page]], Photos], pages: Sequence[Page]
) -> Iterator[tuple[Sequence[Page], Photos]]:
    """Yields pages, a chunk at a time, and their photos, in order.

    Args:
      read: reads pages, such as a `functools.partial` of `read_photos`; must be picklable.
      pages: to read.

    Raises:
      UserError: when the system has killed one of the processes.
    """
    chunks = [pages[start : start + _CHUNK_SIZE] for start in range(0, len(pages), _CHUNK_SIZE)]
    num_processes = min(os.cpu_count() or 1, _MAX_PROCESSES, len(chunks))
    if len(pages) < _MIN_PAGES or num_processes == 1:
        for chunk in chunks:
            yield chunk, read(chunk)
        return
    pool = ProcessPoolExecutor(
        num_processes, multiprocessing.get_context("spawn"), _leave_signals_to_parent
    )
    reading: deque[tuple[Sequence[Page], Future[Photos]]] = deque()
    try:
        for chunk in chunks:
            reading.append((chunk, pool.submit(read, chunk)))
            if len(reading) > 2 * num_processes:  # Photos that are not yet used take memory.
                done, photos = reading.popleft()
                yield done, photos.result()
        for done, photos in reading:
            yield done, photos.result()
    except BrokenProcessPool as error:
        raise UserError(
            "cannot read the pictures: the system has killed a process that reads them, perhaps "
            "for lack of memory. Give --images fewer or smaller pictures at a time."
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

"""Reads examples ahead of time, in worker processes or a thread, while the model trains."""

import contextlib
import fcntl
import pickle
import tempfile
from collections.abc import Iterator
from typing import Any

from cnn_jax.data.source import Source
from cnn_jax.data.stream import ElementIndices, Stream
from cnn_jax.data.types import Examples
from cnn_jax.data.worker_processes import (
    Elements,
    block_stop_signals,
    release_shared_memory,
    worker_plan,
)


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
        plan = _thread_plan(Elements(source, element_indices, ""), buffer_size)
        with contextlib.closing(Stream(plan)) as stream:
            stream.start()
            yield stream
        return
    with tempfile.NamedTemporaryFile(prefix="cnn_jax-stream-") as lifeline:
        # Locked until this process closes the stream or dies: see `_watch_lifeline`.
        fcntl.flock(lifeline, fcntl.LOCK_EX)
        pickle.dump((source, element_indices), lifeline)
        lifeline.flush()
        elements = Elements(source, element_indices, lifeline.name)
        stream = Stream(worker_plan(elements, num_workers, buffer_size))
        try:
            with block_stop_signals():
                stream.start()
            yield stream
        finally:
            # Before the stream: else Grain would wait until each worker has read one more element.
            lifeline.close()
            stream.close()
            release_shared_memory()


def _thread_plan(elements: Elements, buffer_size: int) -> Any:
    """Returns the Grain dataset that reads the elements in order, in a thread."""
    import grain  # Takes a second, because it imports JAX and Orbax.

    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=buffer_size)
    return grain.MapDataset.source(elements).to_iter_dataset(options)

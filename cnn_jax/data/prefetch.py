"""Reads examples ahead of time, in worker processes or a thread, while the model trains."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from cnn_jax.data.source import Source
from cnn_jax.data.stream import ElementIndices, Elements, Stream
from cnn_jax.data.types import Examples

_BUFFER_SIZE = 2
# Of one worker, in the memory that processes share.
MAX_ELEMENTS_AHEAD = 2 * _BUFFER_SIZE + 3


@contextlib.contextmanager
def prefetch(
    source: Source,
    element_indices: ElementIndices,
    num_workers: int,
    buffer_size: int = _BUFFER_SIZE,
) -> Iterator[Iterator[Examples]]:
    """Reads elements in order, ahead of the consumer.

    Reading starts at once. Of n workers, each reads every n-th element.

    Args:
      source: source of the examples.
      element_indices: indices of the examples of each element. Each worker gets its elements one by
        one, at most `2 * buffer_size + 3` of them ahead of the consumer. `__getitem__` may block:
        closing the stream interrupts it in a worker, but not in the thread of this process, and
        the program cannot end before that thread does.
      num_workers: number of worker processes. 0, or a platform without Unix's locks and signals:
        a thread of this process reads the same elements.
      buffer_size: number of elements that each worker buffers; this process buffers as many more
        for each worker.

    Yields:
      An iterator over one `Examples` per element: image uint8 [*shape, H, W, C], 0 for padding,
      and label int32 [*shape], -1 for padding. It raises UserError if records are missing or
      damaged, or a worker was killed.
    """
    num_workers = min(num_workers, len(element_indices))
    # `mypy --platform win32` needs the second condition; the third implies it.
    if num_workers and sys.platform != "win32" and _can_end_workers():
        from cnn_jax.data.worker_processes import read_in_workers

        reading = read_in_workers(source, element_indices, num_workers, buffer_size)
    else:
        reading = _read_in_thread(source, element_indices, buffer_size)
    with reading as stream:
        yield stream


def _can_end_workers() -> bool:
    """Returns whether this platform has what `worker_processes` needs. Windows does not."""
    signals = ("SIGUSR1", "pthread_kill", "pthread_sigmask")
    return find_spec("fcntl") is not None and all(hasattr(signal, name) for name in signals)


@contextlib.contextmanager
def _read_in_thread(
    source: Source, element_indices: ElementIndices, buffer_size: int
) -> Iterator[Stream]:
    """Opens a stream that a thread of this process reads; the arguments are those of `prefetch`."""
    import grain  # Takes a second, because it imports JAX and Orbax.

    source.open()  # Not in the thread: it imports TFDS, see `Source.open`.
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=buffer_size)
    elements = Elements(source, element_indices)
    plan = grain.MapDataset.source(elements).to_iter_dataset(options)
    with contextlib.closing(Stream(plan)) as stream:
        stream.start()
        yield stream

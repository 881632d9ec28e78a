"""Splits long work into chunks of about a second, so that a stop request is seen soon."""

from collections.abc import Callable, Iterator

SECONDS = 1.0


class ChunkTimer:
    """Chooses the size of each chunk from the measured time of the chunk before."""

    def __init__(
        self, clock: Callable[[], float], agree: Callable[[int], int] = lambda size: size
    ) -> None:
        """Starts with the smallest chunk.

        Args:
          clock: returns the time in seconds.
          agree: proposed size -> size to use, the same in all processes that work together.
        """
        self._clock, self._agree = clock, agree
        self._size = 1  # Units per chunk. The first chunk measures how long a unit takes.

    def chunks(self, start: int, stop: int, unit: int = 1) -> Iterator[tuple[int, int]]:
        """Splits a range into chunks, and measures the time until the next one is requested.

        Args:
          start: start of the range.
          stop: end of the range, exclusive.
          unit: all chunks but the last are a multiple of it.

        Yields:
          (start, stop) of each chunk.
        """
        while start < stop:
            end = min(stop, start + self._size * unit)
            began = self._clock()
            yield start, end
            seconds = (self._clock() - began) / ((end - start) / unit)
            self._size = self._agree(max(1, int(SECONDS / max(seconds, 1e-9))))
            start = end

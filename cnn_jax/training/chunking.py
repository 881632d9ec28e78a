"""Cuts long work into calls of about a second, so that a request to end is soon seen."""

from collections.abc import Callable, Iterator

SECONDS = 1.0


class ChunkTimer:
    """How much work a call may be given, learnt from the calls before."""

    def __init__(
        self, clock: Callable[[], float], agree: Callable[[int], int] = lambda size: size
    ) -> None:
        """Begins with the smallest piece.

        Args:
          clock: seconds as a function of nothing.
          agree: a size -> the one to take, the same in all processes that work together.
        """
        self._clock, self._agree = clock, agree
        self._size = 1  # Units a call. The first one finds out how long a unit takes.

    def chunks(self, start: int, stop: int, unit: int = 1) -> Iterator[tuple[int, int]]:
        """Cuts a range into pieces, and takes the time until the next one is asked for.

        Args:
          start: of the range.
          stop: one after its last.
          unit: the smallest piece; all but the last are multiples of it.

        Yields:
          The start of each piece, and one after its last.
        """
        while start < stop:
            end = min(stop, start + self._size * unit)
            began = self._clock()
            yield start, end
            seconds = (self._clock() - began) / ((end - start) / unit)
            self._size = self._agree(max(1, int(SECONDS / max(seconds, 1e-9))))
            start = end

"""The elements of a stream, read by a thread or by worker processes."""

import re
import traceback
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cnn_jax.data.source import Source
from cnn_jax.data.types import Examples
from cnn_jax.errors import UserError

_PADDING = -1

# Images and labels.
Element = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]


class ElementIndices(Protocol):
    """The sequence of elements that a stream reads; can be pickled.

    Each element is an int32 array of any shape: indices of a `Source`, or -1 for padding.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> npt.NDArray[np.int32]: ...


class Elements:
    """Sequence of elements, each of which is read when it is indexed."""

    def __init__(self, source: Source, element_indices: ElementIndices) -> None:
        self._source = source
        self._element_indices = element_indices

    def __len__(self) -> int:
        return len(self._element_indices)

    def __getitem__(self, number: int) -> Element:
        indices = self._element_indices[number]
        image = np.zeros((*indices.shape, *self._source.image_shape), np.uint8)
        label = np.full(indices.shape, _PADDING, np.int32)
        mask = indices != _PADDING
        examples = self._source.read(indices[mask])
        image[mask], label[mask] = examples.image, examples.label
        return image, label


class Stream(Iterator[Examples]):
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

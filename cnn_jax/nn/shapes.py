"""The settings of a stage, and the arithmetic of padding and output sizes."""

import dataclasses
from collections.abc import Sequence

POOL_SIZE = 2  # Pooling windows are 2x2 and do not overlap.


def padding_amounts(padding: str, kernel_size: int) -> tuple[int, int]:
    """Returns the zeros (before, after) that are added to the rows and to the columns of an image.

    They depend on the kernel alone, not on the stride: a stride only skips some of the positions
    that stride 1 visits.

    Args:
      padding: `VALID` adds none. `SAME` keeps the size at stride 1; an even kernel needs an odd
        number of zeros and puts the extra one at the end. Unlike in `jax.lax`, they are the same at
        other strides. `FULL` adds kernel_size - 1 on each side, so that every position where kernel
        and image overlap gives an output.
      kernel_size: height and width of the kernel.

    Raises:
      ValueError: for any other padding.
    """
    if padding == "VALID":
        return 0, 0
    if padding == "SAME":
        return (kernel_size - 1) // 2, kernel_size // 2
    if padding == "FULL":
        return kernel_size - 1, kernel_size - 1
    raise ValueError(f"padding={padding!r} is invalid: it must be VALID, SAME or FULL.")


def output_size(size: int, window: int, padding: tuple[int, int], stride: int) -> int:
    """Returns (size - window + before + after) / stride + 1, rounded down.

    The result is 0 or negative where the window does not fit into the padded input.

    Args:
      size: height or width of the input, in pixels.
      window: height or width of the kernel or pooling window.
      padding: zeros (before, after).
      stride: step of the window.
    """
    return (size - window + sum(padding)) // stride + 1


@dataclasses.dataclass(frozen=True)
class Stage:
    """Settings of convolution, activation and pooling that all stages of a model share.

    Attributes:
      kernel_size: height and width of the kernel.
      strides: step of the convolution in both directions.
      padding: `VALID`, `SAME` or `FULL`, defined in `padding_amounts`.
      activation: `relu`, `leaky_relu` or `sigmoid`.
      pool: `max`, `avg` (windows of 2x2) or `none`.
    """

    kernel_size: int
    strides: int
    padding: str
    activation: str
    pool: str

    @property
    def pads(self) -> tuple[int, int]:
        """The zeros (before, after) that are added to the rows and to the columns."""
        return padding_amounts(self.padding, self.kernel_size)


def convolutions(
    features: Sequence[int], stage_sizes: Sequence[int], stage: Stage
) -> list[tuple[int, Stage]]:
    """Returns the number of filters and the settings of each convolution of a model, in order.

    A stage of several convolutions becomes as many stages of one. Each has the activation, only the
    first has the strides, and only the last has the pooling.

    Args:
      features: number of filters of each stage.
      stage_sizes: number of convolutions of each stage; (1,) stands for one in every stage.
      stage: settings that all stages share.

    Raises:
      ValueError: for another number of stage sizes than of stages.
    """
    sizes = tuple(stage_sizes)
    if sizes == (1,):
        sizes *= len(features)
    result = []
    for filters, size in zip(features, sizes, strict=True):
        for index in range(size):
            strides = stage.strides if index == 0 else 1
            pool = stage.pool if index == size - 1 else "none"
            result.append((filters, dataclasses.replace(stage, strides=strides, pool=pool)))
    return result

"""What each layer does to the shape of its input: sizes, parameters, work, receptive field.

Plain arithmetic on the host, without JAX: it serves the check of a config before anything is
traced, and the table of `describe.py`.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from cnn_jax.errors import UserError

POOL_SIZE = 2  # Pooling windows are 2x2 and do not overlap.


def padding_amounts(padding: str, kernel_size: int) -> tuple[int, int]:
    """Zeros added before and after each side of an image.

    They depend on the kernel alone, not on the stride, so that a stride only thins out the
    positions that stride 1 would visit.

    Args:
      padding: `VALID` adds none; `SAME` keeps the size at stride 1 (an even kernel puts the odd
        zero at the end); `FULL` adds zeros until every overlap with the image counts.
      kernel_size: height and width of the kernel.

    Returns:
      The numbers of zeros (before, after).
    """
    if padding == "VALID":
        return 0, 0
    if padding == "SAME":
        return (kernel_size - 1) // 2, kernel_size // 2
    if padding == "FULL":
        return kernel_size - 1, kernel_size - 1
    raise ValueError(f"padding={padding!r}: allowed are VALID, SAME and FULL")


def output_size(size: int, window: int, padding: tuple[int, int], stride: int) -> int:
    """(w - k + p_before + p_after) / s + 1, rounded down; 0 or less means nothing is left."""
    return (size - window + sum(padding)) // stride + 1


@dataclasses.dataclass(frozen=True)
class Layer:
    """One row of the table of layers.

    Attributes:
      name: as in the parameter tree where the layer has parameters.
      output_shape: (height, width, channels) of a feature map, or (classes,).
      arithmetic: how the output size follows from the input size, as text.
      num_parameters: weights and biases.
      multiply_adds: multiply-accumulate operations for one image, forward pass.
      receptive_field: (height, width) in pixels of the image that one output value depends on.
      field_start: the row, and the column, where the field of a map's first value begins; negative
        where padding puts it outside the image.
      jump: pixels between the fields of two neighbouring values.
    """

    name: str
    output_shape: tuple[int, ...]
    arithmetic: str
    num_parameters: int
    multiply_adds: int
    receptive_field: tuple[int, int]
    field_start: int = 0
    jump: int = 1

    def field_of(self, row: int, column: int) -> tuple[range, range]:
        """The rows and the columns of the image that one value of a map depends on.

        Those outside the image are zeros of the padding.
        """
        top, left = (self.field_start + place * self.jump for place in (row, column))
        height, width = self.receptive_field
        return range(top, top + height), range(left, left + width)


def walk_layers(
    image_shape: Sequence[int],
    num_classes: int,
    *,
    features: Sequence[int],
    kernel_size: int,
    strides: int,
    padding: str,
    activation: str,
    pool: str,
) -> Iterator[Layer]:
    """Yields the layers from the image to the logits.

    Args:
      image_shape: (height, width, channels).
      num_classes: number of logits.
      features: number of filters of each convolution stage.
      kernel_size: height and width of each convolution kernel.
      strides: step of the convolutions in both directions.
      padding: see `padding_amounts`.
      activation: name of the activation, for the row's name.
      pool: `max`, `avg` or `none`.

    Raises:
      UserError: at the first layer that leaves nothing of its input.
    """
    height, width, channels = image_shape
    pads = padding_amounts(padding, kernel_size)
    # Receptive field of one value, where that of the first one begins, and pixels between two.
    field, start, jump = 1, 0, 1
    yield Layer("image", (height, width, channels), "", 0, 0, (1, 1))
    for stage, filters in enumerate(features, start=1):
        given = (height, width)
        height, width = (output_size(size, kernel_size, pads, strides) for size in given)
        name = f"conv_{stage}"
        if min(height, width) < 1:
            # Only without padding: SAME and FULL add at least kernel_size - 1 zeros.
            raise UserError(
                f"model.kernel_size={kernel_size} leaves nothing after {name}: its input is "
                f"{given[0]}x{given[1]} ({padding} padding). "
                f"Use a kernel of at most {min(given)}, or model.padding=SAME."
            )
        field += (kernel_size - 1) * jump
        start -= pads[0] * jump
        jump *= strides
        fields = (field, field), start, jump
        weights = kernel_size * kernel_size * channels * filters
        yield Layer(
            name,
            (height, width, filters),
            _size_arithmetic(given, (height, width), kernel_size, pads, strides),
            weights + filters,
            weights * height * width,
            *fields,
        )
        channels = filters
        yield Layer(f"{activation}_{stage}", (height, width, channels), "each value", 0, 0, *fields)
        if pool == "none":
            continue
        given = (height, width)
        height, width = (output_size(size, POOL_SIZE, (0, 0), POOL_SIZE) for size in given)
        name = f"pool_{stage}"
        if min(height, width) < 1:
            raise UserError(
                f"model.pool={pool} leaves nothing after {name}: its input is "
                f"{given[0]}x{given[1]} and its window 2x2. "
                "Use fewer stages in model.features, smaller model.kernel_size or model.strides, "
                "or model.pool=none."
            )
        field += (POOL_SIZE - 1) * jump
        jump *= POOL_SIZE
        yield Layer(
            name,
            (height, width, channels),
            _size_arithmetic(given, (height, width), POOL_SIZE, (0, 0), POOL_SIZE),
            0,
            0,
            *((field, field), start, jump),
        )
    inputs = height * width * channels
    yield Layer(
        "linear_1",
        (num_classes,),
        f"{height} * {width} * {channels} = {inputs} inputs",
        inputs * num_classes + num_classes,
        inputs * num_classes,
        (image_shape[0], image_shape[1]),
    )


def _size_arithmetic(
    given: tuple[int, int], result: tuple[int, int], window: int, pads: tuple[int, int], stride: int
) -> str:
    """The size formula with its numbers, once for square maps, else for height and width."""
    before, after = pads
    padding = f"2*{before}" if before == after else f"{before} + {after}"
    sides = list(zip(given, result, strict=True))
    return ", ".join(
        f"({w} - {window} + {padding})/{stride} + 1 = {out}" for w, out in dict.fromkeys(sides)
    )

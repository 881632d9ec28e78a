"""The table of the layers: sizes, parameter counts, multiply-adds, receptive fields.

Plain Python without JAX: the config check and `--mode=describe` need it before anything is traced.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator

from cnn_jax.errors import UserError
from cnn_jax.nn.shapes import POOL_SIZE, Stage, output_size
from cnn_jax.wording import pluralize


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of the model, a row of the table that `--mode=describe` prints.

    Attributes:
      name: key in the parameter tree for layers with parameters; unique in any case.
      output_shape: (height, width, channels) of a feature map, or (classes,).
      arithmetic: the computation of the output size, as text.
      kernel_shape: shape of the weights, (k, k, in, out) or (inputs, classes); () for a layer
        without parameters. The bias has the shape of the last axis.
      multiply_adds: multiply-accumulate operations of the forward pass for one image.
      receptive_field: (height, width) in pixels of the image region that one output value sees.
      field_start: row and column where the receptive field of the map's first value begins;
        negative where it begins in the padding.
      jump: distance in pixels between the receptive fields of two neighbouring values.
    """

    name: str
    output_shape: tuple[int, ...]
    arithmetic: str
    kernel_shape: tuple[int, ...]
    multiply_adds: int
    receptive_field: tuple[int, int]
    field_start: int = 0
    jump: int = 1

    @property
    def num_parameters(self) -> int:
        """The number of weights and biases."""
        return math.prod(self.kernel_shape) + self.kernel_shape[-1] if self.kernel_shape else 0

    def receptive_field_at(self, row: int, column: int) -> tuple[range, range]:
        """Returns the rows and columns of the image that the value at (row, column) sees.

        Rows and columns outside the image are zeros of the padding.
        """
        top, left = (self.field_start + index * self.jump for index in (row, column))
        height, width = self.receptive_field
        return range(top, top + height), range(left, left + width)


@dataclasses.dataclass(frozen=True)
class _Geometry:
    """Size of a feature map and receptive fields of its values, in pixels of the image.

    Attributes:
      size: (height, width) of the map.
      arithmetic: the computation of the size, as text.
      field: side of the receptive field of one value.
      start: row and column where the receptive field of the first value begins.
      jump: distance between the receptive fields of two neighbouring values.
    """

    size: tuple[int, int]
    arithmetic: str = ""
    field: int = 1
    start: int = 0
    jump: int = 1

    def after(self, window: int, stride: int, pads: tuple[int, int]) -> "_Geometry":
        """Returns the geometry behind a convolution or pooling with these window, stride, pads."""
        height, width = (output_size(side, window, pads, stride) for side in self.size)
        return _Geometry(
            (height, width),
            _size_arithmetic(self.size, (height, width), window, pads, stride),
            self.field + (window - 1) * self.jump,
            self.start - pads[0] * self.jump,
            self.jump * stride,
        )

    def layer(self, name: str, channels: int, kernel_shape: tuple[int, ...] = ()) -> Layer:
        """Returns the layer whose output has this geometry.

        Args:
          name: name of the layer.
          channels: channels of the output.
          kernel_shape: of the weights, each used once per output position; () for none.
        """
        height, width = self.size
        return Layer(
            name,
            (height, width, channels),
            self.arithmetic,
            kernel_shape,
            multiply_adds=math.prod(kernel_shape) * height * width if kernel_shape else 0,
            receptive_field=(self.field, self.field),
            field_start=self.start,
            jump=self.jump,
        )


def walk_layers(
    image_shape: tuple[int, int, int], num_classes: int, convolutions: Iterable[tuple[int, Stage]]
) -> Iterator[Layer]:
    """Yields the layers from the image to the logits.

    Args:
      image_shape: (height, width, channels).
      num_classes: number of logits.
      convolutions: filters and settings of each convolution, from `shapes.convolutions`.

    Raises:
      UserError: at the first layer whose window is larger than its input.
    """
    height, width, channels = image_shape
    geometry = _Geometry((height, width))
    yield geometry.layer("image", channels)
    for number, (filters, stage) in enumerate(convolutions, start=1):
        before, geometry = geometry, geometry.after(stage.kernel_size, stage.strides, stage.pads)
        if min(geometry.size) < 1:
            raise _kernel_too_large(stage, f"conv_{number}", before.size)
        kernel_shape = (stage.kernel_size, stage.kernel_size, channels, filters)
        channels = filters
        yield geometry.layer(f"conv_{number}", channels, kernel_shape)
        activated = dataclasses.replace(geometry, arithmetic="each value")
        yield activated.layer(f"{stage.activation}_{number}", channels)
        if stage.pool != "none":
            before, geometry = geometry, geometry.after(POOL_SIZE, POOL_SIZE, (0, 0))
            if min(geometry.size) < 1:
                raise _pool_too_large(stage, f"pool_{number}", before.size)
            yield geometry.layer(f"pool_{number}", channels)
    yield _linear_layer(geometry, channels, num_classes, (height, width))


def _kernel_too_large(stage: Stage, name: str, size: tuple[int, int]) -> UserError:
    # Only with VALID: SAME and FULL add at least kernel_size - 1 zeros.
    return UserError(
        f"model.kernel_size={stage.kernel_size} is too large for {name}, whose input is "
        f"{size[0]}x{size[1]} ({stage.padding} padding): it must be at most {min(size)}. "
        "Use a smaller kernel or model.padding=SAME."
    )


def _pool_too_large(stage: Stage, name: str, size: tuple[int, int]) -> UserError:
    return UserError(
        f"model.pool={stage.pool} is invalid for {name}, whose input is {size[0]}x{size[1]}: it "
        f"must be at least {POOL_SIZE}x{POOL_SIZE}. Use fewer stages in model.features, a smaller "
        "model.kernel_size or model.strides, or model.pool=none."
    )


def _linear_layer(
    geometry: _Geometry, channels: int, num_classes: int, image_size: tuple[int, int]
) -> Layer:
    """Returns the fully connected layer, which sees what all values of the last map see together.

    Args:
      geometry: of the last feature map.
      channels: channels of that map.
      num_classes: number of logits.
      image_size: (height, width).
    """
    shape = (*geometry.size, channels)
    inputs = math.prod(shape)
    seen = []  # Pixels of the image, without the padding, in each direction.
    for size, image_side in zip(geometry.size, image_size, strict=True):
        stop = geometry.start + geometry.field + (size - 1) * geometry.jump
        seen.append(min(stop, image_side) - max(geometry.start, 0))
    return Layer(
        "linear_1",
        (num_classes,),
        f"{' * '.join(map(str, shape))} = {pluralize(inputs, 'input')}",
        (inputs, num_classes),
        inputs * num_classes,
        (seen[0], seen[1]),
        max(geometry.start, 0),
    )


def _size_arithmetic(
    size: tuple[int, int], result: tuple[int, int], window: int, pads: tuple[int, int], stride: int
) -> str:
    """Returns the size formula with its numbers, once when height and width have the same."""
    before, after = pads
    padding = f"2*{before}" if before == after else f"{before} + {after}"
    sides = list(zip(size, result, strict=True))
    return ", ".join(
        f"({side} - {window} + {padding})/{stride} + 1 = {out}"
        for side, out in dict.fromkeys(sides)
    )

"""The model: stages of convolution, activation and pooling, then one fully connected layer."""

import math

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from cnn_jax.nn import conv, shapes
from cnn_jax.nn.layer_table import Layer, walk_layers
from cnn_jax.nn.linear import linear
from cnn_jax.nn.pooling import pool
from cnn_jax.nn.shapes import Stage


class ConvStage(nn.Module):
    """One convolution with bias, activation and pooling.

    A stage of several convolutions is several of these, of which only the last pools.

    With linen's `capture_intermediates` the stage also records the feature maps after the
    convolution with bias, as `convolution`, and after the activation, as `activation`.

    Attributes:
      features: number of filters, which is the number of output channels.
      stage: size and strides of the kernel, padding, activation and pooling.
      init_stddev: standard deviation of the initial kernel, or 0 for sqrt(2 / inputs of a filter).
        The bias starts at zero.
    """

    features: int
    stage: Stage
    init_stddev: float

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """Computes the stage: float32 [B, H, W, C] -> float32 [B, H', W', features]."""
        stage = self.stage
        shape = (stage.kernel_size, stage.kernel_size, image.shape[-1], self.features)
        kernel = self.param("kernel", _kernel_init(self.init_stddev, shape), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        if self.is_mutable_collection("intermediates"):
            return self._record_stage(image, kernel, bias)
        return conv.conv_stage(image, kernel, bias, stage)

    def _record_stage(self, image: Array, kernel: Array, bias: Array) -> Array:
        """Computes the stage step by step, since `conv_stage` may fuse the steps."""
        stage = self.stage
        convolution = conv.convolve(image, kernel, strides=stage.strides, padding=stage.padding)
        convolution += bias.reshape(1, 1, 1, -1)
        self.sow("intermediates", "convolution", convolution)
        activation = conv.ACTIVATIONS[stage.activation](convolution)
        self.sow("intermediates", "activation", activation)
        return pool(activation, stage.pool)


class ConvNet(nn.Module):
    """A small ConvNet. The defaults are the reference model, with 9,098 parameters for MNIST.

    Parameters: `conv_1`, `conv_2`, ... with {kernel [k, k, in, out], bias [out]} each, and
    `linear_1` with {kernel [inputs, classes], bias [classes]}. The inputs of `linear_1` are the
    values of the last feature map in the order h, w, c.

    Attributes:
      num_classes: number of logits.
      features: number of filters of each stage. Its length is the number of stages.
      stage_sizes: number of convolutions of each stage, each with its activation; pooling follows
        the last one. (1,) stands for one in every stage.
      kernel_size: height and width of every kernel.
      strides: step of the first convolution of each stage in both directions; others have 1.
      padding: `VALID` adds no zeros, `SAME` keeps the size at stride 1, `FULL` adds kernel_size - 1
        zeros on each side, so that every position where kernel and image overlap gives an output.
      activation: `relu`, `leaky_relu` or `sigmoid`.
      pool: `max`, `avg` (windows of 2x2) or `none`.
      init_stddev: standard deviation of all initial kernels, or 0 for sqrt(2 / inputs of a filter)
        in each layer (He et al., 2015, equation 10). Biases start at zero.
    """

    num_classes: int = 10
    features: tuple[int, ...] = (8, 16)
    stage_sizes: tuple[int, ...] = (1,)
    kernel_size: int = 3
    strides: int = 1
    padding: str = "SAME"
    activation: str = "relu"
    pool: str = "max"
    init_stddev: float = 0.01

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """Computes the logits.

        Args:
          image: float32 [B, H, W, C], 0..1.

        Returns:
          float32 logits [B, num_classes].
        """
        feature_map = image
        for number, (features, stage) in enumerate(self.convolutions, start=1):
            layer = ConvStage(features, stage, self.init_stddev, name=f"conv_{number}")
            feature_map = layer(feature_map)
        return Linear(self.num_classes, self.init_stddev, name="linear_1")(feature_map)

    @property
    def convolutions(self) -> list[tuple[int, Stage]]:
        """The number of filters and the settings of each convolution, in order."""
        return shapes.convolutions(self.features, self.stage_sizes, self.stage)

    @property
    def stage(self) -> Stage:
        """The settings that all stages share."""
        return Stage(self.kernel_size, self.strides, self.padding, self.activation, self.pool)


class Linear(nn.Module):
    """The fully connected layer, with one weight per class for every value of the feature map.

    Attributes:
      num_classes: number of logits.
      init_stddev: standard deviation of the initial kernel, or 0 for sqrt(2 / inputs). The bias
        starts at zero.
    """

    num_classes: int
    init_stddev: float

    @nn.compact
    def __call__(self, feature_map: Array) -> Array:
        """Computes the logits: float32 [B, H, W, C] -> float32 [B, num_classes]."""
        shape = (math.prod(feature_map.shape[1:]), self.num_classes)
        kernel = self.param("kernel", _kernel_init(self.init_stddev, shape), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.num_classes,), jnp.float32)
        return linear(feature_map, kernel, bias)


def layers_of(model: ConvNet, image_shape: tuple[int, int, int]) -> list[Layer]:
    """Returns the layers of a model, from the image to the logits.

    Args:
      model: the model.
      image_shape: (height, width, channels).

    Raises:
      UserError: at the first layer whose window is larger than its input.
    """
    return list(walk_layers(image_shape, model.num_classes, model.convolutions))


def _kernel_init(stddev: float, shape: tuple[int, ...]) -> nn.initializers.Initializer:
    """Returns the initializer of a kernel.

    Args:
      stddev: standard deviation of the normal distribution, or 0 for sqrt(2 / inputs).
      shape: shape of the kernel. Its last axis is the outputs; the others multiply to the inputs.
    """
    return nn.initializers.normal(stddev or math.sqrt(2 / math.prod(shape[:-1])))


def probabilities(logits: Array) -> Array:
    """Applies softmax: float32 logits [B, K] -> float32 [B, K] in 0..1, each row of sum 1."""
    return nn.softmax(logits, axis=-1)


def normalize(image_u8: Array) -> Array:
    """Scales pixels to the unit interval.

    Args:
      image_u8: uint8 [B, H, W, C], 0..255.

    Returns:
      float32 [B, H, W, C], 0..1.

    Raises:
      TypeError: for any other dtype, because scaling twice would otherwise pass unnoticed.
    """
    if image_u8.dtype != jnp.uint8:
        raise TypeError(
            f"image dtype {image_u8.dtype} is invalid: it must be uint8, 0..255. "
            "Pass the pixels unscaled."
        )
    return image_u8.astype(jnp.float32) / 255.0

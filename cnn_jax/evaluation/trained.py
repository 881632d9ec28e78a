"""A trained model, and what it computes from images."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from ml_collections import ConfigDict

from cnn_jax import data
from cnn_jax.engine.jax_options import compiler_options
from cnn_jax.model import ConvNet, layers_of, normalize

# Images of one call of the compiled program. Its feature maps fit into a CPU's cache.
_BATCH_SIZE = 200


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A ConvNet with its trained parameters, and what is needed to use it.

    Attributes:
      workdir: folder of the training run.
      step: number of training steps after which the parameters were saved.
      config: config of the run; of a sweep, the config that trains this model alone.
      image_shape: (height, width, channels).
      class_names: K names, in the order of the logits.
      params: parameter tree of float32 arrays, as described in `ConvNet`.
      model_index: index of the model in its run, from 0; None where the run has one model.
    """

    workdir: Path
    step: int
    config: ConfigDict
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    params: Any
    model_index: int | None = None

    @property
    def model(self) -> ConvNet:
        """The linen module, without parameters."""
        return ConvNet(num_classes=len(self.class_names), **self.config.model)

    @property
    def label(self) -> str:
        """Data set and step, for the titles of figures: `mnist, step 4690`."""
        return f"{data.display_name(**self.config.dataset)}, step {self.step}"

    def logits(self, image_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Computes the logits of any number of images.

        Args:
          image_u8: uint8 [N, H, W, C], 0..255.

        Returns:
          float32 [N, K].

        Raises:
          TypeError: when the dtype is another one.
          ValueError: when the shape is another one.
        """
        image_u8 = np.asarray(image_u8)
        _check_images(image_u8, self.image_shape)
        # Every batch is padded to one size, so that one compiled program serves any N.
        compiled = _compile_logits(self.model, self.image_shape, self.config.deterministic)
        params = jax.device_put(self.params)
        logits = np.empty((len(image_u8), len(self.class_names)), np.float32)
        for start in range(0, len(image_u8), _BATCH_SIZE):
            batch = np.zeros((_BATCH_SIZE, *self.image_shape), np.uint8)
            images = image_u8[start : start + _BATCH_SIZE]
            batch[: len(images)] = images
            logits[start : start + _BATCH_SIZE] = compiled(params, batch)[: len(images)]
        return logits

    def probabilities(self, image_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Computes the softmax of the logits of any number of images.

        Args:
          image_u8: uint8 [N, H, W, C], 0..255.

        Returns:
          float64 [N, K], 0..1; each row sums to 1.

        Raises:
          TypeError: when the dtype is another one.
          ValueError: when the shape is another one.
        """
        logits = self.logits(image_u8).astype(np.float64)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def _check_images(images: npt.NDArray[Any], image_shape: tuple[int, int, int]) -> None:
    """Checks that an array is what a model takes: a model answers to anything else as well.

    Raises:
      TypeError: when its dtype is not uint8.
      ValueError: when its shape is not (N, *image_shape).
    """
    if images.dtype != np.uint8:
        raise TypeError(
            f"images of dtype {images.dtype} are invalid: they must be uint8, 0..255, as "
            "read_picture returns them. For floats in 0..1 pass (255 * images).astype('uint8')."
        )
    if images.shape[1:] != image_shape:
        expected = ", ".join(map(str, image_shape))
        raise ValueError(
            f"images of shape {images.shape} are invalid: the shape must be (N, {expected}). For "
            "one image pass image[None]; read_picture brings a picture to this size."
        )


@functools.cache
def _compile_logits(
    model: ConvNet, image_shape: tuple[int, int, int], deterministic: bool
) -> jax.stages.Compiled:
    """Compiles the forward pass for batches of `_BATCH_SIZE` images.

    Args:
      model: linen module.
      image_shape: (height, width, channels).
      deterministic: as in the config.

    Returns:
      A program: (params, uint8 [B, H, W, C]) -> float32 logits [B, K].
    """

    def logits(params: Any, image_u8: jax.Array) -> jax.Array:
        return cast(jax.Array, model.apply({"params": params}, normalize(image_u8)))

    image_u8 = jax.ShapeDtypeStruct((_BATCH_SIZE, *image_shape), jnp.uint8)
    jitted = jax.jit(logits, compiler_options=compiler_options(deterministic))
    return jitted.lower(param_shapes(model, image_shape), image_u8).compile()


def param_shapes(model: ConvNet, image_shape: tuple[int, int, int]) -> Any:
    """Returns the parameter tree with a `jax.ShapeDtypeStruct` in place of each array.

    From the table of the layers: to trace the initialization takes a tenth of a second.
    """
    return {
        layer.name: {
            "kernel": jax.ShapeDtypeStruct(layer.kernel_shape, jnp.float32),
            "bias": jax.ShapeDtypeStruct(layer.kernel_shape[-1:], jnp.float32),
        }
        for layer in layers_of(model, image_shape)
        if layer.kernel_shape
    }

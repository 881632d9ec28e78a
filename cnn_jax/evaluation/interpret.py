"""Looks into a ConvNet: its feature maps, and the pixels that its prediction depends on."""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array

from cnn_jax.model import ConvNet, normalize

Floats = npt.NDArray[np.float32]


def feature_maps(model: ConvNet, params: Any, image_u8: npt.NDArray[np.uint8]) -> dict[str, Floats]:
    """Computes the output of every layer.

    Args:
      model: linen module.
      params: its parameter tree of float32 arrays.
      image_u8: uint8 [N, H, W, C], 0..255.

    Returns:
      A float32 array [N, H', W', C'] for each layer, with the names and in the order of
      `model.layers_of`; the last entry, `linear_1`, has the logits [N, K].
    """
    captured = _capture_intermediates(model, params, image_u8)
    maps: dict[str, Array] = {}
    for number, (_, stage) in enumerate(model.convolutions, start=1):
        outputs = captured[f"conv_{number}"]
        (maps[f"conv_{number}"],) = outputs["convolution"]
        (maps[f"{stage.activation}_{number}"],) = outputs["activation"]
        if stage.pool != "none":
            (maps[f"pool_{number}"],) = outputs["__call__"]
    (maps["linear_1"],) = captured["linear_1"]["__call__"]
    return {name: np.asarray(value) for name, value in maps.items()}


@functools.partial(jax.jit, static_argnums=0)
def _capture_intermediates(model: ConvNet, params: Any, image_u8: Array) -> Any:
    _, variables = model.apply(
        {"params": params},
        normalize(image_u8),
        capture_intermediates=True,
        mutable=["intermediates"],
    )
    return variables["intermediates"]


def saliency(model: ConvNet, params: Any, image_u8: npt.NDArray[np.uint8]) -> Floats:
    """Computes how much each pixel can change the prediction: |d largest logit / d intensity|.

    Source: Simonyan, Vedaldi and Zisserman, 2014 (Deep Inside Convolutional Networks), section 3.1.

    Args:
      model: linen module.
      params: its parameter tree of float32 arrays.
      image_u8: uint8 [N, H, W, C], 0..255.

    Returns:
      float32 [N, H, W], >= 0: logits per change of the intensity from 0 to 1; the largest value
      over the channels.
    """
    return np.asarray(_saliency(model, params, image_u8))


@functools.partial(jax.jit, static_argnums=0)
def _saliency(model: ConvNet, params: Any, image_u8: Array) -> Array:
    def sum_of_largest_logits(image: Array) -> Array:
        logits = cast(Array, model.apply({"params": params}, image))
        # The logits of an image do not depend on the other images, so one gradient of the sum
        # holds the gradients of all images.
        return logits.max(axis=-1).sum()

    gradient = jax.grad(sum_of_largest_logits)(normalize(image_u8))
    return jnp.abs(gradient).max(axis=-1)

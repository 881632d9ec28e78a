"""What goes on inside a network: its maps of an image, and which pixels its answer hangs on."""

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
    """What comes out of every layer.

    Args:
      model: the network.
      params: its parameters.
      image_u8: uint8 [N, H, W, C], 0..255.

    Returns:
      A float32 [N, H', W', C'] for each layer, by the names and in the order of `model.layers_of`;
      in the end the logits [N, K].
    """
    seen = _intermediates(model, params, image_u8)
    maps: dict[str, Array] = {}
    for stage in range(1, len(model.features) + 1):
        of_stage = seen[f"conv_{stage}"]
        (maps[f"conv_{stage}"],) = of_stage["convolution"]
        (maps[f"{model.activation}_{stage}"],) = of_stage["activation"]
        if model.pool != "none":
            (maps[f"pool_{stage}"],) = of_stage["__call__"]
    (maps["linear_1"],) = seen["linear_1"]["__call__"]
    return {name: np.asarray(value) for name, value in maps.items()}


@functools.partial(jax.jit, static_argnums=0)
def _intermediates(model: ConvNet, params: Any, image_u8: Array) -> Any:
    _, seen = model.apply(
        {"params": params},
        normalize(image_u8),
        capture_intermediates=True,
        mutable=["intermediates"],
    )
    return seen["intermediates"]


def saliency(model: ConvNet, params: Any, image_u8: npt.NDArray[np.uint8]) -> Floats:
    """How much each pixel could change the answer: |d largest logit / d intensity|.

    Simonyan, Vedaldi and Zisserman, 2014 (Deep Inside Convolutional Networks), section 3.1.

    Args:
      model: the network.
      params: its parameters.
      image_u8: uint8 [N, H, W, C], 0..255.

    Returns:
      float32 [N, H, W], 0 or more, in logits for a change of the intensity from 0 to 1; of several
      colours' gradients the largest.
    """
    return np.asarray(_saliency(model, params, image_u8))


@functools.partial(jax.jit, static_argnums=0)
def _saliency(model: ConvNet, params: Any, image_u8: Array) -> Array:
    def winning(image: Array) -> Array:
        logits = cast(Array, model.apply({"params": params}, image))
        return logits.max(axis=-1).sum()  # No image has a part in another one's logits.

    gradient: Array = jax.grad(winning)(normalize(image_u8))
    return jnp.abs(gradient).max(axis=-1)

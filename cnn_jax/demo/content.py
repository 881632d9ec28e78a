"""The data inside the page: the models, what they take, and pictures to click."""

import base64
import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cnn_jax import data
from cnn_jax.checkpoint import tree
from cnn_jax.demo.film import build_film
from cnn_jax.evaluation.ensemble import Ensemble
from cnn_jax.model import ConvNet
from cnn_jax.preprocessing.frame import conventions_of
from cnn_jax.preprocessing.silhouette import find_silhouette


@dataclasses.dataclass(frozen=True)
class Picture:
    """Image of the test set that people can click.

    Attributes:
      image_u8: uint8 [H, W, C], 0..255.
      label: index of its true class.
      kind: `test`, one of the first images of its class; or `mistake`, which the models get wrong.
    """

    image_u8: npt.NDArray[np.uint8]
    label: int
    kind: Literal["test", "mistake"]


def build_content(
    ensemble: Ensemble,
    pictures: Sequence[Picture],
    pictures_note: str = "",
    *,
    divide: bool,
    low_probability: float,
) -> dict[str, Any]:
    """Builds the data of the page, all of it JSON.

    Args:
      ensemble: models that answer, alone and together.
      pictures: images of the test set.
      pictures_note: sentence that says why there are no pictures.
      divide: whether a drawing is divided into lines and digits.
      low_probability: 0..1; answers with less are called unsure.

    Returns:
      Values by name. Parameters are float32 in little-endian order, pictures uint8 [h, w, c] that
      are compressed by zlib, both in base64; `pads`, `strides` and `pools` are those of
      `numpy_forward.py`.

    Raises:
      UserError: when the images have neither one channel nor three, or the film is damaged.
    """
    first = ensemble.models[0]
    return {
        "dataset": data.display_name(**ensemble.config.dataset),
        "image_shape": list(ensemble.image_shape),
        "class_names": list(ensemble.class_names),
        "models": [
            {
                "seed": model.config.seed,
                "params": {
                    name: _base64(np.asarray(array, "<f4").tobytes())
                    for name, array in tree.flatten(model.params).items()
                },
            }
            for model in ensemble.models
        ],
        "shapes": {name: list(array.shape) for name, array in tree.flatten(first.params).items()},
        "stage": _describe_stages(first.model),
        "conventions": _describe_conventions(ensemble, divide),
        "low_probability": low_probability,
        "pictures": [
            {
                "image": _base64(zlib.compress(picture.image_u8.tobytes(), 9)),
                "label": picture.label,
                "kind": picture.kind,
            }
            for picture in pictures
        ],
        "pictures_note": pictures_note,
        "film": build_film(first),
    }


def _describe_stages(model: ConvNet) -> dict[str, Any]:
    """Returns the settings of the convolutions."""
    stages = [stage for _, stage in model.convolutions]
    return {
        "kernel_size": model.kernel_size,
        "strides": [stage.strides for stage in stages],
        "pads": list(model.stage.pads),
        "activation": model.activation,
        "pools": [stage.pool for stage in stages],
    }


def _describe_conventions(ensemble: Ensemble, divide: bool) -> dict[str, Any] | None:
    """Returns how the page prepares a drawing; None for RGB images, which are only resized."""
    conventions = conventions_of(ensemble.config.dataset.name, ensemble.image_shape)
    if conventions is None:
        return None
    return {
        "find": "silhouette" if conventions.find is find_silhouette else "ink",
        "box_size": conventions.box_size,
        "centre_by_mass": conventions.centre_by_mass,
        "min_stroke_width": conventions.min_stroke_width,
        "points_left": conventions.points_left,
        "divide": divide,
        # Nobody knows how people's own images are framed.
        "is_assumed": ensemble.config.dataset.name == data.FILES,
    }


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")

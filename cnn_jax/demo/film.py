"""The film in the page: the training of one model, from random to trained."""

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

from cnn_jax.checkpoint.film import read_film
from cnn_jax.evaluation.trained import TrainedModel

_MAX_LEVEL = 127


def build_film(trained: TrainedModel) -> dict[str, Any] | None:
    """Builds the film of a model for the page; `film.js` decodes it.

    A parameter is rounded to one of 255 levels, the same for all of its array: level * scale, with
    level -127..127 and scale the largest magnitude / 127. So at most 0.4 % of that magnitude is
    lost, and a frame takes a third of what float32 takes in base64. The last frame is the model
    itself, with all of its digits.

    Args:
      trained: model of a run with `film_frames`.

    Returns:
      JSON with `steps`, ascending, the last that of the model; and `frames`, one for each step but
      the last: by the name of each array its `scale` and its `levels`, int8 in base64. None where
      the workdir has no frame from before the model's step.

    Raises:
      UserError: when a frame is damaged or of another model.
    """
    film = read_film(trained.workdir, trained.step, trained.params, trained.model_index)
    earlier = [frame for frame in film if frame.step < trained.step]
    if not earlier:
        return None
    return {
        "steps": [*(frame.step for frame in earlier), trained.step],
        "frames": [
            {name: _quantize(array) for name, array in frame.params.items()} for frame in earlier
        ],
    }


def _quantize(array: npt.NDArray[np.float32]) -> dict[str, Any]:
    scale = float(np.abs(array).max()) / _MAX_LEVEL
    # An array of zeros, as biases are before the training, has no scale.
    levels = np.round(array / (scale or 1.0)).astype(np.int8)
    return {"scale": scale, "levels": base64.b64encode(levels.tobytes()).decode("ascii")}

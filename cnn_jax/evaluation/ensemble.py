"""Several trained models that answer together."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ml_collections import ConfigDict

from cnn_jax.evaluation.trained import TrainedModel


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """Models of one training run that differ only in their seed.

    Attributes:
      models: at least one.
    """

    models: Sequence[TrainedModel]

    @property
    def workdir(self) -> Path:
        """Folder of the training run."""
        return self.models[0].workdir

    @property
    def config(self) -> ConfigDict:
        """Config of the first model; those of the others have other seeds."""
        return self.models[0].config

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of an image: (height, width, channels)."""
        return self.models[0].image_shape

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes."""
        return self.models[0].class_names

    @property
    def label(self) -> str:
        """Data set, step and number of models, for the titles of figures."""
        count = len(self.models)
        return self.models[0].label + (f", mean of {count} models" if count > 1 else "")

    def probabilities(self, image_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Computes the mean of the models' probabilities, for any number of images.

        `engine.loops` scores the ensembles of a training run in the same way.

        Args:
          image_u8: uint8 [N, H, W, C], 0..255.

        Returns:
          float64 [N, K], 0..1; each row sums to 1. Those of a single model are unchanged.

        Raises:
          TypeError: when the dtype is another one.
          ValueError: when the shape is another one.
        """
        return np.asarray(np.mean([m.probabilities(image_u8) for m in self.models], axis=0))

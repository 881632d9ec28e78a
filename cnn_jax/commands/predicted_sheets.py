"""The figures of `--mode=predict --show`: what the model saw, and the confusion matrix."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnn_jax.commands.prediction import Prediction
from cnn_jax.evaluation.ensemble import Ensemble
from cnn_jax.io.console import printable
from cnn_jax.plots import evaluation, figure, galleries


class Sheets:
    """Figures `predicted_*.png` in a folder.

    Attributes:
      folder: receives them.
      drawn: paths of those drawn so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.drawn: list[Path] = []

    def draw(self, predictions: Sequence[Prediction]) -> None:
        """Draws the pictures that were read, and the network's inputs, on as many sheets as needed.

        Args:
          predictions: for the pictures.
        """
        drawable = [p for p in predictions if p.photo]
        for first in range(0, len(drawable), galleries.MAX_PICTURES):
            path = self.folder / f"predicted_{len(self.drawn) + 1:03d}.png"
            _draw_sheet(drawable[first : first + galleries.MAX_PICTURES], path)
            self.drawn.append(path)

    def finish(self, confusion: npt.NDArray[np.int64], trained: Ensemble) -> None:
        """Draws the confusion matrix, if any class is known, and removes what is of earlier calls.

        Args:
          confusion: int64 [K, K], number of pictures by true and by predicted class.
          trained: the models.
        """
        if confusion.any():
            drawn = evaluation.draw_confusion(
                confusion, trained.class_names, trained.label, "picture"
            )
            path = self.folder / "predicted_confusion.png"
            figure.save(drawn, path)
            self.drawn.append(path)
        figure.remove(set(self.folder.glob("predicted_*.png")) - set(self.drawn))


def _draw_sheet(predictions: Sequence[Prediction], path: Path) -> None:
    drawn = galleries.draw_predictions(
        [
            galleries.PredictedPicture(
                p.photo.original,
                # Without ink the box is all of the picture.
                [[end / p.photo.scale for end in part.crop.box] for part in p.parts]
                if p.photo.polarity
                else [],
                np.concatenate([part.crop.image_u8 for part in p.parts], axis=1),
                p.name.removeprefix(printable(f"{p.page.path.parent}/")),
                p.label or "",
                p.probability,
                p.unsure,
            )
            for p in predictions
            if p.photo
        ],
        "Each picture, and what the model saw of it\nprediction and its probability",
    )
    figure.save(drawn, path)

"""`--mode=predict`: what a trained network reads on people's own pictures."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from cnn_jax.errors import UserError
from cnn_jax.evaluation import trained
from cnn_jax.evaluation.trained import TrainedModel
from cnn_jax.io.console import Console, printable
from cnn_jax.plots import figure, galleries
from cnn_jax.preprocessing.decode import PhotoError
from cnn_jax.preprocessing.frame import conventions_of
from cnn_jax.preprocessing.image_files import find_pictures
from cnn_jax.preprocessing.photo import Photo, read_photos

# Of MNIST's test pictures, under the reference network, 3 % are below, and half of its mistakes.
LOW_PROBABILITY = 0.7
_TOGETHER = 100  # Pictures read before their lines appear: some two seconds.
_NEXT = 2  # Classes named after the most probable one.
_WIDEST = 60  # Characters of a path; a longer one moves the rest of its own line.
_NAMED = 5  # Files in an error; the lines name them all.


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a network says to one file.

    Attributes:
      path: of the file.
      photo: what was read from it; None where it is no picture.
      problem: why it is none.
      ranking: (class name, probability 0..1) of every class, the most probable first.
    """

    path: Path
    photo: Photo | None
    problem: str = ""
    ranking: Sequence[tuple[str, float]] = ()

    @property
    def unsure(self) -> bool:
        """Whether the picture looks like none of the classes."""
        return self.ranking[0][1] < LOW_PROBABILITY

    def text(self, width: int) -> str:
        """One line for people; `width`: of the longest path."""
        start = f"{printable(str(self.path)):<{width}}"
        if not self.photo:
            return f"{start}  not read: it {self.problem}"
        (name, probability), *others = self.ranking
        then = ", ".join(f"{n} {100 * p:.1f} %" for n, p in others[:_NEXT])
        noun = "digit" if all(n.isdigit() for n, _ in self.ranking) else "class of its training set"
        note = f"unsure: perhaps no {noun}" if self.unsure else None
        remarks = "; ".join(filter(None, (self.photo.polarity, note)))
        return f"{start}  {name}  {100 * probability:5.1f} %  then {then}  {remarks}".rstrip()

    def json(self) -> str:
        """One line for machines: an object with `path`, and either `error` or the rest.

        `probability` is that of `label`, `next` the two classes after it, `probabilities` has all
        of them; `unsure` that the picture looks like none of the classes.
        """
        if not self.photo:
            return json.dumps({"path": str(self.path), "error": f"it {self.problem}"})
        (name, probability), *others = self.ranking
        content: dict[str, Any] = {
            "path": str(self.path),
            "label": name,
            "probability": probability,
            "next": [{"label": n, "probability": p} for n, p in others[:_NEXT]],
            "probabilities": dict(self.ranking),
            "polarity": self.photo.polarity,
            "unsure": self.unsure,
        }
        return json.dumps(content, allow_nan=False)


def predict(
    workdir: str,
    images: Sequence[str],
    config: ConfigDict | None = None,
    step: int | None = None,
    number: int | None = None,
    *,
    as_json: bool = False,
    show: bool = False,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> None:
    """Prints one line a picture: path, label, probability, the next two, and what there is to say.

    Args:
      workdir: of a training run.
      images: files, folders, and patterns such as `*.jpg`.
      config: must have the network of the run; None: that of the run.
      step: of the checkpoint; None: the newest.
      number: of the network, from 0, where several were trained at once.
      as_json: prints an object a line instead, see `Prediction.json`.
      show: also writes what the network saw, beside the originals, into `WORKDIR/pictures`.
      out: takes the lines; default: standard output.
      err: takes warnings and the progress bar; default: standard error.

    Raises:
      UserError: when there is no network or no picture; at the end, when a file is no picture.
    """
    console = Console(out, err)
    paths = find_pictures(images)
    network = trained.load(workdir, step, console.warn, config, number)
    width = min(_WIDEST, max(len(printable(str(path))) for path in paths))
    folder = network.workdir / "pictures"
    failed: list[Prediction] = []
    sheets: list[Path] = []
    bar = tqdm(total=len(paths), unit=" pictures", file=console.err, leave=False, disable=None)
    for start in range(0, len(paths), _TOGETHER):
        predictions = predict_files(network, paths[start : start + _TOGETHER])
        bar.clear()
        for prediction in predictions:
            console.line(prediction.json() if as_json else prediction.text(width))
        bar.update(len(predictions))
        failed += [p for p in predictions if not p.photo]
        good = [p for p in predictions if p.photo] if show else []
        for first in range(0, len(good), galleries.MOST_PICTURES):
            sheets.append(folder / f"predicted_{len(sheets) + 1:03d}.png")
            _draw(good[first : first + galleries.MOST_PICTURES], sheets[-1])
    bar.close()
    if show:
        figure.remove(set(folder.glob("predicted_*.png")) - set(sheets))  # Of other pictures.
    if sheets and not as_json:
        console.line(f"What the network saw: {folder}/predicted_*.png")
    if failed:
        named = ", ".join(f"{p.path} {p.problem}" for p in failed[:_NAMED])
        more = f", and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        raise UserError(
            f"{len(failed)} of {len(paths)} files cannot be read ({named}{more}): allowed is what "
            "Pillow opens and shows something. Replace them, or leave them out of --images."
        )


def predict_files(network: TrainedModel, paths: Sequence[Path]) -> list[Prediction]:
    """What the network says to each file, in their order."""
    conventions = conventions_of(network.config.dataset.name, network.image_shape)
    photos = read_photos(paths, network.image_shape, conventions)
    read = [photo.image_u8 for photo in photos if isinstance(photo, Photo)]
    image_u8 = np.array(read, np.uint8).reshape(-1, *network.image_shape)
    rows = iter(network.probabilities(image_u8))
    predictions = []
    for path, photo in zip(paths, photos, strict=True):
        if isinstance(photo, PhotoError):
            predictions.append(Prediction(path, None, str(photo)))
            continue
        row = next(rows)
        ranking = [(network.class_names[k], float(row[k])) for k in np.argsort(-row, kind="stable")]
        predictions.append(Prediction(path, photo, "", ranking))
    return predictions


def _draw(good: Sequence[Prediction], path: Path) -> None:
    photos = [p.photo for p in good if p.photo]
    drawn = galleries.draw_predictions(
        [photo.original for photo in photos],
        np.array([photo.image_u8 for photo in photos]),
        [printable(p.path.name) for p in good],
        [f"{p.ranking[0][0]} ({100 * p.ranking[0][1]:.0f} %)" for p in good],
        "The pictures, and what the network saw of them\nlabel and its probability",
    )
    figure.save(drawn, path)

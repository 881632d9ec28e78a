"""`--mode=predict`: classifies people's own pictures with a trained model."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from cnn_jax.commands.truth import Score, find_truth
from cnn_jax.errors import UserError
from cnn_jax.evaluation.ensemble import Ensemble
from cnn_jax.evaluation.loading import load_ensemble
from cnn_jax.io.console import Console, printable
from cnn_jax.plots import evaluation, figure, galleries
from cnn_jax.preprocessing.decode import PhotoError
from cnn_jax.preprocessing.frame import conventions_of
from cnn_jax.preprocessing.image_files import describe_passed_over, find_pictures
from cnn_jax.preprocessing.pages import Page, list_pages
from cnn_jax.preprocessing.photo import Photo, read_photos
from cnn_jax.wording import pluralize

# A prediction with less is called unsure. The reference model on MNIST's test images: 3 % of the
# predictions and half of the mistakes are below it.
LOW_PROBABILITY = 0.7
_CHUNK_SIZE = 100  # Pictures that are read before their lines are printed: about two seconds.
_NUM_RUNNERS_UP = 2  # Classes that are printed after the most probable one.
_MAX_PATH_WIDTH = 60  # Characters; a longer path shifts the rest of its own line only.
_MAX_NAMED_FILES = 5  # Files that the final error names; the lines above it name all.


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction for one page of a file, or the reason why there is none.

    Attributes:
      page: the page and its file.
      photo: the picture and the network input made from it; None where it cannot be read.
      error: reason why it cannot be read, such as `is empty`.
      ranking: (class name, probability 0..1) of every class, the most probable first; empty where
        the file cannot be read.
      truth: the class that the picture is known to have, or None.
    """

    page: Page
    photo: Photo | None
    error: str = ""
    ranking: Sequence[tuple[str, float]] = ()
    truth: str | None = None

    @property
    def label(self) -> str | None:
        """Returns the predicted class, or None where the file cannot be read."""
        return self.ranking[0][0] if self.ranking else None

    @property
    def unsure(self) -> bool:
        """Returns whether the picture may show no class at all."""
        is_doubtful = self.photo is not None and self.photo.is_doubtful
        return is_doubtful or self.ranking[0][1] < LOW_PROBABILITY

    def text(self, width: int) -> str:
        """Returns one line for people.

        Args:
          width: number of characters that the path is padded to.
        """
        start = f"{_name(self.page):<{width}}"
        if not self.photo:
            return f"{start}  not read: it {self.error}"
        (name, probability), *rest = self.ranking
        runners_up = ", ".join(f"{n} {100 * p:.1f} %" for n, p in rest[:_NUM_RUNNERS_UP])
        noun = "digit" if all(n.isdigit() for n, _ in self.ranking) else "class of its training set"
        note = f"unsure: perhaps no {noun}" if self.unsure else None
        verdict = "right" if self.truth == name else self.truth and f"wrong: it is {self.truth}"
        remarks = "; ".join(filter(None, (self.photo.polarity, note, verdict)))
        line = f"{start}  {name}  {100 * probability:5.1f} %  then {runners_up}  {remarks}"
        return line.rstrip()

    def json(self) -> str:
        """Returns one line for programs: a JSON object with `path`, and either `error` or the rest.

        A file of several pages also has `page`, from 1, and a picture of known class `truth`. The
        rest: `label`, the predicted class; `probability`, its probability; `next`, the two
        classes after it; `probabilities`, of all classes; `polarity`, `dark on light`, `light on
        dark` or null; `unsure`, whether the probability is low or perhaps nothing is written.
        """
        start: dict[str, Any] = {"path": str(self.page.path)}
        if self.page.number is not None:
            start["page"] = self.page.number
        if self.truth is not None:
            start["truth"] = self.truth
        if not self.photo:
            return json.dumps({**start, "error": f"it {self.error}"})
        (name, probability), *rest = self.ranking
        content = {
            **start,
            "label": name,
            "probability": probability,
            "next": [{"label": n, "probability": p} for n, p in rest[:_NUM_RUNNERS_UP]],
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
    model_index: int | None = None,
    *,
    labels: str | None = None,
    as_json: bool = False,
    show: bool = False,
    console: Console | None = None,
) -> None:
    """Prints a line for each picture, and the accuracy on those whose true class is known.

    Args:
      workdir: folder of the training run.
      images: files, folders, and patterns such as `*.jpg`.
      config: config whose `model` must equal the run's; None: the config of the run.
      step: step of the checkpoint to load; None: the newest intact checkpoint.
      model_index: index of the model, from 0; None: the ensemble of the run's models.
      labels: name of a CSV file with the true classes of pictures; None: folders tell them.
      as_json: whether the lines are JSON objects; the accuracy then goes to standard error.
      show: whether to draw the network inputs, and the confusion matrix, into `WORKDIR/pictures`.
      console: receives the lines, warnings and the progress bar; default: the standard streams.

    Raises:
      UserError: for a missing model or picture, or invalid labels; after all lines, for files that
        could not be read.
    """
    files, console = find_pictures(images), console or Console()
    trained = load_ensemble(workdir, step, model_index, config, console.warn)
    truth = find_truth(images, labels, files.pictures, trained.class_names, console.warn)
    pages = list_pages(files.pictures, console.warn)
    width = min(_MAX_PATH_WIDTH, max(len(_name(page)) for page in pages))
    folder = trained.workdir / "pictures"
    failed: list[Prediction] = []
    sheets: list[Path] = []
    score = Score()
    bar = tqdm(total=len(pages), unit=" pictures", file=console.err, leave=False, disable=None)
    for start in range(0, len(pages), _CHUNK_SIZE):
        predictions = predict_pages(trained, pages[start : start + _CHUNK_SIZE], truth)
        bar.clear()
        for prediction in predictions:
            console.line(prediction.json() if as_json else prediction.text(width))
            score.add(prediction.truth, prediction.label)
        bar.update(len(predictions))
        failed += [p for p in predictions if not p.photo]
        if show:
            sheets += _draw_sheets(predictions, folder, len(sheets))
    bar.close()
    if show:
        sheets += _draw_confusion(trained, score)
        figure.remove(set(folder.glob("predicted_*.png")) - set(sheets))  # Of an earlier call.
    if sheets and not as_json:
        console.line(f"What the model saw: {folder}/predicted_*.png")
    if truth:
        (Console(console.err) if as_json else console).line(score.text())
    _warn_passed_over(files.passed_over, labels, console)
    if failed:
        raise _unreadable_error(failed, len(pages))


def predict_pages(
    trained: Ensemble, pages: Sequence[Page], truth: Mapping[Path, str]
) -> list[Prediction]:
    """Predicts the class of the picture on each page.

    Args:
      trained: models that predict.
      pages: of files in any format that Pillow reads; those of one file follow each other.
      truth: the class of the pictures in a file, where it is known.

    Returns:
      One prediction for each page, in the same order.
    """
    conventions = conventions_of(trained.config.dataset.name, trained.image_shape)
    photos = read_photos(pages, trained.image_shape, conventions)
    network_inputs = [photo.image_u8 for photo in photos if isinstance(photo, Photo)]
    image_u8 = np.array(network_inputs, np.uint8).reshape(-1, *trained.image_shape)
    rows = iter(trained.probabilities(image_u8))
    predictions = []
    for page, photo in zip(pages, photos, strict=True):
        known = truth.get(page.path)
        if isinstance(photo, PhotoError):
            predictions.append(Prediction(page, None, str(photo), truth=known))
            continue
        row = next(rows)
        ranking = [(trained.class_names[k], float(row[k])) for k in np.argsort(-row, kind="stable")]
        predictions.append(Prediction(page, photo, "", ranking, known))
    return predictions


def _name(page: Page) -> str:
    return printable(f"{page.path}{page.label}")


def _draw_sheets(predictions: Sequence[Prediction], folder: Path, num_drawn: int) -> list[Path]:
    """Draws the pictures that were read, and returns the paths of the sheets.

    Args:
      predictions: for the pictures.
      folder: receives the sheets.
      num_drawn: number of sheets that it has already.
    """
    drawable = [p for p in predictions if p.photo]
    sheets: list[Path] = []
    for first in range(0, len(drawable), galleries.MAX_PICTURES):
        sheets.append(folder / f"predicted_{num_drawn + len(sheets) + 1:03d}.png")
        _draw_sheet(drawable[first : first + galleries.MAX_PICTURES], sheets[-1])
    return sheets


def _draw_sheet(predictions: Sequence[Prediction], path: Path) -> None:
    photos = [p.photo for p in predictions if p.photo]
    drawn = galleries.draw_predictions(
        [photo.original for photo in photos],
        np.array([photo.image_u8 for photo in photos]),
        [printable(p.page.path.name + p.page.label) for p in predictions],
        [p.ranking[0][0] for p in predictions],
        [p.ranking[0][1] for p in predictions],
        "Each picture, and what the model saw of it\npredicted class and its probability",
    )
    figure.save(drawn, path)


def _draw_confusion(trained: Ensemble, score: Score) -> list[Path]:
    """Draws the confusion matrix of the pictures of known class, and returns its path if any."""
    confusion = score.confusion(trained.class_names)
    if not confusion.any():
        return []
    drawn = evaluation.draw_confusion(confusion, trained.class_names, trained.label, "picture")
    path = trained.workdir / "pictures" / "predicted_confusion.png"
    figure.save(drawn, path)
    return [path]


def _warn_passed_over(passed_over: Sequence[Path], labels: str | None, console: Console) -> None:
    """Prints which files were passed over in folders, if any but the file of labels."""
    labels_path = labels and os.path.realpath(labels)
    if others := [path for path in passed_over if os.path.realpath(path) != labels_path]:
        console.warn(describe_passed_over(others))


def _unreadable_error(failed: Sequence[Prediction], num_pages: int) -> UserError:
    reasons = ", ".join(f"{p.page.path}{p.page.label} {p.error}" for p in failed[:_MAX_NAMED_FILES])
    num_unnamed = len(failed) - _MAX_NAMED_FILES
    more = f", and {num_unnamed} more" if num_unnamed > 0 else ""
    return UserError(
        f"cannot read {len(failed):,} of {pluralize(num_pages, 'picture')} ({reasons}{more}): each "
        "must be of a format that Pillow decodes, and not blank. Replace them, or leave them out "
        "of --images."
    )

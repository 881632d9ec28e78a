"""`--mode=predict`: classifies people's own pictures with a trained model."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from ml_collections import ConfigDict
from tqdm import tqdm

from cnn_jax.commands.prediction import Part, Prediction, are_digits
from cnn_jax.commands.truth import Score, find_truth
from cnn_jax.errors import UserError
from cnn_jax.evaluation.ensemble import Ensemble
from cnn_jax.evaluation.loading import load_ensemble
from cnn_jax.evaluation.numbers import best_division
from cnn_jax.io.console import Console
from cnn_jax.preprocessing.decode import PhotoError
from cnn_jax.preprocessing.frame import conventions_of
from cnn_jax.preprocessing.image_files import describe_passed_over, find_pictures
from cnn_jax.preprocessing.pages import Page, list_pages
from cnn_jax.preprocessing.photo import Photo, Photos, read_photos
from cnn_jax.preprocessing.processes import read_chunks
from cnn_jax.wording import pluralize

if TYPE_CHECKING:
    from cnn_jax.commands.predicted_sheets import Sheets

_CHUNK_SIZE = 50  # Pages that a process reads at a time: half a second.
_MAX_PATH_WIDTH = 60  # Characters; a longer path shifts the rest of its own line only.
_MAX_NAMED_FILES = 5  # Files that the final error names; the lines above it name all.


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
    """Prints a line for each picture or line of writing, and the accuracy where truth is known.

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
    width = min(_MAX_PATH_WIDTH, max(len(Prediction(page, None).name) for page in pages))
    failed: list[Prediction] = []
    sheets = _make_sheets(trained) if show else None
    score = Score()
    bar = tqdm(total=len(pages), unit=" pictures", file=console.err, leave=False, disable=None)
    read, advice = _reader(trained, keep_original=show), "Give --images fewer or smaller pictures."
    for chunk, photos in read_chunks(read, pages, _CHUNK_SIZE, advice):
        predictions = _predict(trained, chunk, photos, truth)
        bar.clear()
        for prediction in predictions:
            console.line(prediction.json() if as_json else prediction.text(width))
            score.add(prediction.truth, prediction.label)
        bar.update(len(chunk))
        failed += [p for p in predictions if not p.photo]
        if sheets:
            sheets.draw(predictions)
    bar.close()
    if sheets:
        sheets.draw_confusion(score.confusion(trained.class_names), trained)
        sheets.remove_earlier()
        if sheets.drawn and not as_json:
            console.line(f"What the model saw: {sheets.folder}/predicted_*.png")
    if truth:
        (Console(console.err) if as_json else console).line(score.text())
    _warn_passed_over(files.passed_over, labels, console)
    if failed:
        raise _unreadable_error(failed, len(pages))


def predict_pages(
    trained: Ensemble, pages: Sequence[Page], truth: Mapping[Path, str]
) -> list[Prediction]:
    """Predicts the class of the picture on each page, or the numbers written on it.

    Args:
      trained: models that predict.
      pages: of files in any format that Pillow reads; those of one file follow each other.
      truth: the class of the pictures in a file, where it is known.

    Returns:
      One prediction for each line of writing, in the order of the pages.
    """
    return _predict(trained, pages, _reader(trained)(pages), truth)


def _reader(
    trained: Ensemble, *, keep_original: bool = False
) -> Callable[[Sequence[Page]], Photos]:
    """Returns the function that reads pages as images of the models, and divides numbers."""
    return functools.partial(
        read_photos,
        image_shape=trained.image_shape,
        conventions=conventions_of(trained.config.dataset.name, trained.image_shape),
        divide=are_digits(trained.class_names),
        keep_original=keep_original,
    )


def _predict(
    trained: Ensemble, pages: Sequence[Page], photos: Photos, truth: Mapping[Path, str]
) -> list[Prediction]:
    crops = [
        crop
        for photo in photos
        if isinstance(photo, Photo)
        for line in photo.lines
        for crop in line
    ]
    image_u8 = np.array([crop.image_u8 for crop in crops], np.uint8)
    rows = iter(trained.probabilities(image_u8.reshape(-1, *trained.image_shape)))
    predictions = []
    for page, photo in zip(pages, photos, strict=True):
        truth_of_page = truth.get(page.path)
        if isinstance(photo, PhotoError):
            predictions.append(Prediction(page, None, str(photo), truth=truth_of_page))
            continue
        for index, line in enumerate(photo.lines, 1):
            probabilities = np.array([next(rows) for _ in line])
            chosen, share = best_division(line, np.max(probabilities, axis=1))
            parts = [Part(line[i], _rank(probabilities[i], trained.class_names)) for i in chosen]
            number = index if len(photo.lines) > 1 else None
            predictions.append(Prediction(page, photo, "", parts, share, number, truth_of_page))
    return predictions


def _rank(row: npt.NDArray[np.floating], class_names: Sequence[str]) -> list[tuple[str, float]]:
    """Returns (class name, probability) of every class, the most probable first."""
    return [(class_names[k], float(row[k])) for k in np.argsort(-row, kind="stable")]


def _make_sheets(trained: Ensemble) -> "Sheets":
    from cnn_jax.commands.predicted_sheets import Sheets  # Matplotlib takes a third of a second.

    return Sheets(trained.workdir / "pictures")


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

"""`--mode=predict`: classifies people's own pictures with a trained model."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from ml_collections import ConfigDict
from tqdm import tqdm

from cnn_jax.commands.answers import Answers
from cnn_jax.commands.inputs import Inputs, Prepare, find_inputs, ink_reader
from cnn_jax.commands.prediction import Part, Prediction
from cnn_jax.commands.truth import Score
from cnn_jax.errors import UserError
from cnn_jax.evaluation.ensemble import Ensemble
from cnn_jax.evaluation.loading import load_ensemble
from cnn_jax.evaluation.numbers import best_division
from cnn_jax.io.console import Console
from cnn_jax.preprocessing.decode import PhotoError
from cnn_jax.preprocessing.image_files import describe_passed_over
from cnn_jax.preprocessing.pages import Page
from cnn_jax.preprocessing.photo import Photo, Photos
from cnn_jax.wording import pluralize

if TYPE_CHECKING:
    from cnn_jax.commands.predicted_sheets import Sheets

_MAX_PATH_WIDTH = 60  # Characters; a longer path shifts the rest of its own line only.
_MAX_NAMED_FILES = 5  # Files that the final error names; the lines above it name all.


@dataclass(frozen=True)
class Options:
    """How pictures are read, and where the answers go.

    Attributes:
      labels: name of a CSV file with the true classes of pictures; None: folders tell them.
      prepare: as for `find_inputs`.
      as_json: whether the lines are JSON objects; the accuracy then goes to standard error.
      show: whether to draw the network inputs, and the confusion matrix, into `WORKDIR/pictures`.
      output: name of a CSV file that is written instead of the lines; None: the lines are printed.
      output_format: its form, a key of `answers.HEADERS`.
    """

    labels: str | None = None
    prepare: Prepare = "auto"
    as_json: bool = False
    show: bool = False
    output: str | None = None
    output_format: str = "csv"


def predict(
    workdir: str,
    images: Sequence[str],
    config: ConfigDict | None = None,
    step: int | None = None,
    model_index: int | None = None,
    *,
    options: Options = Options(),
    console: Console | None = None,
) -> None:
    """Prints a line for each picture or line of writing, and the accuracy where truth is known.

    Args:
      workdir: folder of the training run.
      images: files, folders, and patterns such as `*.jpg`; or a file of images.
      config: config whose `model` must equal the run's; None: the config of the run.
      step: step of the checkpoint to load; None: the newest intact checkpoint.
      model_index: index of the model, from 0; None: the ensemble of the run's models.
      options: how pictures are read, and where the answers go.
      console: receives the lines, warnings and the progress bar; default: the standard streams.

    Raises:
      UserError: for a missing model, invalid labels; after all lines, for pictures not read.
    """
    console = console or Console()
    remarks = Console(console.err) if options.as_json else console
    answers = _open_answers(images, options)
    trained = load_ensemble(workdir, step, model_index, config, console.warn)
    inputs = find_inputs(
        images, options.labels, options.prepare, trained, options.show, console.warn
    )
    if inputs.remark:
        remarks.line(inputs.remark)
    emit = answers.add if answers else _printer(console, inputs, options)
    failed: list[Prediction] = []
    sheets = _make_sheets(trained) if options.show else None
    score = Score()
    bar = tqdm(total=len(inputs), unit=" pictures", file=console.err, leave=False, disable=None)
    for pages, photos, truth in inputs.chunks():
        predictions = _predict(trained, pages, photos, truth)
        bar.clear()
        for prediction in predictions:
            emit(prediction)
            score.add(prediction.truth, prediction.label)
        bar.update(len(pages))
        failed += [p for p in predictions if not p.photo]
        if sheets:
            sheets.draw(predictions)
    bar.close()
    if sheets:
        sheets.finish(score.confusion(trained.class_names), trained)
        if sheets.drawn and not options.as_json:
            console.line(f"What the model saw: {sheets.folder}/predicted_*.png")
    if answers:
        console.line(answers.write())
    if inputs.has_truth():
        remarks.line(score.text())
    _warn_passed_over(inputs.passed_over, options.labels, console)
    if failed:
        raise _unreadable_error(failed, len(inputs))


def _open_answers(images: Sequence[str], options: Options) -> Answers | None:
    """Returns the file of answers, if there is to be one; checked before the work begins."""
    if options.output is None:
        return None
    named = [*images, options.labels] if options.labels else images
    return Answers(options.output, options.output_format, named)


def _printer(console: Console, inputs: Inputs, options: Options) -> Callable[[Prediction], None]:
    width = min(_MAX_PATH_WIDTH, inputs.name_width())
    return lambda p: console.line(p.json() if options.as_json else p.text(width))


def predict_pages(trained: Ensemble, pages: Sequence[Page]) -> list[Prediction]:
    """Predicts the class of the picture on each page, or the numbers written on it.

    Args:
      trained: models that predict.
      pages: of files in any format that Pillow reads; those of one file follow each other.

    Returns:
      One prediction for each line of writing, in the order of the pages.
    """
    return _predict(trained, pages, ink_reader(trained)(pages), [None] * len(pages))


def _predict(
    trained: Ensemble, pages: Sequence[Page], photos: Photos, truth: Sequence[str | None]
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
    for page, photo, truth_of_page in zip(pages, photos, truth, strict=True):
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
    order = np.argsort(-row, kind="stable")
    return [(class_names[k], p) for k, p in zip(order.tolist(), row[order].tolist(), strict=True)]


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

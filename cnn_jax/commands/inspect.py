"""`--mode=inspect`: draws what a trained model has learned, and how it reaches a prediction."""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnn_jax import data, train
from cnn_jax.commands.dataset import load_test_set
from cnn_jax.errors import UserError
from cnn_jax.evaluation import interpret
from cnn_jax.evaluation.loading import load
from cnn_jax.evaluation.report import ClassificationReport
from cnn_jax.evaluation.trained import TrainedModel
from cnn_jax.io.console import Console, printable
from cnn_jax.io.workdir import read_metrics
from cnn_jax.model import layers_of
from cnn_jax.nn.layer_table import Layer
from cnn_jax.plots import (
    augmented,
    curves,
    feature_maps,
    figure,
    filters,
    galleries,
    receptive_field,
    saliency,
)
from cnn_jax.plots.names import shorten
from cnn_jax.preprocessing.decode import PhotoError
from cnn_jax.preprocessing.frame import conventions_of
from cnn_jax.preprocessing.image_files import describe_passed_over, find_pictures
from cnn_jax.preprocessing.pages import list_pages
from cnn_jax.preprocessing.photo import read_photos
from cnn_jax.wording import pluralize

_MAX_FEATURE_MAP_IMAGES = 3  # Images whose feature maps are drawn.
_AUGMENTED_STEPS = 12  # Steps whose changes of an image are drawn.
_MAX_STEM_LENGTH = 40  # Characters of an image's name in the name of a file.
_MAX_TITLE_LETTERS = 30  # Width of an image's title in the title of a figure.


@dataclasses.dataclass(frozen=True)
class NamedFigure:
    """A figure, with the name of its file and a description.

    Attributes:
      stem: name of the file, without `.png`.
      description: what the figure shows, in a few words for the console.
      figure: the figure, not yet saved.
    """

    stem: str
    description: str
    figure: Figure


def inspect(
    workdir: str,
    images: Sequence[str] | None = None,
    config: ConfigDict | None = None,
    step: int | None = None,
    model_index: int | None = None,
    *,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> list[Path]:
    """Draws figures of a trained model into `WORKDIR/pictures`.

    Args:
      workdir: folder of the training run, which may still be training; receives the files.
      images: people's own pictures: files, folders, and patterns such as `*.jpg`. None: the first
        test example of each class, and in addition the most confident mistakes on the test set.
      config: config whose data set is used; its `model` must equal the run's. None: the config of
        the run.
      step: step of the checkpoint to load; None: the newest intact checkpoint.
      model_index: index of the model, from 0; required where the run trained several.
      out: receives a line for each figure; default: standard output.
      err: receives warnings; default: standard error.

    Returns:
      The paths of the files.

    Raises:
      UserError: when there is no such model, data set or picture, or a file cannot be written;
        after all figures, when pictures could not be read.
    """
    console = Console(out, err)
    trained = load(workdir, step=step, model_index=model_index, config=config, warn=console.warn)
    folder = trained.workdir / "pictures"
    if images:
        named_figures = _draw_photos(trained, images, console)
    else:
        named_figures = _draw_test_set(trained, console)
    written: list[Path] = []
    try:
        for named in named_figures:
            path = folder / f"{named.stem}.png"
            figure.save(named.figure, path)
            console.line(f"{printable(str(path))}: {named.description}")
            written.append(path)
    finally:  # Feature maps of an earlier call may show other images.
        if written:
            figure.remove(set(folder.glob("feature_maps_*.png")) - set(written))
    return written


def _draw_photos(
    trained: TrainedModel, images: Sequence[str], console: Console
) -> Iterator[NamedFigure]:
    """Draws the figures of people's own pictures."""
    conventions = conventions_of(trained.config.dataset.name, trained.image_shape)
    files = find_pictures(images)
    if files.passed_over:
        console.warn(describe_passed_over(files.passed_over))
    pages = list_pages(files.pictures, console.warn)
    if len(pages) > saliency.MAX_IMAGES:
        console.line(f"Drawing the first {saliency.MAX_IMAGES} of {len(pages):,} pictures")
        pages = pages[: saliency.MAX_IMAGES]
    photos = read_photos(pages, trained.image_shape, conventions)
    readable, image_u8, failed = [], [], []
    for page, photo in zip(pages, photos, strict=True):
        if isinstance(photo, PhotoError):
            console.line(f"{printable(str(page.path))}{page.label}  not read: it {photo}")
            failed.append(f"{page.path}{page.label} {photo}")
        else:
            readable.append(page)
            image_u8.append(photo.image_u8)
    if readable:
        stems = [page.path.stem + page.label for page in readable]
        titles = [printable(page.path.name + page.label) for page in readable]
        yield from draw(trained, np.array(image_u8), stems, titles)
    if failed:
        raise UserError(
            f"cannot read {len(failed)} of {pluralize(len(pages), 'picture')} "
            f"({', '.join(failed)}): each must be a picture that Pillow opens and that is not "
            "blank. Replace them, or leave them out of --images."
        )


def _draw_test_set(trained: TrainedModel, console: Console) -> Iterator[NamedFigure]:
    """Draws the figures of the first test example of each class, and those of the mistakes."""
    info, test = load_test_set(trained, console)
    labels, first = np.unique(test.label, return_index=True)
    names = [printable(info.class_names[label]) for label in labels]
    yield from draw(trained, test.image[first], names, [f"label {name}" for name in names])
    scores = ClassificationReport(trained.probabilities(test.image), test.label)
    drawn = galleries.draw_mistakes(scores, test.image, trained.class_names, trained.label)
    yield NamedFigure("mistakes", "most confident mistakes on the test set", drawn)
    yield from _draw_augmented(trained, test.image[first], labels, names)


def _draw_augmented(
    trained: TrainedModel,
    image_u8: npt.NDArray[np.uint8],
    label: npt.NDArray[np.int32],
    names: Sequence[str],
) -> Iterator[NamedFigure]:
    """Draws what the training would make of images, if its config asks for augmentation."""
    augmentation = train.create_augmentation(trained.config, trained.config.seed)
    if augmentation is None:
        return
    shown = slice(augmented.MAX_IMAGES)
    batch: train.Batch = {"image": jnp.array(image_u8[shown]), "label": jnp.array(label[shown])}
    augment = jax.jit(train.augment)
    steps = range(_AUGMENTED_STEPS)
    changed = np.stack([augment(augmentation, batch, jnp.int32(step))["image"] for step in steps])
    title = f"Augmentation: {trained.label}"
    drawn = augmented.draw(image_u8[shown], changed, names[shown], title)
    yield NamedFigure("augmented", "test images as training would change them", drawn)


def draw(
    trained: TrainedModel,
    image_u8: npt.NDArray[np.uint8],
    names: Sequence[str],
    titles: Sequence[str],
) -> Iterator[NamedFigure]:
    """Draws filters, receptive fields, feature maps, saliency and learning curves.

    Args:
      trained: model to inspect.
      image_u8: uint8 [N, H, W, C], 0..255, with the image shape of the model; N >= 1.
      names: name of each image, for the names of files.
      titles: title of each image, for people.

    Yields:
      One figure at a time.
    """
    layers = layers_of(trained.model, trained.image_shape)
    yield from _draw_filters(trained, layers)
    yield from _draw_maps(trained, layers, image_u8, names, titles)
    yield _draw_saliency(trained, image_u8, titles)
    if rows := read_metrics(trained.workdir):
        name = data.display_name(**trained.config.dataset)
        drawn = curves.draw(rows, f"Training of {name}")
        yield NamedFigure("learning_curves", "loss and accuracy during training", drawn)


def _draw_filters(trained: TrainedModel, layers: Sequence[Layer]) -> Iterator[NamedFigure]:
    for previous, layer in itertools.pairwise(layers):
        if layer.name not in trained.params:
            continue
        kernel = np.asarray(trained.params[layer.name]["kernel"])
        if layer.name == "linear_1":
            weights = kernel.reshape(*previous.output_shape, -1)
            drawn = filters.draw_linear(layer.name, weights, trained.class_names, previous.name)
            description = "weights of each class, as maps"
        else:
            drawn = filters.draw_convolution(layer.name, kernel, previous.name)
            source = "the image" if previous.name == "image" else previous.name
            description = f"filters of {layer.name}, which is applied to {source}"
        yield NamedFigure(f"filters_{layer.name}", description, drawn)


def _draw_maps(
    trained: TrainedModel,
    layers: Sequence[Layer],
    image_u8: npt.NDArray[np.uint8],
    names: Sequence[str],
    titles: Sequence[str],
) -> Iterator[NamedFigure]:
    """Draws the feature maps of the first images, and the receptive fields in the first one."""
    images = image_u8[:_MAX_FEATURE_MAP_IMAGES]
    batches = interpret.feature_maps(trained.model, trained.params, images)
    del batches["linear_1"]  # The figure shows the logits as probabilities.
    probability = trained.probabilities(images)
    stems = _file_stems(names)
    short_titles = shorten(titles, _MAX_TITLE_LETTERS)
    for index, image in enumerate(images):
        maps = {layer_name: batch[index] for layer_name, batch in batches.items()}
        if index == 0:
            title = f"Receptive field of each layer: {short_titles[0]}"
            drawn = receptive_field.draw(image, layers, maps, title)
            yield NamedFigure("receptive_field", "receptive field of each layer", drawn)
        title = f"Feature maps and prediction of one image: {short_titles[index]}"
        drawn = feature_maps.draw(image, maps, probability[index], trained.class_names, title)
        description = f"feature maps of every layer for one image: {titles[index]}"
        yield NamedFigure(f"feature_maps_{stems[index]}", description, drawn)


def _draw_saliency(
    trained: TrainedModel, image_u8: npt.NDArray[np.uint8], titles: Sequence[str]
) -> NamedFigure:
    images = image_u8[: saliency.MAX_IMAGES]
    predictions = [
        f"{title}\npred. {printable(trained.class_names[row.argmax()])}\n{100 * row.max():.1f} %"
        for title, row in zip(titles, trained.probabilities(images), strict=False)
    ]
    gradient = interpret.saliency(trained.model, trained.params, images)
    title = f"Saliency, the pixels that the prediction depends on: {trained.label}"
    drawn = saliency.draw(images, gradient, predictions, title)
    return NamedFigure("saliency", "pixels that each prediction depends on", drawn)


def _file_stems(names: Sequence[str]) -> list[str]:
    """Turns names into distinct, safe file names without suffix.

    Distinct means that they differ in more than the case of letters, which some file systems
    ignore.
    """
    stems: list[str] = []
    for name in names:
        stem = re.sub(r"[^\w-]+", "_", name)[:_MAX_STEM_LENGTH]
        num_same = sum(other.casefold() == stem.casefold() for other in stems)
        stems.append(f"{stem}_{num_same + 1}" if num_same else stem)
    return stems

"""`--mode=inspect`: pictures of what a network has learned, and of how it comes to an answer."""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cnn_jax import data
from cnn_jax.errors import UserError
from cnn_jax.evaluation import interpret, trained
from cnn_jax.evaluation.report import ClassificationReport
from cnn_jax.evaluation.trained import TrainedModel
from cnn_jax.io.console import Console, printable
from cnn_jax.io.workdir import read_metrics
from cnn_jax.model import layers_of
from cnn_jax.nn.shapes import Layer
from cnn_jax.plots import (
    curves,
    feature_maps,
    figure,
    filters,
    galleries,
    receptive_field,
    saliency,
)
from cnn_jax.preprocessing.decode import PhotoError
from cnn_jax.preprocessing.frame import conventions_of
from cnn_jax.preprocessing.image_files import find_pictures
from cnn_jax.preprocessing.photo import read_photos

_MOST_MAPS = 3  # Images whose feature maps are drawn.
_LONGEST = 40  # Characters of a name in a file's name.


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
      stem: the file's name without `.png`.
      shows: in words.
      figure: to be saved.
    """

    stem: str
    shows: str
    figure: Figure


def inspect(
    workdir: str,
    images: Sequence[str] | None = None,
    config: ConfigDict | None = None,
    step: int | None = None,
    number: int | None = None,
    *,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> list[Path]:
    """Writes pictures into `WORKDIR/pictures`.

    Args:
      workdir: of a training run, which may go on meanwhile.
      images: people's own pictures, as for `predict`; None: the first test example of each class,
        and then the most confident mistakes on the test set are drawn as well.
      config: names the data set, and must have the same `model`; None: that of the run.
      step: of the checkpoint; None: the newest.
      number: of the network, from 0, where several were trained at once.
      out: takes a line for each picture; default: standard output.
      err: takes warnings; default: standard error.

    Returns:
      The files.

    Raises:
      UserError: when there is no such network, data set or picture, or nothing can be written.
    """
    console = Console(out, err)
    network = trained.load(workdir, step, console.warn, config, number)
    folder = network.workdir / "pictures"
    written = []
    for picture in _own(network, images, console) if images else _of_test_set(network, console):
        path = folder / f"{picture.stem}.png"
        figure.save(picture.figure, path)
        console.line(f"{printable(str(path))}: {picture.shows}")
        written.append(path)
    figure.remove(set(folder.glob("feature_maps_*.png")) - set(written))
    return written


def _own(network: TrainedModel, images: Sequence[str], console: Console) -> Iterator[Picture]:
    """What is drawn of people's own pictures."""
    conventions = conventions_of(network.config.dataset.name, network.image_shape)
    paths = find_pictures(images)
    if len(paths) > saliency.MOST:
        console.line(f"The first {saliency.MOST} of {len(paths)} pictures are drawn")
        paths = paths[: saliency.MOST]
    image_u8 = []
    for path, photo in zip(
        paths, read_photos(paths, network.image_shape, conventions), strict=True
    ):
        if isinstance(photo, PhotoError):
            raise UserError(
                f"{path} cannot be read: it {photo}: allowed is what Pillow opens. Replace it, or "
                "leave it out of --images."
            )
        image_u8.append(photo.image_u8)
    yield from draw(
        network,
        np.array(image_u8),
        [path.stem for path in paths],
        [printable(p.name) for p in paths],
    )


def _of_test_set(network: TrainedModel, console: Console) -> Iterator[Picture]:
    """What is drawn of the first test example of each class, and of the mistakes."""
    test = data.load_test(**network.config.dataset, show_progress=console.err.isatty())
    _check_form(network, test)
    labels, first = np.unique(test.label, return_index=True)
    names = [network.class_names[label] for label in labels]
    yield from draw(network, test.image[first], names, [f"label {name}" for name in names])
    scores = ClassificationReport(network.probabilities(test.image), test.label)
    drawn = galleries.draw_mistakes(scores, test.image, network.class_names, network.label)
    yield Picture("mistakes", "what it was most sure of on the test set, and wrong about", drawn)


def _check_form(network: TrainedModel, split: data.Examples) -> None:
    shape, classes = split.image.shape[1:], int(split.label.max()) + 1
    if shape == network.image_shape and classes <= len(network.class_names):
        return
    given, allowed = ("x".join(map(str, sides)) for sides in (shape, network.image_shape))
    raise UserError(
        f"dataset.name={network.config.dataset.name} has images of {given} in {classes} classes: "
        f"allowed is what the network of {network.workdir} takes, {allowed} in "
        f"{len(network.class_names)}. Use another --config, or none for the data set of the run."
    )


def draw(
    network: TrainedModel,
    image_u8: npt.NDArray[np.uint8],
    names: Sequence[str],
    titles: Sequence[str],
) -> Iterator[Picture]:
    """Draws what `inspect` writes, one picture at a time.

    Args:
      network: to look into.
      image_u8: uint8 [N, H, W, C], 0..255, in the form that the network takes; at least one.
      names: of the images, for the files' names.
      titles: of the images, for people.
    """
    layers = layers_of(network.model, network.image_shape)
    yield from _filters(network, layers)
    yield from _maps(network, layers, image_u8, names, titles)
    yield _saliency(network, image_u8, titles)
    if rows := read_metrics(network.workdir):
        drawn = curves.draw(rows, f"Training of {network.config.dataset.name}")
        yield Picture("learning_curves", "loss and accuracy while it was trained", drawn)


def _filters(network: TrainedModel, layers: Sequence[Layer]) -> Iterator[Picture]:
    # What each layer looks at: the one before it.
    for before, layer in itertools.pairwise(layers):
        if layer.name not in network.params:
            continue
        kernel = np.asarray(network.params[layer.name]["kernel"])
        if layer.name == "linear_1":
            maps = kernel.reshape(*before.output_shape, -1)
            drawn = filters.draw_linear(layer.name, maps, network.class_names, before.name)
            yield Picture(f"filters_{layer.name}", "the weights of each class, as maps", drawn)
        else:
            drawn = filters.draw_convolution(layer.name, kernel, before.name)
            source = "the image" if before.name == "image" else before.name
            shows = f"the filters of {layer.name}, which looks at {source}"
            yield Picture(f"filters_{layer.name}", shows, drawn)


def _maps(
    network: TrainedModel,
    layers: Sequence[Layer],
    image_u8: npt.NDArray[np.uint8],
    names: Sequence[str],
    titles: Sequence[str],
) -> Iterator[Picture]:
    shown = image_u8[:_MOST_MAPS]
    of_layer = interpret.feature_maps(network.model, network.params, shown)
    del of_layer["linear_1"]  # The answer shows it, as probabilities.
    probability = network.probabilities(shown)
    stems = _file_stems(names)
    for index, image in enumerate(shown):
        maps = {name: batch[index] for name, batch in of_layer.items()}
        if index == 0:
            title = f"How much of the image each layer sees, its receptive field: {titles[0]}"
            drawn = receptive_field.draw(image, layers, maps, title)
            yield Picture("receptive_field", "how much of the image each layer sees", drawn)
        title = f"What the network makes of one image: {titles[index]}"
        drawn = feature_maps.draw(image, maps, probability[index], network.class_names, title)
        shows = f"the maps of every layer for one image: {titles[index]}"
        yield Picture(f"feature_maps_{stems[index]}", shows, drawn)


def _saliency(
    network: TrainedModel, image_u8: npt.NDArray[np.uint8], titles: Sequence[str]
) -> Picture:
    shown = image_u8[: saliency.MOST]
    answers = [
        f"{title}\nsays {network.class_names[row.argmax()]}\n{100 * row.max():.1f} %"
        for title, row in zip(titles, network.probabilities(shown), strict=False)
    ]
    gradient = interpret.saliency(network.model, network.params, shown)
    drawn = saliency.draw(
        shown, gradient, answers, f"Which pixels the answer hangs on: {network.label}"
    )
    return Picture("saliency", "the pixels that each answer hangs on", drawn)


def _file_stems(names: Sequence[str]) -> list[str]:
    """Of each name what may stand in a file's name, no two alike."""
    stems: list[str] = []
    for name in names:
        stem = re.sub(r"[^\w-]+", "_", name)[:_LONGEST]
        taken = sum(other.casefold() == stem.casefold() for other in stems)
        stems.append(f"{stem}_{taken + 1}" if taken else stem)
    return stems

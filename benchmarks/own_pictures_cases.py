"""Pictures whose digits are known, and how a model reads them; for `own_pictures.py`."""

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from benchmarks import papers
from cnn_jax.commands.predict import predict_pages
from cnn_jax.evaluation.ensemble import Ensemble
from cnn_jax.preprocessing.pages import Page


@dataclasses.dataclass(frozen=True)
class Case:
    """A picture and what is on it.

    Attributes:
      path: of the picture.
      kind: `empty`, `single`, `number`, or the kind of another picture.
      truth: the digits on it; empty for none, None where they are not known.
    """

    path: Path
    kind: str
    truth: str | None


@dataclasses.dataclass(frozen=True)
class Reading:
    """A prediction for all lines of a picture, and whether each line was sure."""

    case: Case
    label: str
    is_sure: bool

    @property
    def is_right(self) -> bool:
        return self.label == self.case.truth


def draw_papers(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer], folder: Path, seed: int
) -> Iterator[Case]:
    """Draws 64 empty papers of 200 to 3,000 pixels, and the same with one digit.

    Args:
      images: uint8 [N, 28, 28], MNIST's test images.
      labels: [N], their digits.
      folder: receives the pictures.
      seed: of all that is random.
    """
    for kind, number in [(kind, n) for kind in papers.KINDS for n in range(8)]:
        for is_written in (False, True):
            random = np.random.default_rng([seed, papers.KINDS.index(kind), number])
            size = papers.random_size(200, 3000, random)
            paper = papers.draw_paper(kind, size, random)
            truth = ""
            if is_written:
                index = int(random.integers(len(images)))
                truth = str(labels[index])
                height = int(min(size) * random.uniform(0.25, 0.6))
                ink = papers.enlarge_digit(images[index], height)
                papers.write(paper, ink, light=kind == "dark", random=random)
            path = folder / f"{'single' if is_written else 'empty'}_{kind}_{number}.png"
            papers.photograph(paper, random).save(path)
            yield Case(path, "single" if is_written else "empty", truth)


def draw_numbers(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer], folder: Path, seed: int
) -> Iterator[Case]:
    """Draws 200 numbers of 2 to 5 digits, of which a third touch; arguments as `draw_papers`."""
    for number in range(200):
        random = np.random.default_rng([seed, 100, number])
        kind = papers.KINDS[number % len(papers.KINDS)]
        chosen = random.integers(0, len(images), int(random.integers(2, 6)))
        height = int(random.uniform(40, 150))
        digits = [
            papers.enlarge_digit(images[index], int(height * random.uniform(0.85, 1.15)))
            for index in chosen
        ]
        ink = papers.join_digits(digits, touch=random.random() < 0.35, random=random)
        size = int(len(ink) * random.uniform(1.3, 5)), int(ink.shape[1] * random.uniform(1.2, 3))
        paper = papers.draw_paper(kind, size, random)
        papers.write(paper, ink, light=kind == "dark", random=random)
        path = folder / f"number_{kind}_{number}.png"
        papers.photograph(paper, random).save(path)
        yield Case(path, "number", "".join(str(labels[index]) for index in chosen))


def own_digits(folder: Path) -> list[Case]:
    """Lists pictures of `labels.csv` (file, label, kind); those of several digits have no label."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        return [
            Case(folder / row["file"], row["kind"], row["label"] or None)
            for row in csv.DictReader(file)
        ]


def read(model: Ensemble, cases: list[Case]) -> list[Reading]:
    """Reads pictures as `--mode=predict` does; a picture that is not read is not sure."""
    readings = []
    for start in range(0, len(cases), 100):
        chunk = cases[start : start + 100]
        predictions = predict_pages(model, [Page(case.path) for case in chunk])
        for case in chunk:
            lines = [p for p in predictions if p.page.path == case.path]
            is_sure = all(line.photo is not None and not line.unsure for line in lines)
            label = " ".join(line.label or "" for line in lines)
            readings.append(Reading(case, label, is_sure))
    return readings


def read_as_tutorials(model: Ensemble, cases: list[Case]) -> list[bool]:
    """Returns whether each picture is read right if it is made grey, inverted and resized."""
    images = []
    for case in cases:
        with Image.open(case.path) as picture:
            upright = ImageOps.exif_transpose(picture).convert("L").resize((28, 28))
        grey = np.asarray(upright)
        images.append(255 - grey if np.mean(grey) > 127 else grey)
    rows = model.probabilities(np.array(images, np.uint8)[..., np.newaxis])
    names = [model.class_names[index] for index in np.argmax(rows, axis=1)]
    return [name == case.truth for name, case in zip(names, cases, strict=True)]

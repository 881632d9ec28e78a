"""A prediction for one line of writing, or a whole picture, as a line of text or JSON."""

import dataclasses
import json
import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn_jax.io.console import printable
from cnn_jax.preprocessing.pages import Page
from cnn_jax.preprocessing.photo import Crop, Photo

# A prediction with less is called unsure: docs/own-pictures.md says for how many mistakes and right
# predictions of four models that is so.
LOW_PROBABILITY = 0.7
_NUM_RUNNERS_UP = 2  # Classes that are printed after the most probable one.


@dataclasses.dataclass(frozen=True)
class Part:
    """A digit, or all that a picture shows.

    Attributes:
      crop: the part of the picture.
      ranking: (class name, probability 0..1) of every class, the most probable first.
    """

    crop: Crop
    ranking: Sequence[tuple[str, float]]


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction for one line of writing on one page, or the reason why there is none.

    Attributes:
      page: the page and its file.
      photo: the picture; None where it cannot be read.
      error: reason why it cannot be read, such as `is empty`.
      parts: what the line shows, from left to right: digits, or else all of it; empty where the
        file cannot be read.
      share: 0..1, probability that the line is divided in this way.
      line: number of the line, from 1; None where the page has only one.
      truth: the class or number that the picture is known to show, or None.
    """

    page: Page
    photo: Photo | None
    error: str = ""
    parts: Sequence[Part] = ()
    share: float = 1.0
    line: int | None = None
    truth: str | None = None

    @property
    def name(self) -> str:
        """Returns the name of the file, the page and the line."""
        line = "" if self.line is None else f" line {self.line}"
        return printable(f"{self.page.path}{self.page.label}{line}")

    @property
    def label(self) -> str | None:
        """Returns the predicted class or number, or None where the file cannot be read."""
        return "".join(part.ranking[0][0] for part in self.parts) or None

    @property
    def probability(self) -> float:
        """Returns the probability of all of it, 0..1."""
        return float(self.share * np.prod([part.ranking[0][1] for part in self.parts]))

    @property
    def unsure(self) -> bool:
        """Returns whether the line may show something else, or nothing."""
        is_doubtful = self.photo is not None and self.photo.is_doubtful
        return is_doubtful or bool(self.probability < LOW_PROBABILITY)

    def text(self, width: int) -> str:
        """Returns one line for people.

        Args:
          width: number of characters that the path is padded to.
        """
        start = f"{self.name:<{width}}"
        if not self.photo:
            return f"{start}  not read: it {self.error}"
        has_digits = are_digits([name for name, _ in self.parts[0].ranking])
        noun = "digit" if has_digits else "class of its training set"
        note = f"unsure: perhaps no {noun}" if self.unsure else None
        is_right = self.truth == self.label
        verdict = "right" if is_right else self.truth and f"wrong: it is {self.truth}"
        remarks = "; ".join(filter(None, (self.photo.polarity, note, verdict)))
        runners_up = ""
        if len(self.parts) == 1:
            rest = self.parts[0].ranking[1 : 1 + _NUM_RUNNERS_UP]
            runners_up = f"then {', '.join(f'{n} {100 * p:.1f} %' for n, p in rest)}  "
        line = f"{start}  {self.label}  {100 * self.probability:5.1f} %  {runners_up}{remarks}"
        return line.rstrip()

    def json(self) -> str:
        """Returns one line for programs: a JSON object with `path`, and either `error` or the rest.

        A file of several pages also has `page`, a page of several lines `line`, both from 1, a file
        of images `row`, from 0, or `id`, and a picture of known class `truth`. The rest: `label`,
        the predicted class or number; `probability` of all of it; for a single class `next`, the
        two classes after it, and `probabilities`, of all classes; for digits `digits`, the `label`,
        `probability` and `box` of each, its left, upper, right and lower end in pixels of the
        upright picture; `polarity`, `dark on light`, `light on dark` or null; `unsure`, whether the
        probability is low or perhaps nothing is written.
        """
        start: dict[str, Any] = {"path": str(self.page.path)}
        if self.page.number is not None:
            start[self.page.unit] = self.page.number
        if self.line is not None:
            start["line"] = self.line
        if self.truth is not None:
            start["truth"] = self.truth
        if not self.photo:
            return json.dumps({**start, "error": f"it {self.error}"})
        content = {**start, "label": self.label, "probability": self.probability}
        if len(self.parts) == 1:
            ranking = self.parts[0].ranking
            rest = ranking[1 : 1 + _NUM_RUNNERS_UP]
            content["next"] = [{"label": n, "probability": p} for n, p in rest]
            content["probabilities"] = dict(ranking)
        if are_digits([name for name, _ in self.parts[0].ranking]):
            content["digits"] = [
                {
                    "label": part.ranking[0][0],
                    "probability": part.ranking[0][1],
                    "box": list(part.crop.box),
                }
                for part in self.parts
            ]
        content |= {"polarity": self.photo.polarity, "unsure": self.unsure}
        return json.dumps(content, allow_nan=False)


def are_digits(class_names: Sequence[str]) -> bool:
    """Returns whether all classes are digits, so that several side by side are a number."""
    return all(len(name) == 1 and name in string.digits for name in class_names)

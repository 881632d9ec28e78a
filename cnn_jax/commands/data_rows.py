"""The images of a file that are prepared already, such as the lines of a CSV file of pixels."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from cnn_jax.commands.prediction import Prediction
from cnn_jax.data.formats.split import ArraySplit, Split, is_labelled
from cnn_jax.preprocessing.pages import Page
from cnn_jax.preprocessing.photo import Photo, Photos, plain_photo
from cnn_jax.wording import pluralize


class Rows:
    """The images of a file or folder in a format of `data.formats`; see `inputs.Inputs`.

    Attributes:
      remark: the format, the number of images, and how they are prepared, for people.
      passed_over: empty.
    """

    def __init__(
        self,
        path: Path,
        file_format: str,
        split: Split,
        class_names: Sequence[str],
        keep_original: bool,
    ) -> None:
        """Names the images.

        Args:
          path: the file or folder.
          file_format: in a few words, for people.
          split: the images, which `read` brings to the form of the model's.
          class_names: names of the model's classes.
          keep_original: whether figures will show the images.
        """
        self.passed_over: Sequence[Path] = ()
        self.remark = f"Data: {file_format}: {pluralize(len(split.label), 'image')}; prepare: plain"
        self._path = path
        self._split = split
        self._truth = _known_classes(split, class_names)
        self._keep_original = keep_original

    def __len__(self) -> int:
        return len(self._split.label)

    def name_width(self) -> int:
        return len(Prediction(self._page(len(self) - 1), None).name)

    def has_truth(self) -> bool:
        return self._truth is not None

    def chunks(self) -> Iterator[tuple[Sequence[Page], Photos, Sequence[str | None]]]:
        row = 0
        for images in self._split.read_chunks(np.arange(len(self))):
            rows = range(row, row + len(images))
            row += len(images)
            photos: Photos = [self._photo(image_u8) for image_u8 in images]
            truth = self._truth[rows.start : rows.stop] if self._truth else [None] * len(rows)
            yield [self._page(number) for number in rows], photos, truth

    def _page(self, row: int) -> Page:
        has_ids = isinstance(self._split, ArraySplit) and self._split.ids is not None
        return Page(self._path, int(self._split.key(row)), "id" if has_ids else "row")

    def _photo(self, image_u8: npt.NDArray[np.uint8]) -> Photo:
        height, width, channels = image_u8.shape
        original = None
        if self._keep_original:
            original = Image.fromarray(image_u8[..., 0] if channels == 1 else image_u8)
        return plain_photo(image_u8, (width, height), original)


def _known_classes(split: Split, class_names: Sequence[str]) -> list[str | None] | None:
    """Returns the name of each image's class where it is one of the model's.

    Numbers are names where the model has them, and else count the classes from 0 or 1.

    Args:
      split: the images.
      class_names: names of the model's classes.

    Returns:
      A name or None for each image; None where the split has no labels.
    """
    if not is_labelled(split):
        return None
    known: dict[int, str | None] = {}
    values = np.unique(split.label).tolist()
    names = [split.class_names[value] if split.class_names else str(value) for value in values]
    if split.class_names or all(name in class_names for name in names):
        known = {v: n if n in class_names else None for v, n in zip(values, names, strict=True)}
    else:
        first = int(values[0] == 1 and values[-1] == len(class_names))
        known = {first + index: name for index, name in enumerate(class_names)}
    return [known.get(value) for value in split.label.tolist()]

"""Lists the pages of picture files: of a scan, or the frames of an animation."""

import contextlib
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cnn_jax.preprocessing.decode import open_picture
from cnn_jax.preprocessing.formats import load_formats

MAX_PAGES = 100  # Per file. An animation may have thousands of frames, which differ little.

# Other formats keep one picture in several forms: an icon's sizes, a drawing's layers, and the two
# views that a phone writes into one JPEG or HEIC.
_PAGED_FORMATS = ("TIFF", "GIF", "PNG", "WEBP", "AVIF")
_NEW_SUBFILE_TYPE = 254  # Tag of TIFF 6.0.
_REDUCED_OR_MASK = 0b101  # Its bits for a smaller copy, and for a mask, of another page.


@dataclass(frozen=True)
class Page:
    """One page of a picture file, or one image of another file.

    Attributes:
      path: of the file.
      number: of the page, from 1; None for the picture of a file with one page.
      unit: what the number counts: `page`; of other files `row`, from 0, or `id`.
    """

    path: Path
    number: int | None = None
    unit: str = "page"

    @property
    def label(self) -> str:
        """Returns the text that follows the file's name: ` page 2`, or nothing for one page."""
        return "" if self.number is None else f" {self.unit} {self.number}"


def list_pages(paths: Sequence[Path], warn: Callable[[str], None]) -> list[Page]:
    """Lists the pages of files, of each file in their order.

    Args:
      paths: of files. A file that is not a picture counts as one page, so that the error of reading
        it names it.
      warn: receives one text for each file of which pages are left out: it has more than
        `MAX_PAGES`, or is damaged.
    """
    load_formats()
    pages: list[Page] = []
    for path in paths:
        numbers, remark = _count(path)
        if remark:
            warn(f"{os.fspath(path)} {remark}")
        pages += [Page(path)] if numbers in ([], [1]) else [Page(path, n) for n in numbers]
    return pages


def _count(path: Path) -> tuple[list[int], str]:
    """Returns the numbers of a file's pages, none if it is no picture, and a remark or nothing."""
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")  # About odd metadata.
        try:
            picture = stack.enter_context(open_picture(path, _PAGED_FORMATS))
        except Exception:  # Pillow's decoders raise exceptions of every kind.
            return [], ""
        try:
            count = int(getattr(picture, "n_frames", 1))
            numbers = _page_numbers(picture, min(count, MAX_PAGES))
        except Exception:
            return [], "is damaged: its pages cannot be counted, and only the first one is read"
    if count <= MAX_PAGES:
        return numbers, ""
    split = "Split it into smaller files to read the others."
    return numbers, f"has {count:,} pages: the first {MAX_PAGES} are read. {split}"


def _page_numbers(picture: Image.Image, count: int) -> list[int]:
    """Returns the numbers, from 1, of those of the first `count` pages that are pictures."""
    if picture.format != "TIFF" or count == 1:
        return list(range(1, count + 1))
    numbers = []
    for index in range(count):
        picture.seek(index)  # Reads the page's tags alone.
        kind = getattr(picture, "tag_v2", {}).get(_NEW_SUBFILE_TYPE, 0)
        if not int(kind) & _REDUCED_OR_MASK:
            numbers.append(index + 1)
    return numbers

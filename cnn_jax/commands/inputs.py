"""Finds the images that `--images` names: pictures, or a file of images that are prepared."""

import dataclasses
import functools
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from cnn_jax.commands.data_rows import Rows
from cnn_jax.commands.prediction import Prediction, are_digits
from cnn_jax.commands.truth import find_truth
from cnn_jax.data import files
from cnn_jax.data.file_set import Settings, choose_test
from cnn_jax.data.formats.detect import find_file, find_folder
from cnn_jax.data.formats.pictures import PictureSplit
from cnn_jax.data.formats.split import Form, Found, is_labelled, read_error
from cnn_jax.errors import UserError
from cnn_jax.evaluation.ensemble import Ensemble
from cnn_jax.preprocessing.decode import PhotoError, open_picture, read_as_is
from cnn_jax.preprocessing.formats import load_formats, picture_suffixes
from cnn_jax.preprocessing.frame import conventions_of
from cnn_jax.preprocessing.image_files import find_pictures
from cnn_jax.preprocessing.pages import Page, list_pages
from cnn_jax.preprocessing.photo import Photos, plain_photo, read_photos
from cnn_jax.preprocessing.processes import read_chunks

Prepare = Literal["auto", "ink", "plain"]
Chunk = tuple[Sequence[Page], Photos, Sequence[str | None]]

_INK_CHUNK = 50  # Pages that a process searches for ink at a time: half a second.
_PLAIN_CHUNK = 1000  # Pictures that it only decodes.
_ADVICE = "Give --images fewer or smaller pictures."


class Inputs(Protocol):
    """Images whose classes are asked for.

    Attributes:
      remark: how they are prepared, for people; empty: ink is found, as on pictures by default.
      passed_over: files in folders that are no pictures.
    """

    @property
    def remark(self) -> str: ...

    @property
    def passed_over(self) -> Sequence[Path]: ...

    def __len__(self) -> int: ...

    def name_width(self) -> int:
        """Returns the number of characters of the longest name."""

    def has_truth(self) -> bool:
        """Returns whether the class of any is known."""

    def chunks(self) -> Iterator[Chunk]:
        """Yields some of the images at a time: name, image and known class of each."""


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Picture files; see `Inputs`.

    Attributes:
      pages: of the files, in their order.
      truth: the classes of files, where they are known.
      read: reads pages.
      chunk_size: pages that one process reads at a time.
      remark: see `Inputs`.
      passed_over: see `Inputs`.
    """

    pages: Sequence[Page]
    truth: Mapping[Path, str]
    read: Callable[[Sequence[Page]], Photos]
    chunk_size: int
    remark: str
    passed_over: Sequence[Path]

    def __len__(self) -> int:
        return len(self.pages)

    def name_width(self) -> int:
        return max(len(Prediction(page, None).name) for page in self.pages)

    def has_truth(self) -> bool:
        return bool(self.truth)

    def chunks(self) -> Iterator[Chunk]:
        for pages, photos in read_chunks(self.read, self.pages, self.chunk_size, _ADVICE):
            yield pages, photos, [self.truth.get(page.path) for page in pages]


def find_inputs(
    images: Sequence[str],
    labels: str | None,
    prepare: Prepare,
    trained: Ensemble,
    keep_original: bool,
    warn: Callable[[str], None],
) -> Inputs:
    """Finds what `--images` names.

    Args:
      images: files, folders, and patterns such as `*.jpg`; or one file, or one folder without
        pictures, in a format of `data.formats`.
      labels: name of a CSV file with the true classes of pictures; None: folders tell them.
      prepare: `ink`: what is drawn on a picture is found, and framed like the training images;
        `plain`: pictures are decoded as training images are; `auto`: plain for a file of images,
        and for pictures like those of a training set of people's own files; else ink.
      trained: the models.
      keep_original: whether figures will show the pictures.
      warn: receives warnings about labels and pages.

    Raises:
      UserError: when nothing is named, a file is damaged, or flags exclude each other.
    """
    paths, passed_over = find_pictures(images)
    height, width, channels = trained.image_shape
    form = Form(channels, (height, width))
    if of_images := _find_file_of_images(paths):
        path, found = of_images
        # What is transposed in the training set's files is so here.
        as_trained = dataclasses.replace(form, transpose=trained.config.dataset.transpose)
        split = choose_test(f"--images={path}", found.open(as_trained))
        if not (isinstance(split, PictureSplit) and split.root.is_dir()):
            _check_flags(path, labels, prepare)
            return Rows(path, found.format, split, trained.class_names, keep_original)
        paths = [split.root / str(name) for name in split.pictures]
        labels = labels or (str(path) if is_labelled(split) else None)
    prepare, remark = _choose(prepare, paths, trained)
    truth = find_truth(images, labels, paths, trained.class_names, warn)
    if prepare == "plain":
        read_plain = functools.partial(_read_plain, form=form, keep_original=keep_original)
        pages = [Page(path) for path in paths]
        return Pictures(pages, truth, read_plain, _PLAIN_CHUNK, remark, passed_over)
    pages, read_ink = list_pages(paths, warn), ink_reader(trained, keep_original=keep_original)
    return Pictures(pages, truth, read_ink, _INK_CHUNK, remark, passed_over)


def ink_reader(
    trained: Ensemble, *, keep_original: bool = False
) -> Callable[[Sequence[Page]], Photos]:
    """Returns the function that finds the ink on pages, and divides numbers."""
    return functools.partial(
        read_photos,
        image_shape=trained.image_shape,
        conventions=conventions_of(trained.config.dataset.name, trained.image_shape),
        divide=are_digits(trained.class_names),
        keep_original=keep_original,
    )


def _find_file_of_images(paths: Sequence[Path]) -> tuple[Path, Found] | None:
    """Finds the one file, or folder, that is of images and no picture; None: there is none."""
    for path in paths:
        if found := _detect(path):
            if len(paths) == 1:
                return path, found
            raise UserError(
                f"--images names {path} and other files: a file of images must be the only one. "
                "Name it alone."
            )
    return None


def _detect(path: Path) -> Found | None:
    try:
        if os.path.isdir(path):
            return find_folder(path, needs_labels=False)
        if path.suffix.lower() in picture_suffixes():
            return None
        return find_file(path, needs_labels=False)
    except zipfile.BadZipFile as error:
        must, advice = "be a whole file", "Get the file again from where you have it."
        raise read_error(path, f"it is damaged: {error}", must, advice) from error
    except OSError:
        return None  # It is reported when it is read as a picture.


def _check_flags(path: Path, labels: str | None, prepare: Prepare) -> None:
    if labels is not None:
        raise UserError(
            f"--labels={labels} has no effect with --images={path}: only pictures have labels of "
            "their own. Omit it."
        )
    if prepare == "ink":
        raise UserError(
            f"--prepare=ink has no effect with --images={path}: its images are prepared. Omit it, "
            "or name pictures."
        )


def _choose(prepare: Prepare, paths: Sequence[Path], trained: Ensemble) -> tuple[Prepare, str]:
    """Returns how pictures are prepared, and a remark where that is not told by `prepare`."""
    dataset = trained.config.dataset
    if prepare != "auto" or dataset.name != files.NAME:
        return "plain" if prepare == "plain" else "ink", ""
    if any(Settings.of(dataset).image_size):
        return "plain", "Prepare: plain, as the training set's files, which have any size (auto)"
    height, width, _ = trained.image_shape
    if all(_size_of(path) in (None, (width, height)) for path in paths):
        reason = f"since all pictures are {width}x{height}, as those of the training set (auto)"
        return "plain", f"Prepare: plain, {reason}"
    reason = f"since not all pictures are {width}x{height}, as those of the training set (auto)"
    return "ink", f"Prepare: ink, {reason}"


def _size_of(path: Path) -> tuple[int, int] | None:
    """Returns width and height of a picture in its file; None where it cannot be read."""
    load_formats()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # About odd metadata.
        try:
            with open_picture(path) as picture:
                return picture.size
        except Exception:  # Pillow's decoders raise exceptions of every kind.
            return None


def _read_plain(pages: Sequence[Page], form: Form, keep_original: bool) -> Photos:
    """Decodes pictures as `data.formats` does."""
    load_formats()
    photos: Photos = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # About odd metadata.
        for page in pages:
            try:
                picture = read_as_is(page.path)
                original = picture if keep_original else None
                photos.append(plain_photo(form.convert(picture), picture.size, original))
            except PhotoError as error:
                photos.append(error)
    return photos

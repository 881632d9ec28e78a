"""Downloads, verifies and prepares MNIST, Fashion-MNIST and KMNIST with TFDS, without TensorFlow.

TFDS's builders unpack and encode the images with TensorFlow. The subclasses in this module inherit
the version, features, URLs, file names and checksums, but unpack with Python's gzip and encode PNG
files with Pillow. They write the same folder as TFDS.
"""

import contextlib
import dataclasses
import hashlib
import io
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cnn_jax.data.idx import read_idx
from cnn_jax.errors import UserError

IMAGE_SHAPE = (28, 28, 1)
NUM_CLASSES = 10
_PROBE_SECONDS = 6.0

# Images and labels of a split.
Arrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


@dataclasses.dataclass(frozen=True)
class Original:
    """Description of the four original files of a data set.

    Attributes:
      builder: name of the builder class in `tfds.image_classification`.
      class_names: name of each class, in the order of the labels.
      sha256: for each split, the SHA-256 of its pixels and of its labels, without the IDX headers
        and unpacked, so that it does not depend on how the file was compressed. None if it is not
        known; the files are then verified by the number of examples per class, which is equal for
        all classes of such a data set.
    """

    builder: str
    class_names: tuple[str, ...]
    sha256: Mapping[str, tuple[str, str]] | None


SHARD_LENGTHS = {"train": [60_000], "test": [10_000]}
FILE_NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

ORIGINALS: Mapping[str, Original] = {
    "mnist": Original(
        "MNIST",
        tuple("0123456789"),
        {
            "train": (
                "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
                "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
            ),
            "test": (
                "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
                "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
            ),
        },
    ),
    "fashion_mnist": Original(
        "FashionMNIST",
        (
            *("T-shirt", "trousers", "pullover", "dress", "coat"),
            *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
        ),
        {
            "train": (
                "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
                "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
            ),
            "test": (
                "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
                "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
            ),
        },
    ),
    "kmnist": Original(
        "KMNIST", ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"), None
    ),
}


def find_originals(folder: Path) -> dict[str, Path]:
    """Returns the path of each of the four original files in a folder.

    Args:
      folder: folder that holds each file as `.gz` or unpacked.

    Returns:
      For each of `FILE_NAMES`, the path; that of the `.gz` file if both exist.

    Raises:
      UserError: if a file is missing; the message names the first one.
    """
    paths = {}
    for file_name in (name for names in FILE_NAMES.values() for name in names):
        existing = [p for p in (folder / f"{file_name}.gz", folder / file_name) if p.exists()]
        if not existing:
            raise UserError(
                f"dataset.manual_dir={folder} is invalid: it must hold all four original files, "
                f"and lacks {file_name}.gz (or {file_name}, unpacked). Put them there, or leave "
                "dataset.manual_dir empty to download them."
            )
        paths[file_name] = existing[0]
    return paths


def read_originals(name: str, paths: Mapping[str, Path]) -> dict[str, Arrays]:
    """Reads and verifies the four original files of a data set.

    Args:
      name: a key of `ORIGINALS`.
      paths: path of each of `FILE_NAMES`.

    Returns:
      For `train` and `test`: images, uint8 [N, 28, 28], and labels, uint8 [N].

    Raises:
      UserError: if a file is not the original; the message names it and what is wrong with it.
    """
    return {
        split: _read_split(name, split, paths[image_name], paths[label_name])
        for split, (image_name, label_name) in FILE_NAMES.items()
    }


def _read_split(name: str, split: str, image_path: Path, label_path: Path) -> Arrays:
    """Reads and verifies the images and the labels of one split."""
    (num_examples,) = SHARD_LENGTHS[split]
    image = read_idx(image_path, (num_examples, *IMAGE_SHAPE[:2]))
    label = read_idx(label_path, (num_examples,))
    if (largest := int(label.max())) >= NUM_CLASSES:
        raise UserError(
            f"cannot use {label_path} (it has the label {largest}): its labels must be in "
            f"0..{NUM_CLASSES - 1}. Put the original file there."
        )
    sha256 = ORIGINALS[name].sha256
    if sha256 is None:
        counts = np.bincount(label, minlength=NUM_CLASSES)
        if (counts != num_examples // NUM_CLASSES).any():
            raise _not_original_error(label_path, name)
        return image, label
    for path, array, digest in zip(
        (image_path, label_path), (image, label), sha256[split], strict=True
    ):
        if hashlib.sha256(array.tobytes()).hexdigest() != digest:
            raise _not_original_error(path, name)
    return image, label


def _not_original_error(path: Path, name: str) -> UserError:
    return UserError(
        f"cannot use {path} (its contents are not those of {name}): it must be the original file. "
        "Put the original file there, or change dataset.name."
    )


def prepare(name: str, data_dir: Path, manual_dir: Path | None, show_progress: bool) -> None:
    """Writes `data_dir/NAME/VERSION` in the array_record format, from the four original files.

    TFDS writes into a folder with a temporary name and renames it when it is complete. So an
    interrupted preparation leaves no folder that counts as prepared, and if two processes prepare
    the same data set, the folder of the first remains.

    Args:
      name: a key of `ORIGINALS`.
      data_dir: TFDS's data folder.
      manual_dir: folder with the four files; None: download them to `data_dir/downloads`, with
        TFDS's URLs and checksums.
      show_progress: whether TFDS draws progress bars on standard error.

    Raises:
      UserError: if the files are not the original ones or cannot be downloaded, or `data_dir`
        cannot be written.
    """
    # Verifies the user's files before TFDS creates a folder.
    arrays = read_originals(name, find_originals(manual_dir)) if manual_dir else None
    builder = _builder(name, data_dir, arrays)
    if arrays is None:
        _check_server(builder.URL, name)
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    if show_progress:
        print(f"Preparing {name} in {data_dir}", file=sys.stderr)
    else:
        tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Lines of TFDS do not belong there.
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
    except (tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise _download_error(name, builder.URL, str(error)) from error
    except OSError as error:
        if (Path(builder.data_dir) / "dataset_info.json").exists():
            return  # Another process has prepared the same data set in the meantime.
        if error.filename is None and error.errno is None:  # From the network, not the disk.
            raise _download_error(name, builder.URL, str(error)) from error
        raise UserError(
            f"cannot prepare {name} in {data_dir} ({error.strerror or error}): dataset.data_dir "
            "must be writable and have 100 MB of free space. Free space, or choose another "
            "dataset.data_dir."
        ) from error


def _builder(name: str, data_dir: Path, arrays: dict[str, Arrays] | None) -> Any:
    """Returns a TFDS builder that needs no TensorFlow.

    Args:
      name: a key of `ORIGINALS`.
      data_dir: TFDS's data folder.
      arrays: images and labels of each split; None: the builder downloads and verifies the files.
    """
    import tensorflow_datasets as tfds

    original = ORIGINALS[name]
    parent: Any = getattr(tfds.image_classification, original.builder)

    class Builder(parent, skip_registration=True):  # type: ignore[call-arg, misc]
        """TFDS's builder, but with reading and encoding in plain Python."""

        # TFDS saves the module of the builder; with the parent's, any TFDS can read the folder.
        __module__ = parent.__module__

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
            source = arrays
            if source is None:
                urls = {n: f"{self.URL}{n}.gz" for names in FILE_NAMES.values() for n in names}
                source = read_originals(name, dl_manager.download(urls))
            return {split: self._generate_examples(*source[split]) for split in source}

        def _generate_examples(
            self, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]
        ) -> Iterator[tuple[int, dict[str, Any]]]:
            for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                png = io.BytesIO()
                Image.fromarray(image).save(png, "PNG")
                png.seek(0)
                yield index, {"image": png, "label": int(label)}

    Builder.name = name
    return Builder(data_dir=data_dir, file_format="array_record")


def _check_server(url: str, name: str) -> None:
    """Checks that the server answers, because TFDS would retry for more than three minutes.

    Args:
      url: URL of the folder with the four files.
      name: name of the data set, for the message.

    Raises:
      UserError: if the server does not answer within a few seconds, or has no such file.
    """
    import requests  # TFDS depends on it and downloads with it; it honours proxies.

    answered = threading.Event()
    problem = ["no answer"]

    def probe() -> None:
        try:
            file = f"{url}{FILE_NAMES['train'][0]}.gz"
            response = requests.head(file, timeout=_PROBE_SECONDS, allow_redirects=True)
            if response.ok:
                answered.set()
            problem[0] = f"HTTP status {response.status_code}"
        except requests.RequestException as error:
            problem[0] = type(error).__name__

    # In a thread, because the lookup of a host name has no timeout.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS)
    if not answered.is_set():
        raise _download_error(name, url, problem[0])


def _download_error(name: str, url: str, problem: str) -> UserError:
    return UserError(
        f"cannot download {name} from {url} ({problem}): the original files must be available "
        "there. Connect to the network, or put the four files into a folder and use "
        "--config.dataset.manual_dir=FOLDER, or set TFDS_DATA_DIR to a folder in which TFDS has "
        "prepared it, or use the bundled digits: --config=configs/digits.py."
    )

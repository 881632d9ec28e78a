"""Prepares MNIST, Fashion-MNIST and KMNIST as TFDS would, without TensorFlow.

TFDS's own builder asks TensorFlow to unpack and to encode. The subclass made here takes its
version, features, addresses, file names and checksums as they are, unpacks with Python's gzip and
hands over ready PNG files, so that the folder it writes is the standard one of TFDS.
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

Arrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


@dataclasses.dataclass(frozen=True)
class Original:
    """What the four original files of a data set must hold.

    Attributes:
      builder: name of the builder class in `tfds.image_classification`.
      class_names: what each label stands for.
      sha256: of the pixels and the labels of each split, without the IDX headers, so that the
        gzip wrapping does not matter; None where no copy was at hand to derive it from, and
        then the classes, which are of equal size in every split of that set, are counted.
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
    """The path of each of the four files, as `.gz` or unpacked.

    Raises:
      UserError: naming the first that is missing.
    """
    paths = {}
    for file_name in (name for names in FILE_NAMES.values() for name in names):
        found = [p for p in (folder / f"{file_name}.gz", folder / file_name) if p.exists()]
        if not found:
            raise UserError(
                f"{folder} holds no {file_name}.gz and no {file_name}: all four original files "
                "are needed. Put them there, or leave dataset.manual_dir empty to download them."
            )
        paths[file_name] = found[0]
    return paths


def read_originals(name: str, paths: Mapping[str, Path]) -> dict[str, Arrays]:
    """Reads and verifies the four original files of a data set.

    Args:
      name: a key of `ORIGINALS`.
      paths: where each of `FILE_NAMES` is.

    Returns:
      For `train` and `test`: uint8 images [N, 28, 28] and uint8 labels [N].

    Raises:
      UserError: naming the file that is not the original, and what is wrong with it.
    """
    return {
        split: _read_split(name, split, paths[image_name], paths[label_name])
        for split, (image_name, label_name) in FILE_NAMES.items()
    }


def _read_split(name: str, split: str, image_path: Path, label_path: Path) -> Arrays:
    (num_examples,) = SHARD_LENGTHS[split]
    image = read_idx(image_path, (num_examples, *IMAGE_SHAPE[:2]))
    label = read_idx(label_path, (num_examples,))
    if (largest := int(label.max())) >= NUM_CLASSES:
        raise UserError(
            f"{label_path} has the label {largest}: allowed is 0..{NUM_CLASSES - 1}. "
            "Put the original file there."
        )
    sha256 = ORIGINALS[name].sha256
    if sha256 is None:
        counts = np.bincount(label, minlength=NUM_CLASSES)
        if (counts != num_examples // NUM_CLASSES).any():
            raise _not_original(label_path, name)
        return image, label
    for path, array, digest in zip(
        (image_path, label_path), (image, label), sha256[split], strict=True
    ):
        if hashlib.sha256(array.tobytes()).hexdigest() != digest:
            raise _not_original(path, name)
    return image, label


def _not_original(path: Path, name: str) -> UserError:
    return UserError(
        f"{path} is well formed, but its contents are not those of {name}: allowed is the "
        "original file. Put that file there, or change dataset.name."
    )


def prepare(name: str, data_dir: Path, manual_dir: Path | None, show_progress: bool) -> None:
    """Writes `data_dir/NAME/VERSION` as array_record, from the four original files.

    TFDS writes into a folder of another name and renames it when it is whole, so a preparation
    that is cut off leaves nothing that counts as prepared, and of two at once the first wins.

    Args:
      name: a key of `ORIGINALS`.
      data_dir: TFDS's data folder.
      manual_dir: the folder with the four files, or None to download them to
        `data_dir/downloads` with TFDS's addresses and checksums.
      show_progress: whether TFDS draws progress bars on standard error.

    Raises:
      UserError: when the files are not usable, cannot be downloaded or nothing can be written.
    """
    # Bad files are found, and said, before TFDS has made a folder.
    arrays = read_originals(name, find_originals(manual_dir)) if manual_dir else None
    builder = _builder(name, data_dir, arrays)
    if arrays is None:
        _require_network(builder.URL, name)
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    if show_progress:
        print(f"Preparing {name} in {data_dir}", file=sys.stderr)
    else:
        tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Standard output belongs to the run.
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
    except (tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise _no_download(name, builder.URL, str(error)) from error
    except OSError as error:
        if (Path(builder.data_dir) / "dataset_info.json").exists():
            return  # Another process was faster; its folder is as good as ours.
        if error.filename is None and error.errno is None:  # Of the network, not of the disk.
            raise _no_download(name, builder.URL, str(error)) from error
        raise UserError(
            f"{name} cannot be prepared in {data_dir}: {error.strerror or error}. "
            "Use a dataset.data_dir that can be written and has 100 MB free."
        ) from error


def _builder(name: str, data_dir: Path, arrays: dict[str, Arrays] | None) -> Any:
    """An instance of TFDS's builder of that name that needs no TensorFlow."""
    import tensorflow_datasets as tfds

    original = ORIGINALS[name]
    parent: Any = getattr(tfds.image_classification, original.builder)

    class Builder(parent, skip_registration=True):  # type: ignore[call-arg, misc]
        """Reads and encodes in plain Python; all else is the parent's."""

        __module__ = parent.__module__  # TFDS writes it down; with it any TFDS can read the folder.

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


def _require_network(url: str, name: str) -> None:
    """Asks the server for one of the files, since TFDS would try for over three minutes.

    Raises:
      UserError: when no answer comes within a few seconds.
    """
    import requests  # Comes with TFDS, which downloads with it; it honours proxies.

    answered = threading.Event()
    problem = ["no answer"]

    def ask() -> None:
        try:
            file = f"{url}{FILE_NAMES['train'][0]}.gz"
            response = requests.head(file, timeout=_PROBE_SECONDS, allow_redirects=True)
            if response.ok:
                answered.set()
            problem[0] = f"HTTP status {response.status_code}"
        except requests.RequestException as error:
            problem[0] = type(error).__name__

    # In a thread, since looking up a host's name knows no time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS)
    if not answered.is_set():
        raise _no_download(name, url, problem[0])


def _no_download(name: str, url: str, problem: str) -> UserError:
    return UserError(
        f"{name} is not prepared and cannot be downloaded from {url} ({problem}). Connect to the "
        "network, or put the four original files into a folder and name it with "
        "--config.dataset.manual_dir=FOLDER, or set TFDS_DATA_DIR to a folder where TFDS has "
        "prepared it, or use the bundled digits: --config=configs/digits.py."
    )

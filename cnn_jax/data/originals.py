"""The four original files of MNIST, Fashion-MNIST and KMNIST: found, read and verified."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnn_jax.data.idx import read_idx
from cnn_jax.errors import UserError

IMAGE_SHAPE = (28, 28, 1)
NUM_CLASSES = 10

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
      folder: folder that holds each file as `.gz` or unpacked. Some sites have `train-images.idx3`
        with a dot instead of `train-images-idx3`: either is taken.

    Returns:
      For each of `FILE_NAMES`, the path; that of the `.gz` file if both exist.

    Raises:
      UserError: if a file is missing; the message names the first one.
    """
    paths = {}
    for file_name in (name for names in FILE_NAMES.values() for name in names):
        spellings = (file_name, file_name.replace("-idx", ".idx"))
        candidates = [folder / f"{name}{end}" for end in (".gz", "") for name in spellings]
        existing = [path for path in candidates if Path(path).exists()]
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


def tfds_order(split: str, num_examples: int) -> list[int]:
    """Returns the order in which TFDS stores the examples of a split whose keys are 0, 1, ...

    It sorts them by the MD5 of the split's name and the key (`tfds.core.hashing`).
    """
    return sorted(
        range(num_examples), key=lambda key: hashlib.md5(f"{split}{key}".encode()).digest()
    )


def _not_original_error(path: Path, name: str) -> UserError:
    return UserError(
        f"cannot use {path} (its contents are not those of {name}): it must be the original file. "
        "Put the original file there, or change dataset.name."
    )

"""The handwritten digits that are part of scikit-learn, enlarged to the layout of MNIST.

1,797 digits of 8x8 pixels, written by people (https://archive.ics.uci.edu/dataset/80): a small data
set that needs no download. The last 360 are the test split. The order of scikit-learn is kept: in
it, the writers of the last 360 are probably not among the writers of the first digits.
"""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from cnn_jax.data.types import Examples

IMAGE_SHAPE = (28, 28, 1)
CLASS_NAMES = tuple("0123456789")
SHARD_LENGTHS = {"train": [1437], "test": [360]}
_BOX_SIZE = 20  # MNIST's digits fill a box of 20x20 pixels in the middle of 28x28.
_MAX_INTENSITY = 16


def fingerprint() -> str:
    """Returns the versions of the packages on which the decoded digits depend."""
    return f"scikit-learn {version('scikit-learn')}, Pillow {version('pillow')}"


def read(split: str) -> Examples:
    """Reads a split and enlarges its images.

    Args:
      split: `train` or `test`.

    Returns:
      Images, uint8 [N, 28, 28, 1], and labels, int32 [N].
    """
    # Reads scikit-learn's file directly, because importing scikit-learn takes longer than training
    # on its digits. Each line has 64 pixels and the label.
    package = find_spec("sklearn")
    path = Path(str(package and package.origin)).parent / "datasets" / "data" / "digits.csv.gz"
    digits = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    (num_train,) = SHARD_LENGTHS["train"]
    rows = digits[:num_train] if split == "train" else digits[num_train:]
    image = np.stack([_enlarge(small) for small in rows[:, :-1].reshape(-1, 8, 8)])
    return Examples(image[..., np.newaxis], rows[:, -1].astype(np.int32))


def _enlarge(small: np.ndarray) -> np.ndarray:
    """Scales uint8 [8, 8] in 0..16 to uint8 [28, 28] in 0..255: a 20x20 box with a margin of 4."""
    image_u8 = np.rint(small * (255 / _MAX_INTENSITY)).astype(np.uint8)
    box = Image.fromarray(image_u8).resize((_BOX_SIZE, _BOX_SIZE), Image.Resampling.BICUBIC)
    return np.pad(np.asarray(box), (IMAGE_SHAPE[0] - _BOX_SIZE) // 2)

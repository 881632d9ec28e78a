"""The handwritten digits that come with scikit-learn, brought to the form of MNIST.

1,797 real digits of 8x8 pixels (https://archive.ics.uci.edu/dataset/80): a data set for the first
minute, without a download. The last 360 are the test split; scikit-learn's order is kept, in which
no writer of the last 360 is likely to be among the first.
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
_BOX = 20  # MNIST's digits fill a box of 20x20 in the middle of 28x28.
_MAX_INTENSITY = 16


def fingerprint() -> str:
    """Changes when the digits could: with the version of scikit-learn that brings them."""
    return f"scikit-learn {version('scikit-learn')}, Pillow {version('pillow')}"


def read(split: str) -> Examples:
    """The `train` or `test` split: uint8 images [N, 28, 28, 1] and int32 labels [N]."""
    # The file alone, of 65 values a line, the last of them the class: importing scikit-learn would
    # take longer than training on its digits.
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
    box = Image.fromarray(image_u8).resize((_BOX, _BOX), Image.Resampling.BICUBIC)
    return np.pad(np.asarray(box), (IMAGE_SHAPE[0] - _BOX) // 2)

"""The handwritten digits that come with scikit-learn, brought to the form of MNIST.

1,797 real digits of 8x8 pixels (https://archive.ics.uci.edu/dataset/80): a data set for the first
minute, without a download. The last 360 are the test split; scikit-learn's order is kept, in which
no writer of the last 360 is likely to be among the first.
"""

from importlib.metadata import version

import numpy as np
from PIL import Image

from cnn_jax.data.split import Split

IMAGE_SHAPE = (28, 28, 1)
NUM_CLASSES = 10
SHARD_LENGTHS = {"train": [1437], "test": [360]}
_BOX = 20  # MNIST's digits fill a box of 20x20 in the middle of 28x28.
_MAX_INTENSITY = 16


def fingerprint() -> str:
    """Changes when the digits could: with the version of scikit-learn that brings them."""
    return f"scikit-learn {version('scikit-learn')}, Pillow {version('pillow')}"


def read(split: str) -> Split:
    """The `train` or `test` split: uint8 images [N, 28, 28, 1] and int32 labels [N]."""
    from sklearn.datasets import load_digits  # Slow to import, and needed once: see cache.py.

    digits = load_digits()
    (num_train,) = SHARD_LENGTHS["train"]
    rows = slice(0, num_train) if split == "train" else slice(num_train, None)
    image = np.stack([_enlarge(small) for small in digits.images[rows]])
    return Split(image[..., np.newaxis], digits.target[rows].astype(np.int32))


def _enlarge(small: np.ndarray) -> np.ndarray:
    """Scales float [8, 8] in 0..16 to uint8 [28, 28] in 0..255: a 20x20 box with a margin of 4."""
    image_u8 = np.rint(small * (255 / _MAX_INTENSITY)).astype(np.uint8)
    box = Image.fromarray(image_u8).resize((_BOX, _BOX), Image.Resampling.BICUBIC)
    return np.pad(np.asarray(box), (IMAGE_SHAPE[0] - _BOX) // 2)

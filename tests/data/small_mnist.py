"""Four small IDX files that can be made to count as the original MNIST."""

import gzip
import hashlib
import itertools
import os
import pkgutil
import signal
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cnn_jax import data
from cnn_jax.data import originals

NUM_TRAIN, NUM_TEST = 30, 10

Arrays = dict[str, tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]


def small_arrays() -> Arrays:
    """Returns images and labels of each split, the same in every process."""
    generator = np.random.default_rng(0)
    return {
        split: (
            generator.integers(0, 256, (n, 28, 28), dtype=np.uint8),
            (np.arange(n) % 10).astype(np.uint8),
        )
        for split, n in (("train", NUM_TRAIN), ("test", NUM_TEST))
    }


def encode_idx(array: npt.NDArray[np.uint8]) -> bytes:
    """Returns the content of an IDX file with the array."""
    return struct.pack(f">{1 + array.ndim}I", 0x800 | array.ndim, *array.shape) + array.tobytes()


def write_originals(folder: Path) -> None:
    """Creates a folder with the four gzip files."""
    folder.mkdir()
    for split, names in originals.FILE_NAMES.items():
        for name, array in zip(names, small_arrays()[split], strict=True):
            (folder / f"{name}.gz").write_bytes(gzip.compress(encode_idx(array)))


def accept_as_originals(patch: pytest.MonkeyPatch) -> None:
    """Makes `data.originals` accept these files in place of the original MNIST and KMNIST."""
    digests: Any = {
        split: tuple(hashlib.sha256(array.tobytes()).hexdigest() for array in pair)
        for split, pair in small_arrays().items()
    }
    patch.setattr(originals, "SHARD_LENGTHS", {"train": [NUM_TRAIN], "test": [NUM_TEST]})
    names = tuple("0123456789")
    patch.setitem(originals.ORIGINALS, "mnist", originals.Original("MNIST", names, digests))
    patch.setitem(originals.ORIGINALS, "kmnist", originals.Original("KMNIST", names, None))


def sorted_examples(
    image: npt.NDArray[np.uint8], label: npt.NDArray[Any]
) -> list[tuple[bytes, int]]:
    """Returns the examples in sorted order, because TFDS shuffles them."""
    return sorted((pixels.tobytes(), int(k)) for pixels, k in zip(image, label, strict=True))


def check_small_mnist(dataset: data.Dataset) -> None:
    """Asserts that all examples are those of the small files, with the dtypes of `data.load`."""
    for examples, split in ((dataset.train, "train"), (dataset.test, "test")):
        assert examples.image.dtype == np.uint8
        assert examples.label.dtype == np.int32
        assert examples.image.shape[1:] == (28, 28, 1)
        assert sorted_examples(examples.image, examples.label) == sorted_examples(
            *small_arrays()[split]
        )


def _load_and_kill(folder: Path, function: str, call: int) -> None:
    """Loads the data set, and kills this process at the `call`th call of a function.

    Args:
      folder: folder that holds `originals` and receives `data`.
      function: dotted name of the function.
      call: number of the fatal call, from 1.
    """
    module, _, name = function.rpartition(".")
    owner = pkgutil.resolve_name(module)
    original = getattr(owner, name)
    calls = itertools.count(1)

    def call_or_die(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        accept_as_originals(patch)
        patch.setattr(owner, name, call_or_die)
        data.load("mnist", data_dir=str(folder / "data"), manual_dir=str(folder / "originals"))


if __name__ == "__main__":
    _load_and_kill(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

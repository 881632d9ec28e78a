"""Four small files, which the program takes for the original MNIST."""

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
from cnn_jax.data import mnist

NUM_TRAIN, NUM_TEST = 30, 10

Arrays = dict[str, tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]


def small_arrays() -> Arrays:
    """Images and labels of each split, the same in every process."""
    generator = np.random.default_rng(0)
    return {
        split: (
            generator.integers(0, 256, (n, 28, 28), dtype=np.uint8),
            (np.arange(n) % 10).astype(np.uint8),
        )
        for split, n in (("train", NUM_TRAIN), ("test", NUM_TEST))
    }


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    """An array as an IDX file."""
    return struct.pack(f">{1 + array.ndim}I", 0x800 | array.ndim, *array.shape) + array.tobytes()


def write_originals(folder: Path) -> None:
    """Writes the four files."""
    folder.mkdir()
    for split, names in mnist.FILE_NAMES.items():
        for name, array in zip(names, small_arrays()[split], strict=True):
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))


def take_for_originals(patch: pytest.MonkeyPatch) -> None:
    """Makes the program expect these files."""
    digests: Any = {
        split: tuple(hashlib.sha256(array.tobytes()).hexdigest() for array in pair)
        for split, pair in small_arrays().items()
    }
    patch.setattr(mnist, "SHARD_LENGTHS", {"train": [NUM_TRAIN], "test": [NUM_TEST]})
    names = tuple("0123456789")
    patch.setitem(mnist.ORIGINALS, "mnist", mnist.Original("MNIST", names, digests))
    patch.setitem(mnist.ORIGINALS, "kmnist", mnist.Original("KMNIST", names, None))


def sorted_rows(image: npt.NDArray[np.uint8], label: npt.NDArray[Any]) -> list[tuple[bytes, int]]:
    """The examples without their order, which TFDS shuffles."""
    return sorted((row.tobytes(), int(k)) for row, k in zip(image, label, strict=True))


def check_loaded(dataset: data.Dataset) -> None:
    """Whether it is this data set, whole and as `data.load` promises it."""
    for split, name in ((dataset.train, "train"), (dataset.test, "test")):
        assert split.image.dtype == np.uint8
        assert split.label.dtype == np.int32
        assert split.image.shape[1:] == (28, 28, 1)
        assert sorted_rows(split.image, split.label) == sorted_rows(*small_arrays()[name])


def _load_and_die(folder: Path, function: str, call: int) -> None:
    """Loads the data set, and gets SIGKILL when a function is called for the `call`th time."""
    module, _, name = function.rpartition(".")
    owner = pkgutil.resolve_name(module)
    before = getattr(owner, name)
    calls = itertools.count(1)

    def dying(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return before(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        take_for_originals(patch)
        patch.setattr(owner, name, dying)
        data.load("mnist", data_dir=str(folder / "data"), manual_dir=str(folder / "originals"))


if __name__ == "__main__":
    _load_and_die(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

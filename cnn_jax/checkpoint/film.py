"""The film of a run: its parameters at a few steps, from before the training on.

A frame, `WORKDIR/film/STEP.frame`, is the SHA-256 of the rest, then a safetensors file with the
parameters by their path. Those of several models have a first axis of the models, as in a
checkpoint.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from cnn_jax.checkpoint import tree
from cnn_jax.checkpoint.tree import Arrays
from cnn_jax.errors import UserError
from cnn_jax.io import files


class Frame(NamedTuple):
    """The parameters of one model at one step.

    Attributes:
      step: number of training steps taken.
      params: float32 arrays by their path, such as `conv_1.kernel`.
    """

    step: int
    params: Arrays


def write_frame(workdir: Path, step: int, params: Any) -> None:
    """Writes a frame atomically; one that is there is replaced.

    Args:
      workdir: of the run.
      step: number of training steps taken.
      params: the parameter tree of one model, arrays [...], or of M > 1 models, arrays [M, ...].

    Raises:
      UserError: when the file cannot be written.
    """
    path = workdir / "film" / f"{step}.frame"
    # safetensors writes the bytes of an array as they lie in memory.
    arrays = {name: np.ascontiguousarray(a) for name, a in tree.flatten(params).items()}
    with files.translate_write_errors(path):
        path.parent.mkdir(exist_ok=True)
        files.write_checksummed(path, safetensors.numpy.save(arrays))


def remove_later_frames(workdir: Path, step: int) -> None:
    """Removes the frames after a step, which the run will write again, and incomplete files.

    Raises:
      UserError: when they cannot be removed.
    """
    for path in (workdir / "film").glob("*.frame*"):
        number = path.name.partition(".")[0]
        if number.isdecimal() and (int(number) > step or path.suffix == ".tmp"):
            with files.translate_write_errors(path):
                path.unlink()


def read_film(workdir: Path, step: int, params: Any, model_index: int | None) -> list[Frame]:
    """Reads the frames of one model, in the order of their steps.

    Frames after `step` are left out: a run that was killed has written frames after its newest
    checkpoint, and one whose loss was not finite may have written such parameters.

    Args:
      workdir: of the run.
      step: step of the checkpoint from which the model was loaded.
      params: the model's parameters; those of each frame have the same dtypes and shapes.
      model_index: index of the model where the run has several, or None.

    Returns:
      The frames; none where the run was trained with `film_frames=0`.

    Raises:
      UserError: when a frame is damaged, cannot be read, or is of another model.
    """
    paths = {int(p.stem): p for p in (workdir / "film").glob("*.frame") if p.stem.isdecimal()}
    return [
        Frame(number, _read_frame(paths[number], params, model_index))
        for number in sorted(paths)
        if number <= step
    ]


def _read_frame(path: Path, params: Any, model_index: int | None) -> Arrays:
    content = files.read_checksummed(path)
    if content is None:
        raise _unusable(path, "damaged or cannot be read")
    try:
        arrays: dict[str, npt.NDArray[Any]] = safetensors.numpy.load(bytes(content))
        if model_index is not None:
            arrays = {name: array[model_index] for name, array in arrays.items()}
    except (safetensors.SafetensorError, IndexError) as error:
        raise _unusable(path, f"not a frame of this run: {error}") from error
    if difference := tree.first_difference(tree.dtypes_and_shapes(arrays), params):
        raise _unusable(path, f"not a frame of this model: {difference}")
    return arrays


def _unusable(path: Path, problem: str) -> UserError:
    return UserError(
        f"{path} is {problem}. It must be as the training wrote it. Delete it, and the film has a "
        "frame less; or train again with another --workdir."
    )

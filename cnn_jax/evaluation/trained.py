"""A trained network, taken from a workdir alone: what one predicts with, looks into and exports."""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from cnn_jax.checkpoint import metadata
from cnn_jax.checkpoint.manager import Checkpoint, Checkpoints
from cnn_jax.checkpoint.tree import dtype_and_shape, first_difference
from cnn_jax.config import schema, sweep
from cnn_jax.config.changes import check_same_model
from cnn_jax.engine import compilation_cache, loops
from cnn_jax.errors import UserError
from cnn_jax.model import ConvNet, normalize


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A network with its parameters.

    Attributes:
      workdir: whose checkpoint it is from.
      step: of that checkpoint: how many steps it was trained for.
      config: of the run.
      image_shape: (height, width, channels).
      class_names: what each logit stands for.
      params: a tree of float32 arrays.
    """

    workdir: Path
    step: int
    config: ConfigDict
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    params: Any

    @property
    def model(self) -> ConvNet:
        """The network, without parameters."""
        return ConvNet(num_classes=len(self.class_names), **self.config.model)

    @property
    def label(self) -> str:
        """Which network it is, for titles."""
        return f"{self.config.dataset.name}, step {self.step}"

    def logits(self, image_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """What the network says to any number of images, always in batches of one size.

        Args:
          image_u8: uint8 [N, H, W, C], 0..255.

        Returns:
          float32 [N, K].
        """
        size = loops.EVAL_BATCH_SIZE  # The last batch is filled up: one program serves any N.
        program = _program(self.model, self.image_shape, self.config.deterministic)
        params = jax.device_put(self.params)
        found = np.empty((len(image_u8), len(self.class_names)), np.float32)
        for start in range(0, len(image_u8), size):
            batch = np.zeros((size, *self.image_shape), np.uint8)
            part = image_u8[start : start + size]
            batch[: len(part)] = part
            found[start : start + size] = program(params, batch)[: len(part)]
        return found

    def probabilities(self, image_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Softmax of the logits: [N, K] in 0..1; arguments as in `logits`."""
        logits = self.logits(image_u8).astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


@functools.cache
def _program(
    model: ConvNet, image_shape: tuple[int, int, int], deterministic: bool
) -> jax.stages.Compiled:
    """(params, uint8 [B, H, W, C]) -> float32 logits [B, K], B being `loops.EVAL_BATCH_SIZE`."""

    def logits(params: Any, image_u8: jax.Array) -> jax.Array:
        return cast(jax.Array, model.apply({"params": params}, normalize(image_u8)))

    image_u8 = jax.ShapeDtypeStruct((loops.EVAL_BATCH_SIZE, *image_shape), jnp.uint8)
    program = jax.jit(logits, compiler_options=loops.compiler_options(deterministic))
    with compilation_cache.enabled():
        return program.lower(_shapes(model, image_shape), image_u8).compile()


def _shapes(model: ConvNet, image_shape: tuple[int, int, int]) -> Any:
    """The parameters with shapes instead of arrays."""
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *image_shape)))["params"]


def open_checkpoint(
    workdir: str, step: int | None, warn: Callable[[str], None]
) -> tuple[Path, Checkpoint]:
    """The folder of a run, and one of its checkpoints.

    Args:
      workdir: of a run, which may go on meanwhile.
      step: of the checkpoint; None: the newest.
      warn: takes a line about damaged ones that are passed over.

    Raises:
      UserError: when there is no such checkpoint.
    """
    path = Path(os.path.expanduser(workdir))
    with Checkpoints(path, read_only=True) as checkpoints:
        checkpoint = checkpoints.newest(warn) if step is None else checkpoints.at(step)
    if checkpoint is None:
        raise UserError(
            f"workdir {path} has no checkpoint: allowed is the --workdir of a training run. Train "
            "first, with the same --workdir."
        )
    return path, checkpoint


def config_of(checkpoint: Checkpoint, workdir: Path, other: ConfigDict | None) -> ConfigDict:
    """The config of the run that a checkpoint is of.

    Args:
      checkpoint: of the run.
      workdir: of the run, for the error.
      other: a config whose data set is to be taken, or None.

    Raises:
      UserError: when the checkpoint has none, or the other config's network is another one.
    """
    config = schema.from_json(metadata.saved_config(checkpoint))
    if other:
        schema.check_fields(other)
        check_same_model(other, workdir, config)
        config.dataset = other.dataset
    return config


def load(
    workdir: str,
    step: int | None,
    warn: Callable[[str], None],
    config: ConfigDict | None = None,
    number: int | None = None,
) -> TrainedModel:
    """The network of a workdir.

    Args:
      workdir: as in `open_checkpoint`, as are `step` and `warn`.
      step: see there.
      warn: see there.
      config: as `other` in `config_of`.
      number: of the network, from 0, where several were trained at once.

    Raises:
      UserError: when there is none, or its parameters are not those of its config.
    """
    path, checkpoint = open_checkpoint(workdir, step, warn)
    config = config_of(checkpoint, path, config)
    image_shape, class_names = metadata.saved_data_info(checkpoint, config)
    flat = {
        name.removeprefix("params."): array
        for name, array in checkpoint.arrays.items()
        if name.startswith("params.")
    }
    _check_number(number, config, path)
    if (count := sweep.count_models(config)) > 1:
        if any(array.shape[:1] != (count,) for array in flat.values()):
            raise _of_another(checkpoint.step, path, f"it has not {count} networks")
        assert number is not None
        flat = {name: array[number] for name, array in flat.items()}
        config = sweep.single_model_config(config, number)
    params = unflatten_dict(flat, sep=".")
    trained = TrainedModel(path, checkpoint.step, config, image_shape, class_names, params)
    shapes = _shapes(trained.model, image_shape)
    if array := first_difference(
        {name: dtype_and_shape(array) for name, array in flat.items()}, shapes
    ):
        raise _of_another(checkpoint.step, path, array)
    if not all(np.isfinite(array).all() for array in flat.values()):
        raise UserError(
            f"checkpoint {checkpoint.step} of {path} has parameters that are no numbers: allowed "
            "are finite ones. Choose another --step, --model or --workdir."
        )
    return trained


def _check_number(number: int | None, config: ConfigDict, path: Path) -> None:
    count = sweep.count_models(config)
    if count > 1 and number is None:
        raise UserError(
            f"workdir {path} holds {count} networks that were trained at once: allowed is one of "
            f"them. Use --model=K, 0..{count - 1}, in the order of its result.json."
        )
    if number is not None and number >= count:
        there = f"0..{count - 1}" if count > 1 else "0, its only one"
        raise UserError(
            f"workdir {path} has no network {number}: allowed is {there}. Change --model."
        )


def _of_another(step: int, path: Path, what: str) -> UserError:
    return UserError(
        f"checkpoint {step} of {path} is of another network than its config: {what}. Choose "
        "another --workdir."
    )

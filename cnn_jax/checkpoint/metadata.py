"""What a checkpoint of a run holds besides its arrays, and in which tree these are saved."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cnn_jax import data
from cnn_jax.config import schema, sweep
from cnn_jax.engine import sharding
from cnn_jax.engine.compile import state_shapes
from cnn_jax.engine.sharding import device_names
from cnn_jax.errors import UserError
from cnn_jax.io.environment import versions
from cnn_jax.nn.metrics import Metrics
from cnn_jax.train import TrainState

if TYPE_CHECKING:  # A run without a workdir does without Orbax, whose import takes 0.3 s.
    from cnn_jax.checkpoint.manager import Checkpoint


_MAX_PROGRESS = 2**53  # Seconds or bytes: an exact float.


@dataclasses.dataclass
class Progress:
    """What a run has come to besides its arrays, over all of its processes.

    Attributes:
      training_seconds: since the training began.
      epoch_seconds: of each epoch begun, training alone.
      eval_seconds: of all scorings.
      compile_seconds: for the compiled programs.
      total_seconds: in all.
      metrics_size: bytes of `metrics.jsonl`.
    """

    training_seconds: float = 0.0
    epoch_seconds: list[float] = dataclasses.field(default_factory=list)
    eval_seconds: float = 0.0
    compile_seconds: float = 0.0
    total_seconds: float = 0.0
    metrics_size: int = 0

    @classmethod
    def of(cls, checkpoint: "Checkpoint") -> Self:
        """What a checkpoint says of it.

        Raises:
          UserError: when it says something else.
        """
        content = checkpoint.record.get("progress")
        fields = {field.name: getattr(cls(), field.name) for field in dataclasses.fields(cls)}
        if not isinstance(content, dict) or content.keys() != fields.keys():
            raise _invalid_metadata(checkpoint, "progress")
        for name, default in fields.items():
            kinds = (int,) if isinstance(default, int) else (int, float)
            numbers = content[name] if isinstance(default, list) else [content[name]]
            # By type(), since True is an int as well.
            if not isinstance(numbers, list) or not all(
                type(n) in kinds and 0 <= n < _MAX_PROGRESS for n in numbers
            ):
                raise _invalid_metadata(checkpoint, f"progress.{name}")
        return cls(**content)


def state_tree(state: TrainState, total: Metrics) -> dict[str, Any]:
    """The arrays of a checkpoint; those of one network alone have no axis for the networks.

    Args:
      state: of M networks after some step, or its shapes.
      total: metrics [M] of the batches since the last row of `metrics.jsonl`, or their shapes.
    """
    tree = {
        "params": state.params,
        "opt_state": state.opt_state,
        "step": state.step,
        "metrics": total,
    }
    return (
        squeeze_model_axis(tree) if len(total.count.shape) and total.count.shape[0] == 1 else tree
    )


def squeeze_model_axis(tree: Any) -> Any:
    """Arrays of a single network, or their shapes, without the axis for the networks."""

    def squeeze(array: Any) -> Any:
        if isinstance(array, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(array.shape[1:], array.dtype)
        return array[0]

    return jax.tree.map(squeeze, tree)


def saved_config(checkpoint: "Checkpoint") -> dict[str, Any]:
    """The config of the run that a checkpoint is of, as it was written.

    Raises:
      UserError: when there is none.
    """
    content = checkpoint.record.get("config")
    if not isinstance(content, dict):
        raise _invalid_metadata(checkpoint, "config")
    return content


def saved_data_info(
    checkpoint: "Checkpoint", config: ConfigDict
) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """Shape of the images, (height, width, channels), and names of the classes of a run.

    Args:
      checkpoint: of the run.
      config: of the run; names the data set, for checkpoints that do not say it yet.

    Raises:
      UserError: when something else is said there.
    """
    content = checkpoint.record.get("data")
    if content is None:
        info = schema.check(config)
        return info.image_shape, info.class_names
    try:
        height, width, channels = map(int, content["image_shape"])
        class_names = tuple(map(str, content["class_names"]))
        "".join(class_names).encode()  # A ValueError where a name is no text.
        if min(height, width, channels, len(class_names)) < 1:
            raise ValueError
    except (TypeError, ValueError, KeyError) as error:
        raise _invalid_metadata(checkpoint, "data") from error
    return (height, width, channels), class_names


def data_info(info: data.Info) -> dict[str, Any]:
    """What `saved_form` reads, for a checkpoint's record."""
    return {"image_shape": info.image_shape, "class_names": info.class_names}


def first_different_array(
    config: ConfigDict, info: data.Info, checkpoint: "Checkpoint"
) -> str | None:
    """The first array of a checkpoint that is not as a config's run has it, in words."""
    return checkpoint.difference(state_tree(*_shapes(config, info)))


def restore(
    config: ConfigDict, info: data.Info, mesh: Mesh, checkpoint: "Checkpoint"
) -> tuple[TrainState, Metrics]:
    """What was given to `saved_tree`, on the devices; no array may be different."""
    shapes, total = _shapes(config, info)
    tree = checkpoint.tree(state_tree(shapes, total))
    if sweep.count_models(config) == 1:
        tree = jax.tree.map(lambda array: np.asarray(array)[None], tree)
    total = sharding.to_devices(tree.pop("metrics"), sharding.replicated(mesh))
    return shapes.replace(**sharding.to_devices(tree, sharding.sharded_by_model(mesh))), total


def _shapes(config: ConfigDict, info: data.Info) -> tuple[TrainState, Metrics]:
    state = state_shapes(config, info, sharding.single_device_mesh())
    return state, jax.eval_shape(lambda: Metrics.empty(sweep.count_models(config)))


def environment() -> dict[str, Any]:
    """What the bits of a run depend on besides its config."""
    return {"versions": versions(), "devices": device_names()}


def describe_numerics(record: Mapping[str, Any]) -> str:
    """The part of a record's environment that decides how numbers are rounded, in words."""
    saved, found = record.get("versions"), record.get("devices")
    names = ("jax", "jaxlib", "flax", "optax")
    packages = [f"{name} {saved.get(name)}" for name in names] if isinstance(saved, dict) else []
    return ", ".join(packages + [str(d) for d in found] if isinstance(found, list) else packages)


def _invalid_metadata(checkpoint: "Checkpoint", key: str) -> UserError:
    return UserError(
        f"the record of checkpoint {checkpoint.step} has no usable {key}: allowed is what this "
        "program saved. Choose another --workdir."
    )

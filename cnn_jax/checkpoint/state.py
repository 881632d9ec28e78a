"""The tree in which a checkpoint holds the state of a run."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cnn_jax import data
from cnn_jax.checkpoint.restore import Checkpoint
from cnn_jax.config import sweep
from cnn_jax.engine import sharding
from cnn_jax.engine.compile import state_shapes
from cnn_jax.nn.metrics import Metrics
from cnn_jax.train import TrainState


def state_tree(state: TrainState, total: Metrics) -> dict[str, Any]:
    """Returns the arrays of a checkpoint as a tree; those of a single model have no model axis.

    Args:
      state: the training state of M models, arrays [M, ...] or their shapes.
      total: metrics [M], summed over the batches since the last row of `metrics.jsonl`, or their
        shapes.

    Returns:
      A tree with `params`, `opt_state`, `step` and `metrics`; its arrays have a first axis of size
      M if M > 1.
    """
    tree = {
        "params": state.params,
        "opt_state": state.opt_state,
        "step": state.step,
        "metrics": total,
    }
    has_single_model = len(total.count.shape) and total.count.shape[0] == 1
    return squeeze_model_axis(tree) if has_single_model else tree


def squeeze_model_axis(tree: Any) -> Any:
    """Removes the model axis, of size 1, from all arrays of a tree.

    Args:
      tree: a tree of arrays [1, ...] or of their shapes.

    Returns:
      A tree of arrays [...] or of their shapes.
    """

    def squeeze(array: Any) -> Any:
        if isinstance(array, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(array.shape[1:], array.dtype)
        return array[0]

    return jax.tree.map(squeeze, tree)


def first_different_array(
    config: ConfigDict, info: data.Info, checkpoint: Checkpoint
) -> str | None:
    """Describes the first array of a checkpoint that a run of a config cannot resume from.

    Args:
      config: as checked by `schema.check`.
      info: of its data set.
      checkpoint: of any run.

    Returns:
      A clause such as `params.linear_1.bias is float32[10] in the checkpoint and must be
      float32[26]`, or None when all arrays have the needed dtypes and shapes.
    """
    return checkpoint.first_difference(state_tree(*_shapes(config, info)))


def restore_state(
    config: ConfigDict, info: data.Info, mesh: Mesh, checkpoint: Checkpoint
) -> tuple[TrainState, Metrics]:
    """Copies the arrays of a checkpoint to the devices.

    Args:
      config: as checked by `schema.check`.
      info: of its data set.
      mesh: the device mesh of the run.
      checkpoint: one for which `first_different_array` returns None.

    Returns:
      The arguments with which `state_tree` was called before the save: the state, sharded by model,
      and the metrics, replicated.
    """
    state, total = _shapes(config, info)
    tree = checkpoint.tree(state_tree(state, total))
    if sweep.count_models(config) == 1:
        tree = jax.tree.map(lambda array: np.asarray(array)[None], tree)
    total = sharding.to_devices(tree.pop("metrics"), sharding.replicated(mesh))
    return state.replace(**sharding.to_devices(tree, sharding.sharded_by_model(mesh))), total


def _shapes(config: ConfigDict, info: data.Info) -> tuple[TrainState, Metrics]:
    """Returns the training state and the metrics with shapes instead of arrays."""
    state = state_shapes(config, info, sharding.single_device_mesh())
    return state, jax.eval_shape(lambda: Metrics.empty(sweep.count_models(config)))

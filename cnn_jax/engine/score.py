"""The test set scored once more, by a network that is trained already."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cnn_jax import data
from cnn_jax.config import sweep
from cnn_jax.engine import sharding
from cnn_jax.engine.compile import compile_evaluate
from cnn_jax.engine.loops import EvalMetrics
from cnn_jax.model import ConvNet
from cnn_jax.train import TrainState


def score_test(
    config: ConfigDict, info: data.Info, mesh: Mesh, params: Any, test: data.Examples
) -> EvalMetrics:
    """Metrics of the test set, with the bits that a training run on these devices ends with.

    Args:
      config: as checked by `config.check`.
      info: of its data set.
      mesh: of `parallel.make_mesh`.
      params: of the config's M networks: a tree of float32 arrays [M, ...].
      test: its test examples. The others may be more than memory holds.
    """
    count = sweep.count_models(config)
    model = ConvNet(num_classes=info.num_classes, **config.model)
    untrained = TrainState(jnp.zeros(count, jnp.int32), params, (), model, optax.identity())
    state = sharding.to_devices(untrained, sharding.sharded_by_model(mesh))
    alone = dataclasses.replace(info, train=())
    evaluate = compile_evaluate(config, alone, mesh, state)
    examples = jax.device_put((test.image, test.label), sharding.replicated(mesh))
    total = sharding.to_devices(
        EvalMetrics.empty(count, config.num_models), sharding.replicated(mesh)
    )
    found: EvalMetrics = jax.block_until_ready(evaluate(state, total, *examples, 0, info.num_test))
    return found

"""Scores the test set with trained models, as a training run does at its end."""

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
    """Computes the metrics of the test set, with the bits of a training run on these devices.

    Args:
      config: config checked by `schema.check`.
      info: its data set.
      mesh: from `sharding.make_mesh`.
      params: parameters of the config's M models, a tree of float32 arrays [M, ...].
      test: the test examples; the training examples are not needed, and may exceed memory.
    """
    num_models = sweep.count_models(config)
    model = ConvNet(num_classes=info.num_classes, **config.model)
    host_state = TrainState(jnp.zeros(num_models, jnp.int32), params, (), model, optax.identity())
    state = sharding.to_devices(host_state, sharding.sharded_by_model(mesh))
    evaluate = compile_evaluate(config, dataclasses.replace(info, train=()), mesh, state)
    everywhere = sharding.replicated(mesh)
    examples = jax.device_put((test.image, test.label), everywhere)
    total = sharding.to_devices(EvalMetrics.empty(num_models, config.num_models), everywhere)
    return jax.block_until_ready(evaluate(state, total, *examples, 0, info.num_test))

"""One step of training and one of evaluation.

Arithmetic only: no file, clock, log or config is read once `create_train_state` has returned.
"""

import functools
from collections.abc import Mapping
from typing import Any, TypedDict, cast

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from cnn_jax.config.sweep import SWEEPABLE
from cnn_jax.model import ConvNet, normalize
from cnn_jax.nn.metrics import Metrics
from cnn_jax.nn.optimizer import make_optimizer, set_hyperparameters


class Batch(TypedDict, total=False):
    """A batch: `image` uint8 [B, H, W, C], `label` int32 [B], optionally `mask` bool [B].

    Where several devices share it, [devices, examples of a device] stands for [B].
    """

    image: Array
    label: Array
    mask: Array


class TrainState(flax.struct.PyTreeNode):
    """All that a step changes, and the two functions that it uses.

    Attributes:
      step: int32 [], number of steps taken.
      params: the parameters, a tree of float32 arrays.
      opt_state: Optax's state.
      model: the network, without parameters.
      optimizer: Optax's pair of functions.
    """

    step: Array
    params: Any
    opt_state: optax.OptState
    model: ConvNet = flax.struct.field(pytree_node=False)
    optimizer: optax.GradientTransformation = flax.struct.field(pytree_node=False)


def create_train_state(
    config: ConfigDict,
    key: Array,
    image_shape: tuple[int, int, int] = (28, 28, 1),
    num_classes: int = 10,
    num_examples: int = 60_000,
    swept: Mapping[str, Array] | None = None,
) -> TrainState:
    """Draws the initial parameters and sets up the optimizer.

    Args:
      config: as checked by `config.check`.
      key: of the random numbers; the parameters are a function of it, the config and the shapes.
      image_shape: (height, width, channels).
      num_classes: number of logits.
      num_examples: of the training set; with `batch_size` and `num_epochs` it gives the length of
        the run, which schedules other than `constant` depend on.
      swept: this network's value, float32 [], of each number of which the config holds several.

    Returns:
      The state before the first step.
    """
    swept = swept or {}
    model = ConvNet(num_classes=num_classes, **config.model)
    # Compiled, so that the forward pass of `init` is left out.
    params = jax.jit(model.init)(key, jnp.zeros((1, *image_shape)))["params"]
    numbers = {name: 0.0 if name in swept else float(config[name]) for name in SWEEPABLE}
    optimizer = make_optimizer(
        config.optimizer,
        config.schedule,
        config.num_epochs * steps_per_epoch(num_examples, config.batch_size),
        **numbers,
        swept=tuple(swept),
    )
    opt_state = set_hyperparameters(optimizer.init(params), dict(swept))
    return TrainState(jnp.int32(0), params, opt_state, model, optimizer)


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Number of batches, the last of which may be partial."""
    return -(-num_examples // batch_size)


def epoch_permutation(seed: int | Array, epoch: int | Array, num_examples: int) -> Array:
    """The order of an epoch: a function of the run's seed and the epoch's number, nothing else.

    Args:
      seed: of the run; its own key, without an epoch folded in, is that of the parameters.
      epoch: from 1.
      num_examples: how many to order.

    Returns:
      int32 [num_examples], a permutation of 0..num_examples-1.
    """
    key = jax.random.fold_in(jax.random.key(seed), epoch)
    return cast(Array, _permutation(key, num_examples))


@functools.partial(jax.jit, static_argnums=1)
def _permutation(key: Array, num_examples: int) -> Array:
    return jax.random.permutation(key, num_examples)


@functools.partial(jax.jit, donate_argnums=0)
def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """One step down the gradient of the batch's mean cross-entropy.

    Args:
      state: donated: its buffers are used for the result.
      batch: see `Batch`; examples that `mask` excludes count for nothing.

    Returns:
      The state after the step, and the metrics of the batch with the parameters before it.
    """

    def loss(params: Any) -> tuple[Array, Metrics]:
        metrics = _metrics(state.replace(params=params), batch)
        return metrics.mean_loss(), metrics

    gradients, metrics = jax.grad(loss, has_aux=True)(state.params)
    updates, opt_state = state.optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state), metrics


@jax.jit
def eval_step(state: TrainState, batch: Batch) -> Metrics:
    """The metrics of a batch; examples that `mask` excludes count for nothing."""
    return _metrics(state, batch)


def logits_of(state: TrainState, image_u8: Array) -> Array:
    """The logits of a batch's images, float32 [B, K] or [devices, examples of a device, K]."""

    def logits(image_u8: Array) -> Array:
        variables = {"params": state.params}
        return cast(Array, state.model.apply(variables, normalize(image_u8)))

    # An axis of one device would be one more for XLA to think about, which it does not do well.
    return logits(image_u8) if image_u8.ndim == 4 else jax.vmap(logits)(image_u8)


def _metrics(state: TrainState, batch: Batch) -> Metrics:
    logits = logits_of(state, batch["image"])
    return Metrics.of_batch(logits, batch["label"], batch.get("mask"))

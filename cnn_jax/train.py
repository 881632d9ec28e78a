"""The training of one model: its state, one step, one evaluation, and the loop over an epoch.

After `create_train_state` there is only arithmetic here: no config, file, clock or log.
`train_epoch` is the readable loop. A run uses `engine.loops`, which calls the same `train_step`,
with the whole loop inside one compiled program.
"""

import functools
from typing import Any, NotRequired, TypedDict, cast

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike
from ml_collections import ConfigDict

from cnn_jax.config.sweep import SWEEPABLE
from cnn_jax.model import ConvNet, normalize
from cnn_jax.nn.augment import Augmentation
from cnn_jax.nn.metrics import Metrics, smoothed_loss
from cnn_jax.nn.optimizer import cached_optimizer


class Batch(TypedDict):
    """A batch: `image` uint8 [B, H, W, C], `label` int32 [B], optionally `mask` bool [B]."""

    image: Array
    label: Array
    mask: NotRequired[Array]


class TrainState(flax.struct.PyTreeNode):
    """Everything that a step changes, and the model and the optimizer that it uses.

    Attributes:
      step: int32 [], number of steps taken.
      params: parameters, a tree of float32 arrays.
      opt_state: state of the optimizer.
      model: the network, without parameters. Like the optimizer it holds no arrays: it is a static
        argument of compiled functions.
      optimizer: Optax's pair of functions.
      label_smoothing: a of `metrics.smoothed_loss`; a constant of compiled functions.
      num_microbatches: number of equal parts of a batch whose gradients a step computes one after
        the other; a constant of compiled functions. It must divide the size of the batch.
    """

    step: Array
    params: Any
    opt_state: optax.OptState
    model: ConvNet = flax.struct.field(pytree_node=False)
    optimizer: optax.GradientTransformation = flax.struct.field(pytree_node=False)
    label_smoothing: float = flax.struct.field(pytree_node=False, default=0.0)
    num_microbatches: int = flax.struct.field(pytree_node=False, default=1)


def create_train_state(
    config: ConfigDict,
    key: Array,
    image_shape: tuple[int, int, int] = (28, 28, 1),
    num_classes: int = 10,
    num_examples: int = 60_000,
) -> TrainState:
    """Draws the initial parameters and sets up the optimizer.

    Args:
      config: config checked by `schema.check`, with one value of every field.
      key: random key; the parameters are a function of key, config and shapes.
      image_shape: (height, width, channels).
      num_classes: number of logits.
      num_examples: size of the training set; with `batch_size` and `num_epochs` it gives the number
        of steps, on which schedules other than `constant` depend.

    Returns:
      The state before the first step.

    Raises:
      ValueError: when the config has several values of a field, for several models.
    """
    for name in SWEEPABLE:
        if isinstance(config[name], tuple | list):
            raise ValueError(
                f"{name}={config[name]} is invalid for a single model: it must be one number. "
                "Choose one of them, or train all with `experiment.run`."
            )
    model = ConvNet(num_classes=num_classes, **config.model)
    params = _draw_params(model, image_shape, key)
    optimizer = cached_optimizer(
        config.optimizer,
        config.schedule,
        config.num_epochs * steps_per_epoch(num_examples, config.batch_size),
        float(config.learning_rate),
        float(config.momentum),
        float(config.weight_decay),
    )
    return TrainState(
        jnp.int32(0),
        params,
        optimizer.init(params),
        model,
        optimizer,
        float(config.label_smoothing),
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _draw_params(model: ConvNet, image_shape: tuple[int, int, int], key: Array) -> Any:
    """Draws the initial parameters; jitted, so that XLA removes the forward pass of `init`."""
    return model.init(key, jnp.zeros((1, *image_shape), jnp.float32))["params"]


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Returns the number of batches of an epoch; the last one may be partial."""
    return -(-num_examples // batch_size)


def epoch_permutation(seed: int | Array, epoch: int | Array, num_examples: int) -> Array:
    """Draws the order of the examples in an epoch, a function of seed and epoch alone.

    Args:
      seed: seed of the run. The initial parameters use its key as it is; an epoch uses the key
        with the number of the epoch folded in.
      epoch: number of the epoch, from 1.
      num_examples: size of the training set.

    Returns:
      int32 [num_examples], a permutation of 0..num_examples-1.
    """
    key = jax.random.fold_in(jax.random.key(seed), epoch)
    return _permutation(key, num_examples)


@functools.partial(jax.jit, static_argnums=1)
def _permutation(key: Array, num_examples: int) -> Array:
    return jax.random.permutation(key, jnp.arange(num_examples, dtype=jnp.int32))


def logits_of(state: TrainState, image_u8: Array) -> Array:
    """Computes the logits of images: uint8 [B, H, W, C] -> float32 [B, K]."""
    return cast(Array, state.model.apply({"params": state.params}, normalize(image_u8)))


@functools.partial(jax.jit, donate_argnums=0)
def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """Takes one step down the gradient of the batch's mean cross-entropy, with smoothed labels.

    Args:
      state: donated: its buffers are reused for the result.
      batch: a batch; masked examples have no effect.

    Returns:
      The state after the step, and the metrics of the batch before the step, whose loss is the
      plain cross-entropy.
    """
    compute_gradients = _gradients if state.num_microbatches == 1 else _gradients_by_parts
    gradients, metrics = compute_gradients(state, batch)
    # The updates contain the minus sign and the learning rate; weight decay needs the parameters.
    updates, opt_state = state.optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state), metrics


def _gradients(state: TrainState, batch: Batch) -> tuple[Any, Metrics]:
    """Computes the gradients of the mean loss with respect to the parameters, and the metrics."""

    def mean_loss(params: Any) -> tuple[Array, Metrics]:
        logits = logits_of(state.replace(params=params), batch["image"])
        metrics = Metrics.from_batch(logits, batch["label"], batch.get("mask"))
        loss = smoothed_loss(metrics, logits, batch.get("mask"), state.label_smoothing)
        return loss, metrics

    return cast(tuple[Any, Metrics], jax.grad(mean_loss, has_aux=True)(state.params))


def _gradients_by_parts(state: TrainState, batch: Batch) -> tuple[Any, Metrics]:
    """Computes the same from one part of the batch after the other, up to float32 rounding."""

    def add_part(sums: tuple[Any, Metrics], part: Batch) -> tuple[tuple[Any, Metrics], None]:
        gradients, metrics = _gradients(state, part)
        gradient_sums = jax.tree.map(lambda s, g: s + metrics.count * g, sums[0], gradients)
        return (gradient_sums, sums[1].merge(metrics)), None

    parts = jax.tree.map(lambda a: a.reshape(state.num_microbatches, -1, *a.shape[1:]), batch)
    empty = jax.tree.map(jnp.zeros_like, state.params), Metrics.empty()
    (gradient_sums, metrics), _ = jax.lax.scan(add_part, empty, parts)
    return jax.tree.map(lambda s: s / jnp.maximum(metrics.count, 1), gradient_sums), metrics


def create_augmentation(config: ConfigDict, seed: ArrayLike) -> Augmentation | None:
    """Returns the random changes of training images that a config asks for; None: there are none.

    Args:
      config: config checked by `schema.check`.
      seed: seed of the run; for many models uint32 [M].
    """
    ranges = config.augment.to_dict()
    return Augmentation(jnp.uint32(seed), **ranges) if any(ranges.values()) else None


def augment(augmentation: Augmentation, batch: Batch, step: Array) -> Batch:
    """Changes the images of a batch at random; `step` is int32 [], the number of steps taken."""
    draws = augmentation.draw(step, len(batch["label"]))
    return {**batch, "image": augmentation.apply(batch["image"], batch["label"], draws)}


def train_epoch(
    state: TrainState,
    images: Array,
    labels: Array,
    permutation: Array,
    batch_size: int,
    augmentation: Augmentation | None = None,
) -> tuple[TrainState, Metrics]:
    """Trains for one epoch, one batch after the other.

    Args:
      state: donated: its buffers are reused for the result.
      images: uint8 [N, H, W, C], 0..255.
      labels: int32 [N].
      permutation: int32 [num_examples], from `epoch_permutation`; num_examples may be less than N.
      batch_size: examples per batch; the last batch is padded and masked.
      augmentation: from `create_augmentation`; None: the images are used as they are.

    Returns:
      The state after the epoch, and the metrics of all batches, each before its step.
    """
    num_examples = len(permutation)
    total = Metrics.empty()
    for step in range(steps_per_epoch(num_examples, batch_size)):
        position = step * batch_size + jnp.arange(batch_size)
        example = permutation[jnp.minimum(position, num_examples - 1)]
        batch: Batch = {
            "image": images[example],
            "label": labels[example],
            "mask": position < num_examples,
        }
        if augmentation:
            batch = augment(augmentation, batch, state.step)
        state, metrics = train_step(state, batch)
        total = total.merge(metrics)
    return state, total


@jax.jit
def eval_step(state: TrainState, batch: Batch) -> Metrics:
    """Computes the metrics of a batch; masked examples have no effect."""
    return Metrics.from_batch(logits_of(state, batch["image"]), batch["label"], batch.get("mask"))

"""One step of training, one of evaluation, and the compiled loops over many of them.

Arithmetic only: no file, clock, log or config is read once `create_train_state` has returned.
"""

import functools
from typing import Any, NamedTuple, TypedDict, cast

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from cnn_jax.metrics import Metrics
from cnn_jax.model import ConvNet, normalize

EVAL_BATCH_SIZE = 200  # Divides MNIST's 60,000 and 10,000; its feature maps fit a CPU's cache.


class Batch(TypedDict, total=False):
    """A batch: `image` uint8 [B, H, W, C], `label` int32 [B], optionally `mask` bool [B]."""

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


_Carry = tuple[TrainState, Metrics, Metrics]


def create_train_state(
    config: ConfigDict,
    key: Array,
    image_shape: tuple[int, int, int] = (28, 28, 1),
    num_classes: int = 10,
    num_examples: int = 60_000,
) -> TrainState:
    """Draws the initial parameters and sets up the optimizer.

    Args:
      config: as checked by `config.check`.
      key: of the random numbers; the parameters are a function of it, the config and the shapes.
      image_shape: (height, width, channels).
      num_classes: number of logits.
      num_examples: of the training set; with `batch_size` and `num_epochs` it gives the length of
        the run, which schedules other than `constant` depend on.

    Returns:
      The state before the first step.
    """
    model = ConvNet(num_classes=num_classes, **config.model)
    # Compiled, so that the forward pass of `init` is left out.
    params = jax.jit(model.init)(key, jnp.zeros((1, *image_shape)))["params"]
    optimizer = _optimizer(
        config.optimizer,
        float(config.learning_rate),
        config.schedule,
        config.num_epochs * steps_per_epoch(num_examples, config.batch_size),
        float(config.momentum),
        float(config.weight_decay),
    )
    return TrainState(jnp.int32(0), params, optimizer.init(params), model, optimizer)


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Number of batches, the last of which may be partial."""
    return -(-num_examples // batch_size)


@functools.cache  # The same optimizer object for the same arguments, so that jit knows it again.
def _optimizer(
    name: str,
    learning_rate: float,
    schedule: str,
    num_steps: int,
    momentum: float,
    weight_decay: float,
) -> optax.GradientTransformation:
    """Optax's optimizer of that name; see `learning_rate_schedule` for the rates."""
    rates = learning_rate_schedule(schedule, learning_rate, num_steps)
    if name == "adam":
        return optax.adam(rates)
    if name == "adamw":  # Decay apart from the gradient (Loshchilov and Hutter, 2019).
        return optax.adamw(rates, weight_decay=weight_decay)
    sgd = optax.sgd(rates, momentum or None, nesterov=name == "nesterov")
    # L2: the decay is part of the gradient, as in PyTorch's SGD.
    return optax.chain(optax.add_decayed_weights(weight_decay), sgd) if weight_decay else sgd


def learning_rate_schedule(name: str, peak: float, num_steps: int) -> optax.Schedule:
    """The learning rate as a function of the step, 0..num_steps-1.

    Args:
      name: `constant`; `cosine`, from the peak down to 0 along half a cosine; or `one_cycle`
        (Smith and Topin, 2018), from peak / 25 up over 30 % of the run, then down to
        peak / 250,000.
      peak: the largest rate.
      num_steps: length of the run.
    """
    if name == "cosine":
        return optax.cosine_decay_schedule(peak, num_steps)
    if name == "one_cycle":
        return optax.cosine_onecycle_schedule(num_steps, peak)
    return optax.constant_schedule(peak)


def epoch_order(seed: int, epoch: int, num_examples: int) -> Array:
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


def _metrics(state: TrainState, batch: Batch) -> Metrics:
    image = normalize(batch["image"])
    logits = cast(Array, state.model.apply({"params": state.params}, image))
    return Metrics.of_batch(logits, batch["label"], batch.get("mask"))


def _batch(image: Array, label: Array, chosen: Array, mask: Array) -> Batch:
    return {"image": image[chosen], "label": label[chosen], "mask": mask}


def _train_steps(
    state: TrainState,
    total: Metrics,
    image: Array,
    label: Array,
    order: Array,
    first: Array | int,
    num_steps: Array | int,
    batch_size: int,
) -> _Carry:
    """Steps first .. first + num_steps - 1 of an epoch, in one compiled loop.

    The number of steps is an argument, not a constant, so that a piece of any length runs the same
    program. The sum goes in and comes out, so that two calls add up as one does, to the last bit.

    Args:
      state: donated.
      total: metrics of the batches before, to which those of these are added.
      image: uint8 [N, H, W, C], of which `order` chooses.
      label: int32 [N].
      order: int32 [num_examples], from `epoch_order`.
      first: number of the first batch, from 0.
      num_steps: how many batches.
      batch_size: static; the last batch of an epoch is filled up and masked.

    Returns:
      The state, the sum of the metrics, and those of the last batch.
    """

    def body(index: Array, carry: _Carry) -> _Carry:
        state, total, _ = carry
        position = (first + index) * batch_size + jnp.arange(batch_size)
        chosen = order[jnp.minimum(position, len(order) - 1)]
        state, last = train_step(state, _batch(image, label, chosen, position < len(order)))
        return state, total.merge(last), last

    carry: _Carry = (state, total, Metrics.empty())
    return cast(_Carry, jax.lax.fori_loop(0, num_steps, body, carry))


def _evaluate(
    state: TrainState,
    total: Metrics,
    image: Array,
    label: Array,
    start: Array | int,
    stop: Array | int,
) -> Metrics:
    """Adds the metrics of the examples start .. stop - 1, each counted exactly once.

    The bounds are arguments, so that one program scores the training and the test examples. The
    sum goes in and comes out, as in `_train_steps`; a call that another one follows has to be for a
    multiple of `EVAL_BATCH_SIZE` examples, for the batches to be the same.

    Args:
      state: its parameters are used as they are.
      total: metrics of the examples before, to which those of these are added.
      image: uint8 [N, H, W, C].
      label: int32 [N].
      start: first example.
      stop: one after the last.
    """

    def body(index: Array, total: Metrics) -> Metrics:
        position = start + index * EVAL_BATCH_SIZE + jnp.arange(EVAL_BATCH_SIZE)
        chosen = jnp.minimum(position, stop - 1)
        return total.merge(eval_step(state, _batch(image, label, chosen, position < stop)))

    num_batches = (stop - start + EVAL_BATCH_SIZE - 1) // EVAL_BATCH_SIZE
    return cast(Metrics, jax.lax.fori_loop(0, num_batches, body, total))


class Loops(NamedTuple):
    """The compiled loops of a run: `_train_steps` and `_evaluate`, with their arguments."""

    train_steps: jax.stages.Wrapped
    evaluate: jax.stages.Wrapped


def compiler_options(deterministic: bool) -> dict[str, bool | str]:
    """What XLA is told for every program; see `compiled_loops`."""
    options: dict[str, bool | str] = {"xla_gpu_deterministic_ops": True} if deterministic else {}
    if jax.__version_info__ < (0, 11):
        # There the CPU's newer library of products gives a small result, such as the gradient of a
        # kernel, to one core only: a step takes a fifth longer. Its sums are better than XLA's own.
        options["xla_cpu_experimental_ynn_fusion_type"] = "LIBRARY_FUSION_TYPE_REDUCE"
    return options


@functools.cache
def compiled_loops(deterministic: bool) -> Loops:
    """The loops, compiled at their first call for given shapes.

    Args:
      deterministic: forbids kernels and tuning whose results differ between runs. It matters on
        GPUs; elsewhere XLA has no others.
    """
    options = compiler_options(deterministic)
    return Loops(
        jax.jit(_train_steps, static_argnums=7, donate_argnums=0, compiler_options=options),
        jax.jit(_evaluate, compiler_options=options),
    )

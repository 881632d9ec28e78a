"""The compiled loops over many steps, for any number of models and devices.

Sums of metrics go in and come out, so that two calls add up as one does, to the last bit. The
number of steps is an argument, not a constant, so that one program runs chunks of any length;
accelerators have another one for most chunks (`compile.Programs.full_chunks`), with the same bits.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from cnn_jax.engine.many_models import map_models
from cnn_jax.engine.microbatches import count_microbatches
from cnn_jax.engine.sharding import (
    DATA,
    ShardedAugmentation,
    ShardedModel,
    batch_positions,
    shard_batch,
    shard_by_model,
)
from cnn_jax.nn.augment import Augmentation
from cnn_jax.nn.metrics import Metrics
from cnn_jax.train import Batch, TrainState, augment, logits_of, train_step

# Examples a device scores at once. Divides MNIST's 60,000 and 10,000; its feature maps fit into a
# CPU's cache.
EVAL_BATCH_SIZE = 200

TrainResult = tuple[TrainState, Metrics, Metrics]


class EvalMetrics(NamedTuple):
    """Metrics of M models, and of C ensembles of M / C models each.

    Attributes:
      models: metrics [M].
      ensembles: metrics [C] of the mean of the probabilities of M / C consecutive models; None
        where an ensemble would have one model.
    """

    models: Metrics
    ensembles: Metrics | None

    @classmethod
    def empty(cls, num_models: int, ensemble_size: int) -> "EvalMetrics":
        """Returns the metrics of zero examples.

        Args:
          num_models: M.
          ensemble_size: M / C.
        """
        ensembles = Metrics.empty(num_models // ensemble_size) if ensemble_size > 1 else None
        return cls(Metrics.empty(num_models), ensembles)


def _train(
    mesh: Mesh,
    state: TrainState,
    total: Metrics,
    augmentation: Augmentation | None,
    num_steps: Array | int,
    make_batch: Callable[[Array], Batch],
) -> TrainResult:
    """Takes `num_steps` steps; `make_batch` maps an index, from 0, to batches [M, ...].

    Returns:
      The state, `total` plus the metrics of these batches, and the metrics of the first of them.
    """

    def step(
        state: TrainState, total: Metrics, batch: Batch, augmentation: Augmentation | None
    ) -> TrainResult:
        if augmentation:
            batch = augment(_shard_images(mesh, augmentation), batch, state.step)
        batch_size, height, width, channels = batch["image"].shape
        parts = count_microbatches(mesh, state.model, (height, width, channels), batch_size)
        prepared = _shard_examples(mesh, state).replace(num_microbatches=parts)
        after, metrics = train_step(prepared, batch)
        after = after.replace(model=state.model, num_microbatches=state.num_microbatches)
        return after, total.merge(metrics), metrics

    def body(index: Array, carry: TrainResult) -> TrainResult:
        state, total, first = carry
        batches = shard_batch(mesh, make_batch(index), model_axis=True)
        state, total, metrics = map_models(mesh, step, state, total, batches, augmentation)
        first = jax.tree.map(functools.partial(jnp.where, index == 0), metrics, first)
        return state, total, first

    # Within the loop each device adds up its own models; `jitted_loops` shares the sums after it.
    sums = shard_by_model(mesh, (total, Metrics.empty(*total.count.shape)))
    return jax.lax.fori_loop(0, num_steps, body, (state, *sums))


def _shard_examples(mesh: Mesh, state: TrainState) -> TrainState:
    """Returns the state with a model that splits each batch over the devices that share it."""
    if mesh.shape[DATA] == 1:
        return state
    return state.replace(model=ShardedModel(state.model))


def _shard_images(mesh: Mesh, augmentation: Augmentation) -> Augmentation:
    """Returns an augmentation that splits each batch over the devices that share it."""
    if mesh.shape[DATA] == 1:
        return augmentation
    return cast(Augmentation, ShardedAugmentation(augmentation))


def train_steps(
    state: TrainState,
    total: Metrics,
    augmentation: Augmentation | None,
    image: Array,
    label: Array,
    permutation: Array,
    first: Array | int,
    num_steps: Array | int,
    *,
    batch_size: int,
    mesh: Mesh,
) -> TrainResult:
    """Takes the steps first .. first + num_steps - 1 of an epoch, on examples in device memory.

    Args:
      state: state of M models; donated.
      total: metrics [M] of earlier batches.
      augmentation: from `train.create_augmentation`, with M seeds; None: images are used as they
        are.
      image: uint8 [N, H, W, C]; every device has all of them.
      label: int32 [N].
      permutation: int32 [M, num_examples], each row from `train.epoch_permutation`.
      first: index of the first batch, from 0.
      num_steps: number of batches; a Python integer makes it a constant of the program.
      batch_size: static; the last batch of an epoch, and batches that the devices cannot share
        evenly, are padded and masked.
      mesh: static.

    Returns:
      The state, `total` plus the metrics of these batches, and the metrics of the first of them.
    """
    in_batch = batch_positions(mesh, batch_size)
    num_examples = permutation.shape[1]

    def make_batch(index: Array) -> Batch:
        position = (first + index) * batch_size + in_batch
        mask = (in_batch < batch_size) & (position < num_examples)
        example = permutation[:, jnp.minimum(position, num_examples - 1)]
        return {
            "image": image[example],
            "label": label[example],
            "mask": jnp.broadcast_to(mask, example.shape),
        }

    return _train(mesh, state, total, augmentation, num_steps, make_batch)


def train_batches(
    state: TrainState,
    total: Metrics,
    augmentation: Augmentation | None,
    image: Array,
    label: Array,
    num_steps: Array | int,
    *,
    mesh: Mesh,
) -> TrainResult:
    """Takes `num_steps` training steps on the batches of a streamed chunk.

    Args:
      state: state of M models; donated.
      total: metrics [M] of earlier batches.
      augmentation: from `train.create_augmentation`, with M seeds; None: images are used as they
        are.
      image: uint8 [M, at least num_steps, *batch positions, H, W, C].
      label: int32 [M, at least num_steps, *batch positions], -1 for padding.
      num_steps: as in `train_steps`.
      mesh: static.

    Returns:
      The state, `total` plus the metrics of these batches, and the metrics of the first of them.
    """

    def make_batch(index: Array) -> Batch:
        labels = label[:, index]
        return {"image": image[:, index], "label": jnp.maximum(labels, 0), "mask": labels >= 0}

    return _train(mesh, state, total, augmentation, num_steps, make_batch)


def _score(
    mesh: Mesh,
    state: TrainState,
    total: EvalMetrics,
    num_batches: Array | int,
    make_batch: Callable[[Array], Batch],
) -> EvalMetrics:
    """Adds the metrics of `num_batches` batches; `make_batch` maps an index, from 0, to a batch."""

    def body(index: Array, total: EvalMetrics) -> EvalMetrics:
        batch = shard_batch(mesh, make_batch(index), model_axis=False)

        def score(state: TrainState, total: Metrics, batch: Batch) -> tuple[Metrics, Array]:
            logits = logits_of(_shard_examples(mesh, state), batch["image"])
            metrics = Metrics.from_batch(logits, batch["label"], batch["mask"])
            return total.merge(metrics), logits

        models, logits = map_models(mesh, score, state, total.models, shared=(batch,))
        if total.ensembles is None:
            return EvalMetrics(models, None)
        shape = (*total.ensembles.count.shape, -1, *logits.shape[1:])
        probabilities = jax.nn.softmax(logits).reshape(shape).mean(axis=1)
        metrics_of = jax.vmap(Metrics.from_batch, in_axes=(0, None, None))
        # Logarithms of probabilities are logits as well.
        metrics = metrics_of(jnp.log(probabilities), batch["label"], batch["mask"])
        return EvalMetrics(models, total.ensembles.merge(metrics))

    # As in `_train`.
    carry = total._replace(models=shard_by_model(mesh, total.models))
    return jax.lax.fori_loop(0, num_batches, body, carry)


def evaluate(
    state: TrainState,
    total: EvalMetrics,
    image: Array,
    label: Array,
    start: Array | int,
    stop: Array | int,
    *,
    mesh: Mesh,
) -> EvalMetrics:
    """Adds the metrics of the examples start .. stop - 1, each counted exactly once.

    The bounds are arguments, so that one program scores the training and the test examples. Every
    call but the last must cover a multiple of `eval_batch_size` examples, or the batches, and so
    the last bits, would depend on how the examples are split into calls.

    Args:
      state: state of M models; its parameters are used as they are.
      total: metrics of earlier examples.
      image: uint8 [N, H, W, C]; every device has all of them.
      label: int32 [N].
      start: first example.
      stop: one after the last example.
      mesh: static.
    """
    size = eval_batch_size(mesh)

    def make_batch(index: Array) -> Batch:
        position = start + index * size + batch_positions(mesh, size)
        example = jnp.minimum(position, stop - 1)
        return {"image": image[example], "label": label[example], "mask": position < stop}

    return _score(mesh, state, total, (stop - start + size - 1) // size, make_batch)


def evaluate_batches(
    state: TrainState,
    total: EvalMetrics,
    image: Array,
    label: Array,
    num_batches: Array | int,
    *,
    mesh: Mesh,
) -> EvalMetrics:
    """Adds the metrics of the batches of a streamed chunk.

    Args:
      state: state of M models; its parameters are used as they are.
      total: metrics of earlier examples.
      image: uint8 [at least num_batches, *batch positions, H, W, C].
      label: int32 [at least num_batches, *batch positions], -1 for padding.
      num_batches: number of batches.
      mesh: static.
    """

    def make_batch(index: Array) -> Batch:
        labels = label[index]
        return {"image": image[index], "label": jnp.maximum(labels, 0), "mask": labels >= 0}

    return _score(mesh, state, total, num_batches, make_batch)


def eval_batch_size(mesh: Mesh) -> int:
    """Returns how many examples all devices together score at once."""
    return EVAL_BATCH_SIZE * int(mesh.shape[DATA])

"""The compiled loops over many steps, for any number of networks and devices.

Sums of metrics go in and come out, so that two calls add up as one does, to the last bit. The
numbers of steps are arguments, not constants, so that a piece of any length runs the same program.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh

from cnn_jax.engine.sharding import (
    DATA,
    batch_positions,
    map_models,
    replicated,
    shard_batch,
    sharded_by_model,
)
from cnn_jax.nn.metrics import Metrics
from cnn_jax.train import Batch, TrainState, logits_of, train_step

EVAL_BATCH_SIZE = 200  # Of a device. Divides MNIST's 60,000 and 10,000; its maps fit a CPU's cache.

_Carry = tuple[TrainState, Metrics, Metrics]


class EvalMetrics(NamedTuple):
    """The metrics of M networks, and of C ensembles.

    Attributes:
      models: of the models, [M].
      ensembles: [C], of the mean of the probabilities of M / C networks that follow each other;
        None where there is one network in each.
    """

    models: Metrics
    ensembles: Metrics | None

    @classmethod
    def empty(cls, num_networks: int, num_models: int) -> "EvalMetrics":
        """Those of no examples.

        Args:
          num_networks: M.
          num_models: M / C.
        """
        ensembles = Metrics.empty(num_networks // num_models) if num_models > 1 else None
        return cls(Metrics.empty(num_networks), ensembles)


def _train(
    mesh: Mesh,
    state: TrainState,
    total: Metrics,
    num_steps: Array | int,
    own: Callable[[Array], Any],
    batch: Callable[[Any], Batch],
) -> _Carry:
    """Takes steps.

    Args:
      mesh: of `parallel.make_mesh`.
      state: of M networks.
      total: metrics [M] of the batches before.
      num_steps: how many.
      own: number of a step, from 0 -> what differs between the networks' batches, a tree of arrays
        [M, ...].
      batch: what is a network's own -> its batch.

    Returns:
      The state, the sum of the metrics, and those of the last batch.
    """

    def one(state: TrainState, total: Metrics, own: Any) -> _Carry:
        state, last = train_step(state, batch(own))
        return state, total.merge(last), last

    def body(index: Array, carry: _Carry) -> _Carry:
        state, total, _ = carry
        spread = jax.tree.map(lambda a: shard_batch(mesh, a, model_axis=True), own(index))
        return cast(_Carry, map_models(mesh, one, state, total, spread))

    carry: _Carry = (state, total, Metrics.empty(*total.count.shape))
    return cast(_Carry, jax.lax.fori_loop(0, num_steps, body, carry))


def _train_steps(
    state: TrainState,
    total: Metrics,
    image: Array,
    label: Array,
    order: Array,
    first: Array | int,
    num_steps: Array | int,
    *,
    batch_size: int,
    mesh: Mesh,
) -> _Carry:
    """Steps first .. first + num_steps - 1 of an epoch, on examples that every device has.

    Args:
      state: of M networks; donated.
      total: metrics [M] of the batches before, to which those of these are added.
      image: uint8 [N, H, W, C], of which `order` chooses.
      label: int32 [N].
      order: int32 [M, num_examples], each from `train.epoch_order`.
      first: number of the first batch, from 0.
      num_steps: how many batches.
      batch_size: static; the last batch of an epoch, and those that the devices cannot share
        evenly, are filled up and masked.
      mesh: static.

    Returns:
      The state, the sum of the metrics, and those of the last batch.
    """
    place = batch_positions(mesh, batch_size)
    num_examples = order.shape[1]

    def own(index: Array) -> tuple[Array, Array]:
        position = (first + index) * batch_size + place
        mask = (place < batch_size) & (position < num_examples)
        chosen = order[:, jnp.minimum(position, num_examples - 1)]
        return chosen, jnp.broadcast_to(mask, chosen.shape)

    def batch(own: tuple[Array, Array]) -> Batch:
        chosen, mask = own
        return {"image": image[chosen], "label": label[chosen], "mask": mask}

    return _train(mesh, state, total, num_steps, own, batch)


def _train_batches(
    state: TrainState,
    total: Metrics,
    image: Array,
    label: Array,
    num_steps: Array | int,
    *,
    mesh: Mesh,
) -> _Carry:
    """The same steps, on batches that were brought to the devices that need them.

    Args:
      state: as in `_train_steps`, as are `total`, `num_steps`, `mesh` and the result.
      total: see there.
      image: uint8 [M, at least num_steps, *places, H, W, C].
      label: int32 [M, at least num_steps, *places], -1 for what only fills up a batch.
      num_steps: see there.
      mesh: see there.
    """

    def own(index: Array) -> tuple[Array, Array]:
        return image[:, index], label[:, index]

    def batch(own: tuple[Array, Array]) -> Batch:
        image, label = own
        return {"image": image, "label": jnp.maximum(label, 0), "mask": label >= 0}

    return _train(mesh, state, total, num_steps, own, batch)


def _score(
    mesh: Mesh,
    state: TrainState,
    total: EvalMetrics,
    num_batches: Array | int,
    batch: Callable[[Array], Batch],
) -> EvalMetrics:
    """Adds the metrics of batches, each a function of its number, from 0."""

    def body(index: Array, total: EvalMetrics) -> EvalMetrics:
        given = {
            key: shard_batch(mesh, cast(Array, array), model_axis=False)
            for key, array in batch(index).items()
        }
        label, mask = given["label"], given["mask"]
        logits = map_models(mesh, lambda own: logits_of(own, given["image"]), state)
        of_networks = jax.vmap(Metrics.of_batch, in_axes=(0, None, None))
        each = total.models.merge(of_networks(logits, label, mask))
        if total.ensembles is None:
            return EvalMetrics(each, None)
        # The logarithms of probabilities are logits as well.
        groups = jax.nn.softmax(logits).reshape(*total.ensembles.count.shape, -1, *logits.shape[1:])
        ensembles = of_networks(jnp.log(groups.mean(axis=1)), label, mask)
        return EvalMetrics(each, total.ensembles.merge(ensembles))

    return cast(EvalMetrics, jax.lax.fori_loop(0, num_batches, body, total))


def _evaluate(
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

    The bounds are arguments, so that one program scores the training and the test examples. A call
    that another one follows has to be for a multiple of `eval_batch_size` examples, for the batches
    to be the same.

    Args:
      state: of M networks; their parameters are used as they are.
      total: metrics of the examples before, to which those of these are added.
      image: uint8 [N, H, W, C].
      label: int32 [N].
      start: first example.
      stop: one after the last.
      mesh: static.
    """
    size = eval_batch_size(mesh)

    def batch(index: Array) -> Batch:
        position = start + index * size + batch_positions(mesh, size)
        chosen = jnp.minimum(position, stop - 1)
        return {"image": image[chosen], "label": label[chosen], "mask": position < stop}

    return _score(mesh, state, total, (stop - start + size - 1) // size, batch)


def _evaluate_batches(
    state: TrainState,
    total: EvalMetrics,
    image: Array,
    label: Array,
    num_batches: Array | int,
    *,
    mesh: Mesh,
) -> EvalMetrics:
    """The same, of batches that were brought to the devices that need them.

    Args:
      state: as in `_evaluate`, as are `total` and `mesh`.
      total: see there.
      image: uint8 [at least num_batches, *places, H, W, C].
      label: int32 [at least num_batches, *places], -1 for what only fills up a batch.
      num_batches: how many.
      mesh: see there.
    """

    def batch(index: Array) -> Batch:
        own = label[index]
        return {"image": image[index], "label": jnp.maximum(own, 0), "mask": own >= 0}

    return _score(mesh, state, total, num_batches, batch)


def eval_batch_size(mesh: Mesh) -> int:
    """Examples that are scored at once, on all devices together."""
    return EVAL_BATCH_SIZE * int(mesh.shape[DATA])


class Loops(NamedTuple):
    """The compiled loops of a run; `mesh` and `batch_size` are given to them already."""

    train_steps: jax.stages.Wrapped
    train_batches: jax.stages.Wrapped
    evaluate: jax.stages.Wrapped
    evaluate_batches: jax.stages.Wrapped


def compiler_options(deterministic: bool) -> dict[str, bool | str]:
    """What XLA is told for every program; see `compiled_loops`."""
    options: dict[str, bool | str] = {"xla_gpu_deterministic_ops": True} if deterministic else {}
    if jax.__version_info__ < (0, 11):
        # There the CPU's newer library of products gives a small result, such as the gradient of a
        # kernel, to one core only: a step takes a fifth longer. Its sums are better than XLA's own.
        options["xla_cpu_experimental_ynn_fusion_type"] = "LIBRARY_FUSION_TYPE_REDUCE"
    return options


@functools.cache
def compiled_loops(deterministic: bool, mesh: Mesh, batch_size: int) -> Loops:
    """The loops, compiled at their first call for given shapes.

    Args:
      deterministic: forbids kernels and tuning whose results differ between runs. It matters on
        GPUs; elsewhere XLA has no others.
      mesh: of `parallel.make_mesh`.
      batch_size: of the training, over all devices.
    """
    options = compiler_options(deterministic)
    everywhere = replicated(mesh)
    trained = (sharded_by_model(mesh), everywhere, everywhere)

    def jit(loop: Callable[..., Any], out: Any, *donated: int, **static: Any) -> jax.stages.Wrapped:
        # `jit` takes a program's name from its function.
        bound = functools.wraps(loop)(functools.partial(loop, mesh=mesh, **static))
        return jax.jit(bound, out_shardings=out, donate_argnums=donated, compiler_options=options)

    return Loops(
        jit(_train_steps, trained, 0, batch_size=batch_size),
        jit(_train_batches, trained, 0),
        jit(_evaluate, everywhere),
        jit(_evaluate_batches, everywhere),
    )

"""The compiled loops on one device; `test_sharding.py` runs them on several."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import data, train
from cnn_jax.engine import compile, loops, sharding
from cnn_jax.engine.loops import EvalMetrics
from cnn_jax.nn.metrics import Metrics
from cnn_jax.reporting.per_model import compute_each
from tests.support.small import AUGMENT
from tests.test_train import batch_of, config_with, state_with

MESH = sharding.single_device_mesh()


def add_model_axis(tree: Any) -> Any:
    """Returns a single model as the loops take it, with an axis for the models."""
    return jax.tree.map(lambda array: jnp.asarray(array)[None], tree)


def drop_model_axis(tree: Any) -> Any:
    """Returns the single model of a result of the loops."""
    return jax.tree.map(lambda array: array[0], tree)


def arrays_of(split: data.Examples) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(split.image), jnp.asarray(split.label)


def test_every_example_is_used_exactly_once_per_epoch(
    random_examples: data.Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A step that learns nothing and counts the examples of each label that are not masked.
    def count(state: Any, batch: train.Batch) -> Any:
        counts = state.params.at[batch["label"]].add(batch["mask"].astype(jnp.int32))
        return state.replace(params=counts), Metrics.empty()

    monkeypatch.setattr(loops, "train_step", count)
    label = jnp.arange(7, dtype=jnp.int32)
    permutation = train.epoch_permutation(0, 1, 7)[None]
    image = jnp.asarray(random_examples.image)
    for batch_size, num_batches in ((3, 3), (7, 1), (1, 7)):
        state = state_with().replace(step=jnp.zeros(1), params=jnp.zeros((1, 7), jnp.int32))
        counted, _, _ = loops.train_steps(
            state.replace(opt_state=()),
            Metrics.empty(1),
            None,
            *(image, label, permutation, 0, num_batches),
            batch_size=batch_size,
            mesh=MESH,
        )
        chex.assert_trees_all_equal(counted.params, jnp.ones((1, 7), jnp.int32))


@pytest.mark.parametrize("changes", [{}, AUGMENT], ids=["plain", "augmented"])
def test_loop_equals_the_plain_loop(
    random_examples: data.Examples, changes: dict[str, Any]
) -> None:
    # `train.train_epoch` is the specification. 7 examples in batches of 3, 3 and 1, padded.
    permutation = train.epoch_permutation(5, 1, 7)
    augmentation = train.create_augmentation(config_with(**changes), 5)
    plain, plain_total = train.train_epoch(
        state_with(**{"model.features": (2,)}),
        *(*arrays_of(random_examples), permutation, 3, augmentation),
    )
    batch = batch_of(random_examples, *np.asarray(permutation)[:3].tolist())
    if augmentation:
        batch = train.augment(augmentation, batch, jnp.int32(0))
    _, first_metrics = train.train_step(state_with(**{"model.features": (2,)}), batch)
    looped, total, first = compile.jitted_loops(True, MESH, 3).train_steps(
        add_model_axis(state_with(**{"model.features": (2,)})),
        Metrics.empty(1),
        add_model_axis(augmentation),
        *arrays_of(random_examples),
        permutation[None],
        0,
        3,
    )
    if jax.__version_info__ < (0, 11):
        # There the loops are compiled with an option that `train_step` lacks (`compiler_options`),
        # which sums in another order.
        chex.assert_trees_all_close(drop_model_axis(looped), plain, rtol=1e-5, atol=1e-7)
        chex.assert_trees_all_close(drop_model_axis(total), plain_total, rtol=1e-6)
    else:
        chex.assert_trees_all_equal(drop_model_axis(looped), plain)
        chex.assert_trees_all_equal(drop_model_axis(total), plain_total)
    assert drop_model_axis(first).compute() == pytest.approx(first_metrics.compute())


def test_loop_can_be_split_anywhere(random_examples: data.Examples) -> None:
    arrays = (None, *arrays_of(random_examples), jnp.arange(7)[None])
    run = compile.jitted_loops(True, MESH, 1).train_steps
    straight = run(add_model_axis(state_with()), Metrics.empty(1), *arrays, 0, 7)
    split, total, first = run(add_model_axis(state_with()), Metrics.empty(1), *arrays, 0, 2)
    # The sum of the metrics too: it goes in and comes out, so that even its rounding is the same.
    chex.assert_trees_all_equal(run(split, total, *arrays, 2, 5)[:2], straight[:2])
    chex.assert_trees_all_equal(first, straight[2])


def test_streamed_batches_train_like_examples_in_memory(
    random_examples: data.Examples,
) -> None:
    # 7 examples in three batches of 3, 3 and 1, in a chunk of four batches; the rest is padding.
    permutation = np.asarray(train.epoch_permutation(5, 1, 7))
    example = np.append(permutation, [-1] * 5).reshape(1, 4, 3)
    image = np.where(example[..., None, None, None] < 0, 77, random_examples.image[example])
    label = np.where(example < 0, -1, random_examples.label[example])
    compiled = compile.jitted_loops(True, MESH, 3)
    streamed = compiled.train_batches(
        add_model_axis(state_with()), Metrics.empty(1), None, image.astype(np.uint8), label, 3
    )
    in_memory = compiled.train_steps(
        add_model_axis(state_with()),
        Metrics.empty(1),
        None,
        *arrays_of(random_examples),
        permutation[None],
        0,
        3,
    )
    chex.assert_trees_all_equal(streamed, in_memory)


class ConstantModel:
    """Predicts class 0 for every image, with the logits 1 and 0."""

    def apply(self, variables: Any, image: jax.Array) -> jax.Array:
        del variables
        return jnp.tile(jnp.asarray([[1.0, 0.0]]), (len(image), 1))


@pytest.mark.parametrize("num_examples", [1, 199, 200, 201, 400, 403])
def test_evaluation_scores_every_example_once(num_examples: int) -> None:
    # Labels 0 1 0 0 1 0 0 1 0 ...: the zeros are right and cost ln(1 + e) - 1, the ones cost
    # ln(1 + e). Around the batch size of 200 no example may be dropped or counted twice, and the
    # examples before and after them in the array, with the label 1, must not be counted.
    label = np.arange(num_examples, dtype=np.int32) % 3 % 2
    assert loops.eval_batch_size(MESH) == 200
    padded = np.pad(label, (7, 2000 - num_examples), constant_values=1)
    state = add_model_axis(state_with()).replace(model=ConstantModel())
    image = jnp.zeros((len(padded), 1, 1, 1), jnp.uint8)
    compiled = compile.jitted_loops(True, MESH, 128)
    arrays = (image, jnp.asarray(padded))
    empty = EvalMetrics.empty(1, 1)
    metrics = compiled.evaluate(state, empty, *arrays, 7, 7 + num_examples)
    right = int((label == 0).sum())
    assert drop_model_axis(metrics.models).compute() == {
        "count": num_examples,
        "accuracy": right / num_examples,
        "loss": pytest.approx(np.log(1 + np.e) - right / num_examples, rel=1e-5),
    }
    assert metrics.ensembles is None
    if num_examples > 200:  # In two calls; the first one ends with a full batch.
        total = compiled.evaluate(state, empty, *arrays, 7, 207)
        again = compiled.evaluate(state, total, *arrays, 207, 7 + num_examples)
        chex.assert_trees_all_equal(again, metrics)
    batches = -(-num_examples // 200)
    streamed = np.pad(label, (0, 600 - num_examples), constant_values=-1).reshape(3, 200)
    pixels = np.zeros((3, 200, 1, 1, 1), np.uint8)
    chex.assert_trees_all_equal(
        compiled.evaluate_batches(state, empty, pixels, streamed, batches), metrics
    )


class BiasedModel:
    """Gives every image the same probabilities of two classes; its parameter is the first."""

    def apply(self, variables: Any, image: jax.Array) -> jax.Array:
        probability = variables["params"]
        logits = jnp.log(jnp.stack([probability, 1 - probability]))
        return jnp.tile(logits, (len(image), 1))


def test_ensemble_averages_probabilities() -> None:
    # Two ensembles of two models, which give class 0 the probabilities 0.9 and 0.4, 0.2 and 0.4:
    # the means are 0.65 and 0.3. Of five images one is of class 1, so the models are right for
    # 4, 1, 1 and 1 of 5 images, the ensembles for 4 and 1.
    state = state_with().replace(
        params=jnp.asarray([0.9, 0.4, 0.2, 0.4]), model=BiasedModel(), opt_state=()
    )
    state = state.replace(step=jnp.zeros(4, jnp.int32))
    label = jnp.asarray([0, 0, 1, 0, 0], jnp.int32)
    image = jnp.zeros((5, 1, 1, 1), jnp.uint8)
    metrics = compile.jitted_loops(True, MESH, 1).evaluate(
        state, EvalMetrics.empty(4, 2), image, label, 0, 5
    )
    assert [values["accuracy"] for values in compute_each(metrics.models)] == [0.8, 0.2, 0.2, 0.2]
    ensembles = compute_each(metrics.ensembles)
    assert [values["accuracy"] for values in ensembles] == [0.8, 0.2]
    for values, probability in zip(ensembles, (0.65, 0.3), strict=True):
        expected = -(4 * np.log(probability) + np.log(1 - probability)) / 5
        assert values["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_requests_deterministic_kernels(
    deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested = []
    monkeypatch.setattr(
        jax, "jit", lambda *_, **options: requested.append(options["compiler_options"])
    )
    compile.jitted_loops.__wrapped__(deterministic, MESH, 1)
    assert ["xla_gpu_deterministic_ops" in options for options in requested] == [deterministic] * 4

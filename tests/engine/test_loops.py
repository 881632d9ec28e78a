"""The compiled loops, on one device; `test_parallel.py` has them on several."""

from typing import Any, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import data, train
from cnn_jax.engine import loops, sharding
from cnn_jax.engine.loops import EvalMetrics
from cnn_jax.nn.metrics import Metrics
from tests.test_train import batch_of, state_with

MESH = sharding.single_device_mesh()


def one(tree: Any) -> Any:
    """A single network as the loops take it: with an axis for the networks."""
    return jax.tree.map(lambda array: jnp.asarray(array)[None], tree)


def only(tree: Any) -> Any:
    """The single network of what the loops return."""
    return jax.tree.map(lambda array: array[0], tree)


def arrays_of(split: data.Examples) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(split.image), jnp.asarray(split.label)


def test_every_example_is_used_exactly_once_an_epoch(
    random_split: data.Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A step that learns nothing and writes down which labels it was given and counts.
    def spy(state: Any, batch: train.Batch) -> Any:
        seen = state.at[batch["label"]].add(batch["mask"].astype(jnp.int32))
        return seen, Metrics.empty()

    monkeypatch.setattr(loops, "train_step", spy)
    label = jnp.arange(7, dtype=jnp.int32)
    order = train.epoch_permutation(0, 1, 7)[None]
    image = jnp.asarray(random_split.image)
    for batch_size, num_batches in ((3, 3), (7, 1), (1, 7)):
        seen, _, _ = loops._train_steps(
            cast(Any, jnp.zeros((1, 7), jnp.int32)),
            Metrics.empty(1),
            *(image, label, order, 0, num_batches),
            batch_size=batch_size,
            mesh=MESH,
        )
        chex.assert_trees_all_equal(seen, jnp.ones((1, 7), jnp.int32))


def test_the_loop_is_the_steps_one_by_one(random_split: data.Examples) -> None:
    # 7 examples in batches of 3, 3 and 1: the last one padded and masked in the loop, exact here.
    order = train.epoch_permutation(5, 1, 7)
    rows = np.asarray(order).tolist()
    state = state_with()
    for chosen in (rows[:3], rows[3:6], rows[6:]):
        state, expected_last = train.train_step(state, batch_of(random_split, *chosen))
    looped, total, last = loops.compiled_loops(True, MESH, 3).train_steps(
        one(state_with()), Metrics.empty(1), *arrays_of(random_split), order[None], 0, 3
    )
    assert only(looped).step == 3
    assert only(total).compute()["count"] == 7
    assert only(last).compute() == pytest.approx(expected_last.compute())
    # Sums over a padded batch run in another order than over an exact one.
    chex.assert_trees_all_close(only(looped).params, state.params, atol=1e-7)


def test_the_loop_can_be_cut_anywhere(random_split: data.Examples) -> None:
    arrays = (*arrays_of(random_split), jnp.arange(7)[None])
    run = loops.compiled_loops(True, MESH, 1).train_steps
    straight = run(one(state_with()), Metrics.empty(1), *arrays, 0, 7)
    cut, total, _ = run(one(state_with()), Metrics.empty(1), *arrays, 0, 2)
    # The sum too: it goes in and comes out, so that even its rounding is the same.
    chex.assert_trees_all_equal(run(cut, total, *arrays, 2, 5), straight)


def test_batches_that_are_brought_are_trained_on_as_those_in_memory(
    random_split: data.Examples,
) -> None:
    # Three batches of 3, 3 and 1 of 7 examples, in a piece for four, the rest of it filled up.
    order = np.asarray(train.epoch_permutation(5, 1, 7))
    chosen = np.append(order, [-1] * 5).reshape(1, 4, 3)
    image = np.where(chosen[..., None, None, None] < 0, 77, random_split.image[chosen])
    label = np.where(chosen < 0, -1, random_split.label[chosen])
    compiled = loops.compiled_loops(True, MESH, 3)
    brought = compiled.train_batches(
        one(state_with()), Metrics.empty(1), image.astype(np.uint8), label, 3
    )
    in_memory = compiled.train_steps(
        one(state_with()), Metrics.empty(1), *arrays_of(random_split), order[None], 0, 3
    )
    chex.assert_trees_all_equal(brought, in_memory)


class ConstantModel:
    """Always answers class 0, with logits 1 and 0."""

    def apply(self, variables: Any, image: jax.Array) -> jax.Array:
        del variables
        return jnp.tile(jnp.asarray([[1.0, 0.0]]), (len(image), 1))


@pytest.mark.parametrize("num_examples", [1, 199, 200, 201, 400, 403])
def test_evaluation_scores_every_example_once(num_examples: int) -> None:
    # Labels 0 1 0 0 1 0 0 1 0 ...: those that are 0 are right and cost ln(1 + e) - 1, the others
    # ln(1 + e). Around the batch size of 200 nothing may be dropped or counted twice, and what
    # stands before and after in the array, with the label 1, must not be counted at all.
    label = np.arange(num_examples, dtype=np.int32) % 3 % 2
    assert loops.eval_batch_size(MESH) == 200
    padded = np.pad(label, (7, 2000 - num_examples), constant_values=1)
    state = one(state_with()).replace(model=ConstantModel())
    image = jnp.zeros((len(padded), 1, 1, 1), jnp.uint8)
    compiled = loops.compiled_loops(True, MESH, 128)
    arrays = (image, jnp.asarray(padded))
    empty = EvalMetrics.empty(1, 1)
    found = compiled.evaluate(state, empty, *arrays, 7, 7 + num_examples)
    right = int((label == 0).sum())
    assert only(found.models).compute() == {
        "count": num_examples,
        "accuracy": right / num_examples,
        "loss": pytest.approx(np.log(1 + np.e) - right / num_examples, rel=1e-5),
    }
    assert found.ensembles is None
    if num_examples > 200:  # In two calls, the first of which ends with a batch.
        total = compiled.evaluate(state, empty, *arrays, 7, 207)
        again = compiled.evaluate(state, total, *arrays, 207, 7 + num_examples)
        chex.assert_trees_all_equal(again, found)
    batches = -(-num_examples // 200)
    brought = np.pad(label, (0, 600 - num_examples), constant_values=-1).reshape(3, 200)
    pixels = np.zeros((3, 200, 1, 1, 1), np.uint8)
    chex.assert_trees_all_equal(
        compiled.evaluate_batches(state, empty, pixels, brought, batches), found
    )


class BiasedModel:
    """Two classes, whose probabilities are the same for every image."""

    def apply(self, variables: Any, image: jax.Array) -> jax.Array:
        share = variables["params"]
        return jnp.tile(jnp.log(jnp.stack([share, 1 - share])), (len(image), 1))


def test_an_ensemble_is_the_mean_of_probabilities() -> None:
    # Two ensembles of two networks, which give class 0 the probabilities 0.9 and 0.4, 0.2 and 0.4:
    # the means are 0.65 and 0.3. Of five images one is of class 1, so of the networks
    # 4, 1, 1 and 1 of 5 are right, of the ensembles 4 and 1.
    state = state_with().replace(
        params=jnp.asarray([0.9, 0.4, 0.2, 0.4]), model=BiasedModel(), opt_state=()
    )
    state = state.replace(step=jnp.zeros(4, jnp.int32))
    label = jnp.asarray([0, 0, 1, 0, 0], jnp.int32)
    image = jnp.zeros((5, 1, 1, 1), jnp.uint8)
    found = loops.compiled_loops(True, MESH, 1).evaluate(
        state, EvalMetrics.empty(4, 2), image, label, 0, 5
    )
    assert [values["accuracy"] for values in found.models.compute_each()] == [0.8, 0.2, 0.2, 0.2]
    ensembles = found.ensembles.compute_each()
    assert [values["accuracy"] for values in ensembles] == [0.8, 0.2]
    for values, share in zip(ensembles, (0.65, 0.3), strict=True):
        expected = -(4 * np.log(share) + np.log(1 - share)) / 5
        assert values["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_asks_for_deterministic_kernels(
    deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(jax, "jit", lambda *_, **options: asked.append(options["compiler_options"]))
    loops.compiled_loops.__wrapped__(deterministic, MESH, 1)
    assert ["xla_gpu_deterministic_ops" in options for options in asked] == [deterministic] * 4

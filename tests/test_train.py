"""One step, the plain loop over an epoch, optimizers and schedules."""

from importlib import import_module
from typing import Any, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from ml_collections import ConfigDict

from cnn_jax import data, train
from cnn_jax.model import ConvNet
from cnn_jax.nn.metrics import Metrics
from cnn_jax.nn.optimizer import learning_rate_schedule, make_optimizer
from cnn_jax.train import TrainState
from tests.support import numpy_reference

mnist = import_module("configs.mnist")


def config_with(**changes: Any) -> ConfigDict:
    config: ConfigDict = mnist.get_config()
    config.update_from_flattened_dict(changes)
    return config


def state_with(**changes: Any) -> TrainState:
    return train.create_train_state(config_with(**changes), jax.random.key(1))


def batch_of(split: data.Examples, *rows: int) -> train.Batch:
    index = list(rows) or slice(None)
    return {"image": jnp.asarray(split.image[index]), "label": jnp.asarray(split.label[index])}


# --- one step


def test_initial_loss_is_near_ln_10(random_examples: data.Examples) -> None:
    # Weights of 0.01 make logits of some 0.01, which move the loss by about as much.
    loss = train.eval_step(state_with(), batch_of(random_examples)).compute()["loss"]
    assert loss == pytest.approx(np.log(10), abs=0.02)


def test_200_steps_follow_the_formulas() -> None:
    # float32 against float64. A wrong formula shows at once; correct ones drift apart by rounding,
    # which this seed's 200 steps amplify to about 1e-5 of the loss. It takes seconds on
    # purpose: it shows that the program computes what the tutorial explains.
    digits = data.load("digits").train
    state = state_with(**{"model.init_stddev": 0.1})
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)
    losses = []
    for step in range(200):
        rows = np.asarray(train.epoch_permutation(1, step, len(digits.label)))[:16]
        batch = batch_of(digits, *rows)
        state, metrics = train.train_step(state, batch)
        loss, gradients = numpy_reference.loss_and_gradients(
            params, digits.image[rows], digits.label[rows]
        )
        params = numpy_reference.sgd(params, gradients, 0.05)
        losses.append(loss)
        assert metrics.compute()["loss"] == pytest.approx(loss, rel=1e-4, abs=1e-6)
    chex.assert_trees_all_close(state.params, params, atol=2e-5, rtol=0)
    assert np.mean(losses[-20:]) < 0.5 < 2 < np.mean(losses[:20])  # It learned.
    assert int(state.step) == 200


def test_masked_examples_have_no_effect(random_examples: data.Examples) -> None:
    batch = batch_of(random_examples)
    mask = jnp.asarray([True, False, True, True, False, False, True])
    masked, metrics = train.train_step(state_with(), {**batch, "mask": mask})
    smaller, expected = train.train_step(state_with(), batch_of(random_examples, 0, 2, 3, 6))
    assert metrics.compute() == pytest.approx(expected.compute())
    # The same four examples summed in another order: a few roundings of gradients below 1.
    chex.assert_trees_all_close(masked.params, smaller.params, atol=1e-7)


def test_smoothed_labels_change_the_step_and_not_the_metrics(
    random_examples: data.Examples,
) -> None:
    batch = batch_of(random_examples)
    plain, expected = train.train_step(state_with(), batch)
    smooth, metrics = train.train_step(state_with(label_smoothing=0.5), batch)
    assert metrics.compute() == expected.compute()
    # The bias starts at zero and plain SGD moves it by -0.05 * mean(probability - label), where
    # smoothing halves the label's class and adds 0.05 for each.
    before, after = plain.params["linear_1"]["bias"], smooth.params["linear_1"]["bias"]
    counts = np.bincount(random_examples.label, minlength=10) / len(random_examples.label)
    np.testing.assert_allclose(after - before, 0.05 * (0.05 - 0.5 * counts), atol=1e-7)


def test_a_step_in_parts_equals_a_whole_step() -> None:
    batch = batch_of(data.load("digits").train, *range(12))
    # Of the three parts of four examples, one has padding and one is nothing but padding.
    batch["mask"] = jnp.asarray([True] * 4 + [True, False, True, True] + [False] * 4)
    state = state_with(label_smoothing=0.5)
    whole, expected = train.train_step(state, batch)
    parts, metrics = train.train_step(
        state_with(label_smoothing=0.5).replace(num_microbatches=3), batch
    )
    assert metrics.compute() == pytest.approx(expected.compute())
    # Seven examples summed in another order: a few roundings of gradients below 1.
    chex.assert_trees_all_close(parts.params, whole.params, atol=1e-7, rtol=0)


def test_step_is_pure(random_examples: data.Examples) -> None:
    batch = batch_of(random_examples)
    first, first_metrics = train.train_step(state_with(), batch)
    second, second_metrics = train.train_step(state_with(), batch)
    chex.assert_trees_all_equal(first, second)
    chex.assert_trees_all_equal(first_metrics, second_metrics)


def test_evaluation_does_not_change_the_state(random_examples: data.Examples) -> None:
    state = state_with()
    before = jax.device_get(state)
    train.eval_step(state, batch_of(random_examples))
    chex.assert_trees_all_equal(state, before)


def test_step_refuses_pixels_that_are_already_scaled(random_examples: data.Examples) -> None:
    batch = batch_of(random_examples)
    batch["image"] = batch["image"].astype(jnp.float32)
    with pytest.raises(TypeError, match="uint8"):
        train.eval_step(state_with(), batch)


def test_64_images_can_be_memorized() -> None:
    # A network that cannot do it is wired wrongly. 9,098 parameters are plenty for 64 labels.
    batch = batch_of(data.load("digits").train, *range(64))
    state = state_with(**{"model.init_stddev": 0.1, "optimizer": "adam", "learning_rate": 0.01})
    for _ in range(60):
        state, _ = train.train_step(state, batch)
    assert train.eval_step(state, batch).compute()["accuracy"] == 1.0


# --- the plain loop over an epoch


def test_epoch_is_its_steps_and_counts_every_example_once(random_examples: data.Examples) -> None:
    # 7 examples in batches of 3, 3 and 1: the last one is padded and masked in the loop.
    permutation = train.epoch_permutation(5, 1, 7)
    rows = np.asarray(permutation).tolist()
    state, total = state_with(**{"model.features": (2,)}), Metrics.empty()
    for start in (0, 3, 6):
        state, metrics = train.train_step(
            state, batch_of(random_examples, *rows[start : start + 3])
        )
        total = total.merge(metrics)
    looped, metrics = train.train_epoch(
        state_with(**{"model.features": (2,)}),
        jnp.asarray(random_examples.image),
        jnp.asarray(random_examples.label),
        permutation,
        3,
    )
    assert int(looped.step) == 3
    assert metrics.compute() == pytest.approx(total.compute())
    assert metrics.compute()["count"] == 7
    # A padded batch is summed in another order.
    chex.assert_trees_all_close(looped.params, state.params, atol=1e-7)


# --- optimizers


P, G, H = (np.random.default_rng(seed).normal(size=5).astype(np.float32) for seed in range(3))


def two_steps(**changes: Any) -> tuple[Any, Any]:
    """Returns the parameters after one and two steps from P with the gradients G and H."""
    optimizer = state_with(**changes).optimizer
    params, opt_state, history = jnp.asarray(P), optimizer.init(jnp.asarray(P)), []
    for gradient in (G, H):
        updates, opt_state = optimizer.update(jnp.asarray(gradient), opt_state, params)
        params = params + updates
        history.append(params)
    return history[0], history[1]


def test_sgd() -> None:
    first = P - 0.05 * G
    chex.assert_trees_all_close(two_steps(), (first, first - 0.05 * H), rtol=1e-6)


def test_sgd_with_momentum() -> None:
    # v1 = g, v2 = 0.9 v1 + h; each step subtracts the rate times v.
    first = P - 0.05 * G
    second = first - 0.05 * (0.9 * G + H)
    chex.assert_trees_all_close(two_steps(momentum=0.9), (first, second), rtol=1e-6)


def test_nesterov() -> None:
    # Sutskever et al. (2013), as in PyTorch: the step is g + 0.9 v, where v already contains g.
    first = P - 0.05 * (G + 0.9 * G)
    second = first - 0.05 * (H + 0.9 * (0.9 * G + H))
    steps = two_steps(optimizer="nesterov", momentum=0.9)
    chex.assert_trees_all_close(steps, (first, second), rtol=1e-6)


def test_weight_decay_of_sgd_is_added_to_the_gradient() -> None:
    first = P - 0.05 * (G + 0.1 * P)
    second = first - 0.05 * (H + 0.1 * first)
    chex.assert_trees_all_close(two_steps(weight_decay=0.1), (first, second), rtol=1e-6)


@pytest.mark.parametrize(("optimizer", "decay"), [("adam", 0.0), ("adamw", 0.1)])
def test_adam_and_adamw(optimizer: str, decay: float) -> None:
    # Kingma and Ba (2015): m = 0.9 m + 0.1 g, v = 0.999 v + 0.001 g^2, both divided by the
    # value that a constant gradient of 1 gives; AdamW subtracts decay * p apart from the gradient.
    first = P - 0.01 * (G / (np.abs(G) + 1e-8) + decay * P)
    m = (0.9 * 0.1 * G + 0.1 * H) / (1 - 0.9**2)
    v = (0.999 * 0.001 * G**2 + 0.001 * H**2) / (1 - 0.999**2)
    second = first - 0.01 * (m / (np.sqrt(v) + 1e-8) + decay * first)
    steps = two_steps(optimizer=optimizer, learning_rate=0.01, weight_decay=decay)
    # 1 - 0.999^2 = 0.002 has the rounding of 0.998: 6e-8 / 0.002 = 3e-5 of a step of 0.01.
    chex.assert_trees_all_close(steps, (first, second), rtol=1e-6, atol=1e-6)


def test_schedules() -> None:
    constant = learning_rate_schedule("constant", 0.1, 100)
    assert [float(constant(step)) for step in (0, 99)] == [0.1, 0.1]
    # 0.1 * (1 + cos(pi * step / 100)) / 2.
    cosine = learning_rate_schedule("cosine", 0.1, 100)
    assert [float(cosine(step)) for step in (0, 50, 100)] == pytest.approx([0.1, 0.05, 0], abs=1e-7)
    one_cycle = learning_rate_schedule("one_cycle", 0.1, 100)
    rates = [float(one_cycle(step)) for step in range(101)]
    assert rates[0] == pytest.approx(0.1 / 25)
    assert int(np.argmax(rates)) == 30
    assert rates[30] == pytest.approx(0.1)
    assert rates[100] == pytest.approx(0.1 / 25 / 1e4, rel=1e-2)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="'rmsprop' is invalid: it must be sgd, nesterov, adam or"):
        make_optimizer("rmsprop", "constant", 10, 0.1, 0.0, 0.0)
    with pytest.raises(ValueError, match="'step' is invalid: it must be constant, cosine or one_c"):
        learning_rate_schedule("step", 0.1, 10)


def test_state_of_a_swept_config_requires_the_value_of_its_model() -> None:
    config = config_with(learning_rate=(0.1, 0.2))
    with pytest.raises(
        ValueError, match=r"learning_rate=\(0.1, 0.2\) is invalid for a single model"
    ):
        train.create_train_state(config, jax.random.key(1))


@pytest.mark.parametrize("name", ["constant", "cosine", "one_cycle"])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 5])
def test_schedules_of_tiny_runs_are_finite(name: str, num_steps: int) -> None:
    schedule = learning_rate_schedule(name, 0.1, num_steps)
    rates = [float(schedule(step)) for step in range(num_steps)]
    assert np.isfinite(rates).all()
    assert max(rates) > 0


def test_schedule_spans_the_whole_run() -> None:
    # 10 examples in batches of 4 are 3 steps, two epochs are 6: after them the cosine is 0,
    # so that a seventh step changes nothing.
    config = config_with(num_epochs=2, batch_size=4, schedule="cosine", learning_rate=0.1)
    state = train.create_train_state(config, jax.random.key(1), num_examples=10)
    batch: train.Batch = {
        "image": jnp.full((4, 28, 28, 1), 255, jnp.uint8),
        "label": jnp.zeros(4, jnp.int32),
    }
    history = []
    for _ in range(7):
        state, _ = train.train_step(state, batch)
        history.append(jax.device_get(state.params["linear_1"]["bias"]))
    assert (history[5] != history[4]).any()
    chex.assert_trees_all_equal(history[6], history[5])


# --- the permutation of an epoch


def test_epoch_permutation_depends_on_seed_and_epoch_alone() -> None:
    permutations = {
        (seed, epoch): tuple(np.asarray(train.epoch_permutation(seed, epoch, 100)).tolist())
        for seed in (0, 1, 2**32 - 1)
        for epoch in (1, 2)
    }
    assert all(sorted(p) == list(range(100)) for p in permutations.values())
    assert len(set(permutations.values())) == len(permutations)
    assert permutations[1, 2] == tuple(np.asarray(train.epoch_permutation(1, 2, 100)).tolist())


@pytest.mark.parametrize(("activation", "pool"), [("sigmoid", "avg"), ("leaky_relu", "none")])
def test_gradients_agree_with_finite_differences(activation: str, pool: str) -> None:
    model = ConvNet(2, (2,), activation=activation, pool=pool, init_stddev=0.3)
    image = jnp.asarray(np.random.default_rng(0).random((2, 4, 4, 1)), jnp.float32)
    params = model.init(jax.random.key(0), image)["params"]

    @jax.jit
    def loss(params: Any) -> jax.Array:
        logits = cast(jax.Array, model.apply({"params": params}, image))
        return Metrics.from_batch(logits, jnp.asarray([0, 1])).mean_loss()

    # With this key no input of leaky_relu is within one step of its kink.
    check_grads(loss, (params,), order=1, modes="rev", eps=1e-3, rtol=1e-2)

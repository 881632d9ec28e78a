import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.nn.metrics import Metrics

LN10 = float(np.log(10))


def test_equal_logits_cost_ln_10_each() -> None:
    metrics = Metrics.of_batch(jnp.zeros((3, 10)), jnp.asarray([0, 4, 9]))
    # Of equals argmax takes the first, class 0: one of three is right.
    assert metrics.compute() == {"loss": pytest.approx(LN10), "accuracy": 1 / 3, "count": 3}


def test_cross_entropy_of_known_probabilities() -> None:
    # softmax(ln 1, ln 3) = 1/4, 3/4, so the two examples cost ln 4 and ln 4/3.
    logits = jnp.log(jnp.asarray([[1.0, 3.0], [1.0, 3.0]]))
    metrics = Metrics.of_batch(logits, jnp.asarray([0, 1])).compute()
    assert metrics["loss"] == pytest.approx((np.log(4) + np.log(4 / 3)) / 2)
    assert metrics["accuracy"] == 0.5


def test_masked_examples_count_for_nothing_even_as_nan() -> None:
    logits = jnp.asarray([[0.0, 0.0], [jnp.nan, jnp.nan]])
    metrics = Metrics.of_batch(logits, jnp.asarray([0, 1]), jnp.asarray([True, False]))
    assert metrics.compute() == {"loss": pytest.approx(np.log(2)), "accuracy": 1.0, "count": 1}


def test_merging_weighs_by_count() -> None:
    # Batches of 2 and 1 with 1 and 1 right: 2 of 3; a mean of means would say 3/4.
    first = Metrics(jnp.float32(3), jnp.int32(1), jnp.int32(2))
    second = Metrics(jnp.float32(6), jnp.int32(1), jnp.int32(1))
    assert first.merge(second).compute() == {"loss": 3.0, "accuracy": 2 / 3, "count": 3}
    chex.assert_trees_all_equal(first.merge(Metrics.empty()), first)


def test_metrics_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no examples"):
        Metrics.empty().compute()


@pytest.mark.parametrize(
    ("label", "mask"), [(np.zeros(2, int), None), (np.zeros(3, int), np.ones(2, bool))]
)
def test_shapes_that_do_not_agree_are_refused(label: np.ndarray, mask: np.ndarray | None) -> None:
    with pytest.raises(ValueError, match="do not agree"):
        Metrics.of_batch(
            jnp.zeros((3, 10)), jnp.asarray(label), None if mask is None else jnp.asarray(mask)
        )


def test_the_mean_loss_of_a_fully_masked_batch_has_a_finite_gradient() -> None:
    def loss(logits: jax.Array) -> jax.Array:
        nobody = jnp.zeros(2, bool)
        return Metrics.of_batch(logits, jnp.asarray([0, 1]), nobody).mean_loss()

    chex.assert_trees_all_equal(jax.grad(loss)(jnp.ones((2, 3))), jnp.zeros((2, 3)))

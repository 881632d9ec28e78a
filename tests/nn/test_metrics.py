import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.nn.metrics import Metrics, _cross_entropy_by_one_hot, smoothed_loss

LN10 = float(np.log(10))


def test_equal_logits_of_10_classes_have_loss_ln_10() -> None:
    metrics = Metrics.from_batch(jnp.zeros((3, 10)), jnp.asarray([0, 4, 9]))
    # If all logits are equal, argmax returns the first class, 0: one of three is correct.
    assert metrics.compute() == {"loss": pytest.approx(LN10), "accuracy": 1 / 3, "count": 3}


def test_loss_is_the_cross_entropy_of_known_probabilities() -> None:
    # softmax(ln 1, ln 3) = 1/4, 3/4, so the losses of the two examples are ln 4 and ln 4/3.
    logits = jnp.log(jnp.asarray([[1.0, 3.0], [1.0, 3.0]]))
    metrics = Metrics.from_batch(logits, jnp.asarray([0, 1])).compute()
    assert metrics["loss"] == pytest.approx((np.log(4) + np.log(4 / 3)) / 2)
    assert metrics["accuracy"] == 0.5


def test_masked_examples_are_ignored_even_if_they_are_nan() -> None:
    logits = jnp.asarray([[0.0, 0.0], [jnp.nan, jnp.nan]])
    metrics = Metrics.from_batch(logits, jnp.asarray([0, 1]), jnp.asarray([True, False]))
    assert metrics.compute() == {"loss": pytest.approx(np.log(2)), "accuracy": 1.0, "count": 1}


def test_merged_metrics_weigh_batches_by_their_size() -> None:
    # Batches of 2 and 1 examples, each with 1 correct: 2 of 3. The mean of the means would be 3/4.
    first = Metrics(jnp.float32(3), jnp.int32(1), jnp.int32(2))
    second = Metrics(jnp.float32(6), jnp.int32(1), jnp.int32(1))
    assert first.merge(second).compute() == {"loss": 3.0, "accuracy": 2 / 3, "count": 3}
    chex.assert_trees_all_equal(first.merge(Metrics.empty()), first)


def test_metrics_of_zero_examples_are_refused() -> None:
    with pytest.raises(
        ValueError, match="count=0 is invalid: metrics must cover at least one example"
    ):
        Metrics.empty().compute()


@pytest.mark.parametrize(
    ("label", "mask"), [(np.zeros(2, int), None), (np.zeros(3, int), np.ones(2, bool))]
)
def test_inconsistent_shapes_are_refused(label: np.ndarray, mask: np.ndarray | None) -> None:
    with pytest.raises(
        ValueError, match=r"are invalid: their shapes must be \[B, K\], \[B\] and \[B\]"
    ):
        Metrics.from_batch(
            jnp.zeros((3, 10)), jnp.asarray(label), None if mask is None else jnp.asarray(mask)
        )


def test_mean_loss_of_a_fully_masked_batch_has_a_zero_gradient() -> None:
    def loss(logits: jax.Array) -> jax.Array:
        mask = jnp.zeros(2, bool)
        return Metrics.from_batch(logits, jnp.asarray([0, 1]), mask).mean_loss()

    chex.assert_trees_all_equal(jax.grad(loss)(jnp.ones((2, 3))), jnp.zeros((2, 3)))


def test_one_hot_labels_give_the_same_loss_and_gradient() -> None:
    generator = np.random.default_rng(0)
    logits = jnp.asarray(generator.normal(size=(20, 10)), jnp.float32)
    label = jnp.asarray(generator.integers(0, 10, 20, np.int32))
    loss, vjp = jax.vjp(lambda x: _cross_entropy_by_one_hot(x, label), logits)
    # The definition in float64: ln of the sum of exp(logits), minus the logit of the label. Its
    # gradient is the probability of each class, minus 1 for the label.
    exact = np.asarray(logits, np.float64)
    probability = np.exp(exact) / np.exp(exact).sum(1, keepdims=True)
    expected = -np.log(probability[np.arange(20), label])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(vjp(jnp.ones(20))[0], probability - np.eye(10)[label], atol=1e-6)


def test_smoothed_loss_and_its_gradient_follow_the_formula() -> None:
    generator = np.random.default_rng(0)
    logits, label = generator.normal(0, 3, (6, 10)), generator.integers(0, 10, 6, np.int32)
    mask = np.array([True, True, False, True, False, True])

    def loss(logits: jax.Array) -> jax.Array:
        metrics = Metrics.from_batch(logits, jnp.asarray(label), jnp.asarray(mask))
        return smoothed_loss(metrics, logits, jnp.asarray(mask), 0.2)

    result, gradient = jax.value_and_grad(loss)(jnp.asarray(logits, jnp.float32))
    # In float64: the cross-entropy with 0.8 of the label's class and 0.02 of each of the ten, mean
    # of the four examples. Its gradient is the difference of the probabilities and these labels.
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    smooth = 0.8 * np.eye(10)[label] + 0.02
    expected = -(smooth * np.log(probability)).sum(1)[mask].mean()
    assert float(result) == pytest.approx(expected, rel=1e-6)
    expected_gradient = mask[:, None] * (probability - smooth) / 4
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-7)


def test_loss_without_smoothing_is_the_plain_program() -> None:
    def plain(metrics: Metrics, logits: jax.Array) -> jax.Array:
        return metrics.mean_loss()

    def without_smoothing(metrics: Metrics, logits: jax.Array) -> jax.Array:
        return smoothed_loss(metrics, logits, None, 0.0)

    arguments = Metrics.empty(), jnp.ones((2, 10))
    program = str(jax.make_jaxpr(without_smoothing)(*arguments))
    assert program == str(jax.make_jaxpr(plain)(*arguments))


def test_one_hot_labels_ignore_the_zero_probability_of_other_classes() -> None:
    # Probabilities 0 and 1, of which the label has the latter: the loss is -ln 1. A product of the
    # label 0 and ln 0 would be NaN.
    loss = _cross_entropy_by_one_hot(jnp.asarray([[-jnp.inf, 0.0]]), jnp.asarray([1]))
    assert loss.tolist() == [0.0]


@pytest.mark.parametrize(("platform", "scatters"), [("cpu", True), ("cuda", False), ("tpu", False)])
def test_gradient_of_the_loss_is_no_scatter_on_accelerators(platform: str, scatters: bool) -> None:
    def loss(logits: jax.Array, label: jax.Array) -> jax.Array:
        return Metrics.from_batch(logits, label).mean_loss()

    shapes = jax.ShapeDtypeStruct((4, 10), jnp.float32), jax.ShapeDtypeStruct((4,), jnp.int32)
    # Lowering for a platform does not require its hardware.
    exported = jax.export.export(jax.jit(jax.grad(loss)), platforms=[platform])(*shapes)
    assert ("stablehlo.scatter" in exported.mlir_module()) == scatters

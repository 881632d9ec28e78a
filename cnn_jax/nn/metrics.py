"""Loss and accuracy as sums and counts, divided once at the end; the loss of training."""

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array

MetricValues = dict[str, float | int]  # Result of `Metrics.compute`.


class Metrics(flax.struct.PyTreeNode):
    """Sums over a set of examples. Metrics of several models have a leading model axis.

    Attributes:
      loss_sum: float32 [], the sum of the examples' cross-entropies, in nats.
      correct: int32 [], the number of examples whose predicted class is their label.
      count: int32 [], the number of examples.
    """

    loss_sum: Array
    correct: Array
    count: Array

    @classmethod
    def empty(cls, *shape: int) -> "Metrics":
        """Returns metrics of zero examples.

        Args:
          *shape: shape of every attribute: nothing for one model, `num_models` for several.
        """
        return cls(
            jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.int32)
        )

    @classmethod
    def from_batch(cls, logits: Array, label: Array, mask: Array | None = None) -> "Metrics":
        """Computes the metrics of one batch.

        Args:
          logits: float32 [B, K].
          label: int32 [B], 0..K-1.
          mask: bool [B], false for the padding of a batch. None counts every example.

        Returns:
          Metrics whose attributes have the shape [].

        Raises:
          ValueError: when the shapes do not agree.
        """
        if mask is None:
            mask = jnp.ones_like(label, dtype=bool)
        if not logits.shape[:-1] == label.shape == mask.shape:
            raise ValueError(
                f"logits {logits.shape}, label {label.shape} and mask {mask.shape} are invalid: "
                "their shapes must be [B, K], [B] and [B]. Use the same batch axes for all three."
            )
        loss = jax.lax.platform_dependent(
            logits,
            label,
            cpu=optax.softmax_cross_entropy_with_integer_labels,
            default=_cross_entropy_by_one_hot,
        )
        return cls(
            # `where`, not a product: padding must not count even where its loss is NaN.
            jnp.where(mask, loss, 0).sum(),
            (mask & (logits.argmax(-1) == label)).sum(dtype=jnp.int32),
            mask.sum(dtype=jnp.int32),
        )

    def merge(self, other: "Metrics") -> "Metrics":
        """Returns the metrics of both sets of examples together."""
        return Metrics(
            self.loss_sum + other.loss_sum,
            self.correct + other.correct,
            self.count + other.count,
        )

    def mean_loss(self) -> Array:
        """Returns the mean cross-entropy, float32 [].

        It is 0 for zero examples, so that the gradient of a fully masked batch stays finite.
        """
        return self.loss_sum / jnp.maximum(self.count, 1)

    def compute(self) -> MetricValues:
        """Returns the metrics of one model as Python numbers.

        Returns:
          `loss`, the mean cross-entropy in nats; `accuracy`, 0..1; `count`, the number of examples.

        Raises:
          ValueError: for zero examples, whose mean is undefined.
        """
        count = int(self.count)
        if not count:
            raise ValueError(
                "count=0 is invalid: metrics must cover at least one example. "
                "Merge the metrics of a batch before calling compute()."
            )
        return {
            "loss": float(self.loss_sum) / count,
            "accuracy": int(self.correct) / count,
            "count": count,
        }


def smoothed_loss(
    metrics: Metrics, logits: Array, mask: Array | None, label_smoothing: float
) -> Array:
    """Returns the mean cross-entropy of a batch with smoothed labels, which training minimizes.

    With a for `label_smoothing` and p_k for the probability of class k it is

        (1 - a) * cross-entropy + a * mean over k of -log p_k

    Source: Szegedy et al., 2016 (Rethinking the Inception Architecture), section 7.

    Args:
      metrics: metrics of the batch, for the cross-entropy.
      logits: float32 [B, K].
      mask: bool [B], false for the padding of the batch; None counts every example.
      label_smoothing: 0 <= a < 1; 0 for the plain cross-entropy.

    Returns:
      float32 [], in nats; 0 for zero examples.
    """
    loss = metrics.mean_loss()
    if not label_smoothing:
        return loss
    uniform = -jax.nn.log_softmax(logits).mean(-1)  # The cross-entropy with equal labels.
    if mask is not None:
        uniform = jnp.where(mask, uniform, 0)
    mean_uniform = uniform.sum() / jnp.maximum(metrics.count, 1)
    return (1 - label_smoothing) * loss + label_smoothing * mean_uniform


def _cross_entropy_by_one_hot(logits: Array, label: Array) -> Array:
    """Computes the cross-entropy of each example with one-hot labels, for accelerators.

    It differs from the form for CPUs by float32 rounding, and for a label that is no class, whose
    loss is 0 here and NaN there. There the gradient is a scatter, which a
    GPU with deterministic kernels replaces by a sort in every step.

    Args:
      logits: float32 [B, K].
      label: int32 [B], 0..K-1.

    Returns:
      float32 [B], in nats.
    """
    is_label = jax.nn.one_hot(label, logits.shape[-1], dtype=bool)
    # `where`, not a product: other classes must not count even where their probability is 0.
    return -jnp.where(is_label, jax.nn.log_softmax(logits), 0).sum(-1)

"""Loss and accuracy as sums and counts: merged by adding, divided once, at the end."""

import math
from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array

MetricValues = dict[str, float | int]  # What `Metrics.compute` says.


class Metrics(flax.struct.PyTreeNode):
    """What a set of examples adds up to; for several networks, each attribute has their axis.

    Attributes:
      loss_sum: float32 [], the sum of the examples' cross-entropies, in nats.
      correct: int32 [], how many examples got their own class.
      count: int32 [], how many examples there were.
    """

    loss_sum: Array
    correct: Array
    count: Array

    @classmethod
    def empty(cls, *shape: int) -> "Metrics":
        """Those of no examples, for so many networks."""
        return cls(
            jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.int32)
        )

    @classmethod
    def of_batch(cls, logits: Array, label: Array, mask: Array | None = None) -> "Metrics":
        """Those of a batch.

        Args:
          logits: float32 [B, K], where any number of axes may stand for B.
          label: int32 [B], 0..K-1.
          mask: bool [B], false for what only fills up the batch; None counts every example.

        Raises:
          ValueError: when the shapes do not agree.
        """
        if mask is None:
            mask = jnp.ones_like(label, dtype=bool)
        if not logits.shape[:-1] == label.shape == mask.shape:
            raise ValueError(
                f"logits {logits.shape}, label {label.shape} and mask {mask.shape} do not agree: "
                "allowed are [B, K], [B] and [B]."
            )
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        return cls(
            # `where`, not a product: what fills up a batch must not matter, even as NaN.
            jnp.where(mask, loss, 0).sum(),
            (mask & (logits.argmax(-1) == label)).sum(dtype=jnp.int32),
            mask.sum(dtype=jnp.int32),
        )

    def merge(self, other: "Metrics") -> "Metrics":
        """Those of both sets of examples together."""
        return Metrics(
            self.loss_sum + other.loss_sum,
            self.correct + other.correct,
            self.count + other.count,
        )

    def mean_loss(self) -> Array:
        """Mean cross-entropy, float32 []; 0 for no examples, so that a gradient stays finite."""
        return self.loss_sum / jnp.maximum(self.count, 1)

    def compute(self) -> MetricValues:
        """Python numbers: `loss`, mean cross-entropy in nats; `accuracy`, 0..1; `count`.

        Raises:
          ValueError: for no examples, which have no mean.
        """
        count = int(self.count)
        if not count:
            raise ValueError("metrics of no examples: allowed is at least one.")
        return {
            "loss": float(self.loss_sum) / count,
            "accuracy": int(self.correct) / count,
            "count": count,
        }

    def compute_each(self) -> list[MetricValues]:
        """What `compute` says, for each network."""
        sums = jax.device_get(self)
        columns = zip(sums.loss_sum, sums.correct, sums.count, strict=True)
        return [Metrics(*numbers).compute() for numbers in columns]


def finite_values(each: Sequence[MetricValues], name: str) -> list[float | int | None]:
    """One value of each network; None for those whose loss is no number any more.

    Their accuracy would be that of class 0, which is the first of equals.
    """
    return [values[name] if math.isfinite(values["loss"]) else None for values in each]


def mean_of_finite(each: Sequence[MetricValues], name: str) -> float:
    """Mean of one value over the networks whose loss is finite; NaN where it is for none."""
    numbers = [number for number in finite_values(each, name) if number is not None]
    return math.fsum(numbers) / len(numbers) if numbers else math.nan

"""What a run has come to, and on what."""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import jax

from cnn_jax.engine.sharding import device_names
from cnn_jax.io.environment import versions
from cnn_jax.nn.metrics import MetricValues, mean_of_finite

_OF_SEVERAL = {"networks", "comparison"}  # What the result of a single network has not.


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run has come to; all but `params` is in `result.json`.

    Seconds are those of all processes together, where one went on with the run of another.

    Attributes:
      test_accuracy: fraction, 0..1; of several networks their mean, as are the next two.
      test_loss: mean cross-entropy in nats; None where one of several has none any more.
      train_accuracy: fraction, over the whole training set with the final parameters.
      num_parameters: of a network.
      steps: steps taken.
      epoch_seconds: of each epoch, training alone.
      eval_seconds: of all evaluations together.
      compile_seconds: for the compiled programs, part of them while the data are read.
      total_seconds: from the call of `run` to its end.
      params_sha256: over the parameters' bytes in tree order.
      versions: of Python and of the packages.
      devices: names of the devices that trained.
      params: the trained parameters; of several networks with a first axis for these.
      networks: of several networks each one's seed, swept numbers, accuracies and loss.
      comparison: of several networks `comparison.Comparison.to_json` of those that differ in
        their seed alone.
    """

    test_accuracy: float
    test_loss: float | None
    train_accuracy: float
    num_parameters: int
    steps: int
    epoch_seconds: list[float]
    eval_seconds: float
    compile_seconds: float
    total_seconds: float
    params_sha256: str
    versions: dict[str, str]
    devices: list[str]
    params: Any = dataclasses.field(repr=False)
    networks: list[dict[str, Any]] | None = None
    comparison: list[dict[str, Any]] | None = None

    @classmethod
    def from_json(cls, content: dict[str, Any] | None, params: Any) -> "Result | None":
        """The result that `content` of a `result.json` stands for, or None where it is none."""
        names = {field.name for field in dataclasses.fields(cls)} - {"params"}
        if content is None or content.keys() | _OF_SEVERAL != names:
            return None
        return cls(**content, params=params)

    def to_json(self) -> dict[str, Any]:
        """The content of `result.json`."""
        fields = (f.name for f in dataclasses.fields(self) if f.name != "params")
        found = {name: getattr(self, name) for name in fields}
        return {k: v for k, v in found.items() if v is not None or k not in _OF_SEVERAL}


def make_result(
    params: Any,
    test: Sequence[MetricValues],
    trained: Sequence[MetricValues],
    **others: Any,
) -> Result:
    """Sums up.

    Args:
      params: as in `Result`.
      test: `loss` and `accuracy` of each network on the test set.
      trained: those on the training set.
      others: attributes of `Result` that are known already.
    """
    losses = [float(values["loss"]) for values in test]
    return Result(
        test_accuracy=mean_of_finite(test, "accuracy"),
        test_loss=mean_of_finite(test, "loss") if all(map(math.isfinite, losses)) else None,
        train_accuracy=mean_of_finite(trained, "accuracy"),
        num_parameters=sum(leaf.size for leaf in jax.tree.leaves(params)) // len(test),
        params_sha256=params_sha256(params),
        versions=versions(),
        devices=device_names(),
        params=params,
        **others,
    )


def params_sha256(params: Any) -> str:
    """SHA-256 over the parameters' bytes in tree order, in hexadecimal digits."""
    leaves = jax.tree.leaves(jax.device_get(params))
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()

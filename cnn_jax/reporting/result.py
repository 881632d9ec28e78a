"""The result of a run, and its file `result.json`."""

import dataclasses
import hashlib
import html
import math
from collections.abc import Sequence
from typing import Any

import jax

from cnn_jax.engine.sharding import device_names
from cnn_jax.io.environment import versions
from cnn_jax.io.workdir import Workdir
from cnn_jax.nn.metrics import MetricValues
from cnn_jax.reporting.per_model import mean_of_finite

_SWEEP_FIELDS = {"models", "comparison"}  # Absent from the result of a single model.


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a run; `result.json` has all attributes but `params`.

    Where a run was resumed, seconds are summed over all of its processes. Where it trained several
    models, the accuracies and the loss are means over the models.

    Attributes:
      test_accuracy: fraction of the test set, 0..1; of several models, the mean over those whose
        loss is finite.
      test_loss: mean cross-entropy on the test set, in nats; None where the loss of one of several
        models is not finite.
      train_accuracy: fraction of the training set, 0..1, with the final parameters; of several
        models, the mean over those whose loss is finite.
      num_parameters: number of parameters of one model.
      steps: number of training steps.
      epoch_seconds: seconds of each epoch, training alone.
      eval_seconds: seconds of all evaluations together.
      compile_seconds: seconds of compilation, part of which overlaps with reading the data.
      total_seconds: seconds from the call of `run` to the end of the test evaluation.
      params_sha256: SHA-256 of the parameters, from `params_sha256`.
      versions: versions of Python and of the packages.
      devices: names of the devices that trained.
      params: the trained parameter tree; of M models, float32 arrays [M, ...].
      models: for each of several models, the row of `sweep_summary.model_rows`; None for a single
        model.
      comparison: for each combination of swept hyperparameters, `SweepSummary.to_json` of the
        models that differ only in their seed; None for a single model.
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
    models: list[dict[str, Any]] | None = None
    comparison: list[dict[str, Any]] | None = None

    def __str__(self) -> str:
        """Returns the main numbers, one a line."""
        return "\n".join(f"{name:<15} {value}" for name, value in self._main_numbers().items())

    def _repr_html_(self) -> str:
        """Returns the main numbers as a table, which notebooks show."""
        rows = (
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self._main_numbers().items()
        )
        return f"<table>{''.join(rows)}</table>"

    def _main_numbers(self) -> dict[str, str]:
        """Returns the numbers that a reader asks for first, with their names."""
        return {
            "Test accuracy": f"{100 * self.test_accuracy:.2f} %",
            "Test loss": "not finite" if self.test_loss is None else f"{self.test_loss:.4f}",
            "Train accuracy": f"{100 * self.train_accuracy:.2f} %",
            "Models": str(len(self.models) if self.models else 1),
            "Parameters": f"{self.num_parameters:,}",
            "Steps": f"{self.steps:,}",
            "Time": f"{self.total_seconds:.1f} s",
            "Devices": ", ".join(self.devices),
            "params_sha256": self.params_sha256,
        }

    def write(self, workdir: Workdir) -> None:
        """Writes `result.json` atomically.

        Args:
          workdir: open workdir of the run.

        Raises:
          UserError: when the file cannot be written.
        """
        workdir.write_json("result.json", self.to_json())

    @classmethod
    def from_json(cls, content: dict[str, Any] | None, params: Any) -> "Result | None":
        """Returns the result that `to_json` turned into `content`.

        Args:
          content: content of a `result.json`, or None.
          params: the trained parameter tree.

        Returns:
          The result; None where there is no content or its keys are not those of a result.
        """
        names = {field.name for field in dataclasses.fields(cls)} - {"params"}
        if content is None or content.keys() | _SWEEP_FIELDS != names:
            return None
        return cls(**content, params=params)

    def to_json(self) -> dict[str, Any]:
        """Returns the content of `result.json`."""
        names = (field.name for field in dataclasses.fields(self) if field.name != "params")
        content = {name: getattr(self, name) for name in names}
        return {
            name: value
            for name, value in content.items()
            if value is not None or name not in _SWEEP_FIELDS
        }


def make_result(
    params: Any,
    test_metrics: Sequence[MetricValues],
    train_metrics: Sequence[MetricValues],
    **known: Any,
) -> Result:
    """Builds the result of a run from the metrics of its models.

    Args:
      params: the trained parameter tree; of M models, float32 arrays [M, ...].
      test_metrics: `loss` and `accuracy` of each model on the test set.
      train_metrics: `loss` and `accuracy` of each model on the training set.
      known: the attributes of `Result` that are not computed here, such as `steps`.
    """
    losses = [float(values["loss"]) for values in test_metrics]
    test_loss = mean_of_finite(test_metrics, "loss") if all(map(math.isfinite, losses)) else None
    return Result(
        test_accuracy=mean_of_finite(test_metrics, "accuracy"),
        test_loss=test_loss,
        train_accuracy=mean_of_finite(train_metrics, "accuracy"),
        num_parameters=sum(leaf.size for leaf in jax.tree.leaves(params)) // len(test_metrics),
        params_sha256=params_sha256(params),
        versions=versions(),
        devices=device_names(),
        params=params,
        **known,
    )


def params_sha256(params: Any) -> str:
    """Computes the SHA-256 of the parameters' bytes, in tree order, as hexadecimal digits."""
    leaves = jax.tree.leaves(jax.device_get(params))
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()

"""Detects a loss that is not finite (NaN or infinite), and stops a run that cannot recover."""

import math
from collections.abc import Callable, Sequence

from cnn_jax.config.sweep import SweptModel
from cnn_jax.errors import UserError
from cnn_jax.nn.metrics import MetricValues


class DivergenceCheck:
    """Checks the losses of the models of a run, and remembers which of them have diverged."""

    def __init__(
        self, models: Sequence[SweptModel], print_line: Callable[[str], None], *, has_workdir: bool
    ) -> None:
        """Starts with no diverged model.

        Args:
          models: the models of the run.
          print_line: prints a line that names a model that has diverged while others train on.
          has_workdir: whether the run saves checkpoints.
        """
        self._models, self._print_line, self._has_workdir = models, print_line, has_workdir
        self._diverged: set[int] = set()

    def check(
        self, per_model: Sequence[MetricValues], first_step: int, step: int, saved_step: int | None
    ) -> None:
        """Reports models whose loss is not finite, and stops the run when no other is left.

        Args:
          per_model: metrics of each model.
          first_step: the last step after which the loss was known to be finite.
          step: number of steps taken.
          saved_step: step of the newest checkpoint, if there is one.

        Raises:
          UserError: when every model has diverged; names the steps.
        """
        diverged = {k for k, v in enumerate(per_model) if not math.isfinite(v["loss"])}
        if len(diverged) == len(per_model):
            self.stop(per_model[0]["loss"], first_step, step, saved_step)
        for k in sorted(diverged - self._diverged):
            loss = per_model[k]["loss"]
            self._print_line(f"{self._models[k].name}: loss is {loss} at step {step}")
        self._diverged |= diverged

    def stop(self, loss: float, first_step: int, step: int, saved_step: int | None) -> None:
        """Stops the run.

        Args:
          loss: a loss that is not finite.
          first_step: the last step after which the loss was known to be finite.
          step: number of steps taken.
          saved_step: step of the newest checkpoint, if there is one.

        Raises:
          UserError: always.
        """
        kept = f" The checkpoint of step {saved_step} is kept." if saved_step else ""
        advice = " and another --workdir" if self._has_workdir else ""
        raise UserError(
            f"loss is {loss} between step {first_step} and step {step}: it must be finite.{kept} "
            f"Use a smaller learning_rate{advice}."
        )

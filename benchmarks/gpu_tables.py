"""The table of `gpu.py`: the statistics of its measurements."""

import statistics
from collections.abc import Mapping
from typing import Any

BASELINE = "convolution, default"  # What every run does.


def training_table(results: Mapping[int, Mapping[str, Any]], num_steps: int) -> list[str]:
    """Formats the results as lines.

    Args:
      results: results by number of models and name, each with `train_seconds` of at least one turn
        and, for this project, `peak_megabytes`.
      num_steps: number of steps of an epoch.
    """
    lines = [
        "models                         training, ms per step and model          ratio   memory",
        "                                median (     min -      max)   n                    MB",
    ]
    for num_models, rows in results.items():
        baseline = statistics.median(rows[BASELINE]["train_seconds"])
        for name, result in rows.items():
            seconds = result["train_seconds"]
            median, low, high = (
                1000 * s / num_steps / num_models
                for s in (statistics.median(seconds), min(seconds), max(seconds))
            )
            memory = result.get("peak_megabytes")
            lines.append(
                f"{num_models:>6}  {name:<20} {median:9.5f} ({low:.5f} - {high:.5f})"
                f" {len(seconds):3d} {statistics.median(seconds) / baseline:10.2f}"
                f" {'-' if memory is None else f'{memory:.0f}':>8}"
            )
    return lines

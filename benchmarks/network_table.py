"""The table of `train_speed.py --table`: networks against PyTorch, and where their time goes.

Each contender of a network (`network_training.py`) takes turns with the others. README.md in this
folder explains the columns.
"""

import functools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import floor
from benchmarks.network_training import CONTENDERS
from benchmarks.networks import NETWORKS, describe, generate
from benchmarks.step_profile import OPERATIONS
from benchmarks.turns import MeasuredProcess, run_in_turns
from cnn_jax.io.console import format_table

NUM_PROFILED = 3


class TrainingProcess(MeasuredProcess):
    """Measures one contender of one network."""

    def __init__(self, network: str, contender: str) -> None:
        super().__init__("benchmarks.network_training", network, contender)
        self.result |= {"step_ms": []}

    def take_turn(self, turn: int) -> None:
        """Trains for the steps of a turn."""
        trained = self._run_command(f"train {turn}")
        self.result["step_ms"].append(1e3 * trained["seconds"] / self.ready_report["num_steps"])
        self.result["peak_megabytes"] = trained["peak_megabytes"]


class ProfileProcess(MeasuredProcess):
    """Profiles this project on one network."""

    def __init__(self, network: str) -> None:
        super().__init__("benchmarks.network_training", network, "cnn_jax")

    def take_turn(self, turn: int) -> None:
        """Profiles some steps."""
        del turn
        self.result = self._run_command("profile")["value"]


def measure(networks: Sequence[str], num_turns: int) -> dict[str, dict[str, Any]]:
    """Measures networks, one after the other.

    Args:
      networks: keys of `NETWORKS`.
      num_turns: turns of each contender.

    Returns:
      By name of the network: the `result` of each contender by its name, and `floor_ms`, the
      milliseconds of a step's operations and of its bytes.
    """
    speeds = floor.operations_per_second(), floor.bytes_per_second()
    results = {}
    for name in networks:
        starters = {c: functools.partial(TrainingProcess, name, c) for c in CONTENDERS}
        results[name] = run_in_turns(starters, num_turns)
        results[name]["floor_ms"] = _floor_ms(name, *speeds)
    return results


def _floor_ms(name: str, operations_per_second: float, bytes_per_second: float) -> list[float]:
    network = NETWORKS[name]
    info = describe(generate(network.image_shape, 1))
    return [
        1e3 * floor.step_operations(network.config, info) / operations_per_second,
        1e3 * floor.step_bytes(network.config, info) / bytes_per_second,
    ]


def ratio(result: Mapping[str, Any]) -> float:
    """Returns the median time of a step of PyTorch's faster form by that of this project."""
    ours, theirs = (statistics.median(contender["step_ms"]) for contender in _compared(result))
    return theirs / ours


def _compared(result: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the results of this project and of PyTorch's faster form."""
    ours, *theirs = (result[name] for name in CONTENDERS)
    return ours, min(theirs, key=lambda contender: statistics.median(contender["step_ms"]))


def training_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Formats the results of `measure`."""
    rows = []
    for name, result in results.items():
        ours, theirs = _compared(result)
        rows.append(
            [
                name,
                *(format_spread(result[contender]["step_ms"]) for contender in CONTENDERS),
                str(len(ours["step_ms"])),
                f"{ratio(result):.2f}",
                *(f"{contender['peak_megabytes']:.0f}" for contender in (ours, theirs)),
                *(_digits(milliseconds) for milliseconds in result["floor_ms"]),
                f"{max(result['floor_ms']) / statistics.median(ours['step_ms']):.0%}",
            ]
        )
    contenders = [name.removeprefix("PyTorch, ") for name in CONTENDERS]
    header = ["ms per step", *contenders, "n", "ratio", "MB", "theirs", "FLOP", "bytes", "share"]
    return format_table(header, rows)


def format_spread(values: Sequence[float]) -> str:
    """Formats the median of times, and the smallest and the largest of them."""
    median, low, high = (_digits(f(values)) for f in (statistics.median, min, max))
    return f"{median} ({low}-{high})"


def _digits(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def profile_slowest(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Profiles the `NUM_PROFILED` networks of the lowest ratio.

    Returns:
      By name of the network: milliseconds per step of each of `OPERATIONS`.
    """
    slowest = sorted(results, key=lambda name: ratio(results[name]))[:NUM_PROFILED]
    return run_in_turns({name: functools.partial(ProfileProcess, name) for name in slowest}, 1)


def profile_table(profiles: Mapping[str, Mapping[str, float]]) -> str:
    """Formats the result of `profile_slowest`, each time with its share of all of them."""
    rows = [
        [
            name,
            *(f"{_digits(ms)} ({ms / sum(p.values()):.0%})" for ms in (p[o] for o in OPERATIONS)),
        ]
        for name, p in profiles.items()
    ]
    return format_table(["ms per step", *OPERATIONS], rows)

"""The table of `train_speed.py --cores`: a training step on one core and on all of them.

For each network of `networks.py`, a process on one core and one on all cores take turns. README.md
in this folder explains the columns.
"""

import functools
import os
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.network_table import TrainingProcess, format_spread
from benchmarks.turns import run_in_turns
from cnn_jax.io.console import format_table

ESTIMATED_CORES = (4, 8, 16)


def measure(networks: Sequence[str], num_turns: int) -> dict[str, dict[int, list[float]]]:
    """Measures networks, one after the other.

    Args:
      networks: keys of `NETWORKS`.
      num_turns: turns on each number of cores.

    Returns:
      By name of the network: milliseconds per step in each turn, by number of cores.

    Raises:
      OSError: when the system cannot keep a process on one core, or has no other one.
    """
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        raise OSError("--cores needs Linux and at least two cores. Use such a machine.")
    cores = sorted(os.sched_getaffinity(0))

    def start(network: str, num_cores: int) -> TrainingProcess:
        os.sched_setaffinity(0, cores[:num_cores])  # The process that starts inherits it.
        try:
            return TrainingProcess(network, "cnn_jax")
        finally:
            os.sched_setaffinity(0, cores)

    results = {}
    for network in networks:
        counts = {str(n): n for n in (1, len(cores))}
        starters = {name: functools.partial(start, network, n) for name, n in counts.items()}
        measured = run_in_turns(starters, num_turns)
        results[network] = {n: measured[name]["step_ms"] for name, n in counts.items()}
    return results


def estimate(one_core: float, all_cores: float, num_cores: int, more_cores: int) -> float:
    """Estimates the time of a step on more cores by Amdahl's law: serial + parallel / cores.

    The two times are those of one core and of `num_cores`. Source: Amdahl, 1967 (Validity of the
    single processor approach to achieving large scale computing capabilities).

    Args:
      one_core: time on one core.
      all_cores: time on `num_cores`, in the same unit.
      num_cores: at least 2.
      more_cores: the number of cores to estimate the time for.
    """
    parallel = (one_core - all_cores) * num_cores / (num_cores - 1)
    serial = one_core - parallel
    return max(serial, 0) + min(parallel, one_core) / more_cores


def format_results(results: Mapping[str, Mapping[int, Sequence[float]]]) -> str:
    """Formats the result of `measure`, and estimates for `ESTIMATED_CORES`, as a table."""
    (num_cores,) = {max(times) for times in results.values()}
    header = ["ms per step", "1 core", f"{num_cores} cores", "n", "ratio"]
    rows = []
    for name, times in results.items():
        one, all_ = (statistics.median(times[n]) for n in (1, num_cores))
        row = [name, *(format_spread(times[n]) for n in (1, num_cores)), str(len(times[1]))]
        estimates = (estimate(one, all_, num_cores, n) for n in ESTIMATED_CORES)
        rows.append([*row, f"{one / all_:.2f}", *(f"{ms:.2f}" for ms in estimates)])
    return format_table([*header, *(f"est. {n}" for n in ESTIMATED_CORES)], rows)

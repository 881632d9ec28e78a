"""Serves commands in a measured process, and reports how long each of them takes.

The process reads commands from standard input, one per line: a name and its arguments. It answers
each with one line of JSON. Before the first command it writes one line of JSON that says that it
is ready, with what it knows about the measurement.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


def serve_commands(commands: Mapping[str, Callable[..., Any]], **ready_report: Any) -> None:
    """Runs commands until standard input ends.

    Args:
      commands: functions by name; they take the arguments of a line as strings, and
        return what JSON can hold.
      ready_report: written before the first command is read.
    """
    _write_json(**ready_report)
    for line in sys.stdin:
        name, *arguments = line.split()
        started, cpu_started = time.perf_counter(), time.process_time()
        value = commands[name](*arguments)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        _write_json(
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            value=value,
            peak_megabytes=peak_megabytes(),
        )


def peak_megabytes() -> float:
    """Returns the largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _write_json(**values: Any) -> None:
    print(json.dumps(values), flush=True)

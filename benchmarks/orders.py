"""What a process that is measured does: it obeys orders, and says how long each has taken.

Orders come from standard input, one a line: a name and its arguments. Each is answered with one
line of JSON. The line of JSON that it writes by itself, once it is ready, says what it knows.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


def obey(orders: Mapping[str, Callable[..., float | None]], **facts: Any) -> None:
    """Carries out orders, until standard input ends.

    Args:
      orders: by name; take the arguments of a line as text.
      facts: said first.
    """
    _say(**facts)
    for line in sys.stdin:
        name, *arguments = line.split()
        started, cpu_started = time.perf_counter(), time.process_time()
        value = orders[name](*arguments)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        _say(
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            value=value,
            peak_megabytes=peak_megabytes(),
        )


def peak_megabytes() -> float:
    """Largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)

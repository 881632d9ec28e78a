"""Lets what is measured take turns, each in a process of its own.

A machine that becomes slower becomes so for all of them. Those that wait are stopped, with the
processes that they have started, so that none reads ahead in the time of another.
"""

import abc
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent


class Process(abc.ABC):
    """A module at work in a process of its own, which obeys orders: see `orders.py`.

    Attributes:
      result: what was measured.
      facts: what the process said of itself.
    """

    def __init__(self, module: str, *arguments: str, **environment: str) -> None:
        """Starts it, and waits until it is ready.

        Args:
          module: its name.
          arguments: of its command line.
          environment: variables that it has besides those of this process.
        """
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            # Programs that an earlier run has compiled would hide what a start costs.
            env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "0", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # To stop it with all that it starts.
        )
        self.facts = self._answer()
        self.result: dict[str, Any] = {"start_seconds": time.perf_counter() - started}

    @abc.abstractmethod
    def turn(self, number: int) -> None:
        """Measures; turns are numbered from 1."""

    def close(self) -> None:
        """Ends the process."""
        self._signal(signal.SIGCONT)
        self._process.communicate()

    def _ask(self, order: str) -> dict[str, Any]:
        assert self._process.stdin
        self._signal(signal.SIGCONT)
        print(order, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            sys.exit(f"what is measured ended by itself, with status {status}")
        self._signal(signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # It has ended, which its answer will show.
            os.killpg(self._process.pid, number)


def take_turns(starts: Mapping[str, Callable[[], Process]], turns: int) -> dict[str, Any]:
    """Starts all processes and lets each take its turns.

    Args:
      starts: what starts them, by name.
      turns: how many turns each takes.

    Returns:
      Their results by name.
    """
    total = len(starts) * (1 + turns)
    with (
        tqdm(total=total, unit=" turns", leave=False, disable=not sys.stderr.isatty()) as bar,
        contextlib.ExitStack() as stack,
    ):
        processes = {}
        for name, start in starts.items():
            bar.set_description(f"start {name}")
            processes[name] = start()
            stack.callback(processes[name].close)
            bar.update()
        for turn in range(1, turns + 1):
            for name, process in processes.items():
                bar.set_description(f"turn {turn}, {name}")
                process.turn(turn)
                bar.update()
    return {name: process.result for name, process in processes.items()}

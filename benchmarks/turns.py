"""Measures several programs in turns, each in its own process.

When other work slows the machine down, it slows all of them down. The processes that wait are
stopped, with all processes that they started, so that none of them works during the turn of another
one, for example by prefetching.
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


class MeasuredProcess(abc.ABC):
    """Runs a module that serves commands (see `command_server.py`) in its own process.

    Attributes:
      ready_report: what the process reported when it was ready.
      result: the measurements.
    """

    def __init__(self, module: str, *arguments: str, **environment: str) -> None:
        """Starts the process and waits until it is ready.

        Args:
          module: name of the module.
          arguments: of its command line.
          environment: environment variables, in addition to those of this process.
        """
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            # Programs that an earlier run has compiled would hide the cost of a start.
            env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "0", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # One signal stops the process and all processes that it starts.
        )
        self.ready_report = self._read_reply()
        self.result: dict[str, Any] = {"start_seconds": time.perf_counter() - started}

    @abc.abstractmethod
    def take_turn(self, turn: int) -> None:
        """Measures once and adds to `result`; `turn` counts from 1."""

    def close(self) -> None:
        """Ends the process."""
        self._signal(signal.SIGCONT)
        self._process.communicate()

    def _run_command(self, command: str) -> dict[str, Any]:
        assert self._process.stdin
        self._signal(signal.SIGCONT)
        print(command, file=self._process.stdin, flush=True)
        return self._read_reply()

    def _read_reply(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            sys.exit(
                f"a measured process exited with status {status} before it replied: it must run "
                "until it is closed. Read its error message above."
            )
        self._signal(signal.SIGSTOP)
        return json.loads(line)

    def _signal(self, signal_number: int) -> None:
        # A process that has already exited is noticed when its reply is read.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal_number)


def run_in_turns(
    starters: Mapping[str, Callable[[], MeasuredProcess]], num_turns: int
) -> dict[str, Any]:
    """Starts all processes, then lets each of them take one turn after the other.

    Args:
      starters: functions that start the processes, by name.
      num_turns: number of turns of each process.

    Returns:
      The `result` of each process, by name.
    """
    total = len(starters) * (1 + num_turns)
    with (
        tqdm(total=total, unit=" turns", leave=False, disable=not sys.stderr.isatty()) as bar,
        contextlib.ExitStack() as stack,
    ):
        processes = {}
        for name, start in starters.items():
            bar.set_description(f"start {name}")
            processes[name] = start()
            stack.callback(processes[name].close)
            bar.update()
        for turn in range(1, num_turns + 1):
            for name, process in processes.items():
                bar.set_description(f"turn {turn}, {name}")
                process.take_turn(turn)
                bar.update()
    return {name: process.result for name, process in processes.items()}

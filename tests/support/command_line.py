"""Starts the program as somebody would: in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """`main.py` with these arguments; its output can be read while it runs."""
    return subprocess.Popen(
        [sys.executable, "main.py", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def main(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`main.py` with these arguments, from start to end."""
    with start(*arguments, **environment) as process:
        out, err = process.communicate(timeout=100)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def error_of(*arguments: str, **environment: str) -> str:
    """The one line of what can be mended."""
    done = main(*arguments, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line

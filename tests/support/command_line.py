"""Runs `main.py` in its own process or, which is faster, in this one."""

import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from absl import logging
from absl.testing import flagsaver

import main as program
from cnn_jax.config import flags
from cnn_jax.errors import UserError

ROOT = Path(__file__).parent.parent.parent


def start_main(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Starts `main.py` in a process whose output can be read while it runs.

    Args:
      arguments: its command line.
      environment: variables to add to those of this process.
    """
    return subprocess.Popen(
        [sys.executable, "main.py", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_main(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `main.py` to its end, with arguments as for `start_main`."""
    with start_main(*arguments, **environment) as process:
        out, err = process.communicate(timeout=100)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def error_message(*arguments: str) -> str:
    """Returns the message of the UserError that the arguments of `main.py` raise, in this process.

    How `main.py` reports a UserError, with one line and exit status 2, is tested by `error_line`.
    """
    argv, verbosity = ["main.py", *arguments], logging.get_verbosity()
    try:
        with (
            flagsaver.flagsaver(),
            # It would hold for all other tests.
            mock.patch("cnn_jax.engine.compilation_cache.enable"),
            pytest.raises(UserError) as error,
        ):
            program._main(flags.parse(argv))
    finally:
        logging.set_verbosity(verbosity)
    return str(error.value)


def error_line(*arguments: str, **environment: str) -> str:
    """Runs `main.py`, asserts one line of error and exit status 2, and returns the line."""
    done = run_main(*arguments, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line

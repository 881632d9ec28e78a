"""Runs `main.py` in a process from which the names are taken away that Python lacks on Windows.

    PYTHONPATH=. python -X warn_default_encoding tests/support/without_unix.py FOLDER PICTURE

Writes FOLDER/outcomes.json: the exit status and the message of each run. A simulation: the other
libraries still see Linux.
"""

import builtins
import importlib
import io
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

MODULES = ("array_record", "fcntl", "grp", "pwd", "resource", "syslog", "termios")
SIGNALS = (
    *("SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGSTOP", "SIGUSR1"),
    *("SIGUSR2", "SIG_BLOCK", "SIG_SETMASK", "alarm", "pthread_kill", "pthread_sigmask"),
    *("setitimer", "sigwait"),
)
FUNCTIONS = (
    *("fork", "forkpty", "getegid", "geteuid", "getgid", "getuid", "killpg", "register_at_fork"),
    *("sched_getaffinity", "sched_setaffinity", "setsid", "sysconf", "uname"),
)
# These choose by the name of the platform, and so still need, while they are imported on Linux:
# os.sysconf (asyncio), os.uname (numpy), resource (psutil), fcntl (filelock, which would warn and
# lock nothing), array_record (Grain, which also imports JAX and Orbax).
IMPORTED_BEFORE = ("asyncio", "numpy", "psutil", "filelock", "grain")


def take_names_away() -> None:
    """Removes the names, and makes files in /proc missing."""
    for name in IMPORTED_BEFORE:
        importlib.import_module(name)
    assert not [name for name in sys.modules if name.startswith("cnn_jax")]
    for name in list(sys.modules):
        if name.partition(".")[0] in MODULES:
            sys.modules[name] = None  # type: ignore[assignment]
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for name in SIGNALS:
        delattr(signal, name)
    for name in FUNCTIONS:
        delattr(os, name)
    builtins.open = io.open = _without_proc(io.open)
    import psutil

    # It reads /proc, since it takes this platform for Linux.
    psutil.virtual_memory = lambda: mock.Mock(available=2**32)


def _without_proc(original: Callable[..., Any]) -> Callable[..., Any]:
    def open_file(file: Any, *arguments: Any, **named: Any) -> Any:
        if str(file).startswith("/proc/"):
            raise FileNotFoundError(2, "No such file or directory", file)
        return original(file, *arguments, **named)

    return open_file


class Outcome(NamedTuple):
    """How `main.py` ended.

    Attributes:
      status: exit status, or the number of the signal that stopped it.
      message: of the UserError or Stopped that ended it, if any.
    """

    status: int
    message: str


def run_main(*arguments: str) -> Outcome:
    """Runs `main.py` in this process."""
    from absl.testing import flagsaver

    import main as program
    from cnn_jax.config import flags
    from cnn_jax.errors import Stopped, UserError

    argv = ["main.py", *arguments]
    # ml_collections reads sys.argv.
    with flagsaver.flagsaver(), mock.patch.object(sys, "argv", argv):
        try:
            program._main(flags.parse(argv))
        except SystemExit as ended:
            return Outcome(int(ended.code or 0), "")
        except UserError as error:
            return Outcome(2, str(error))
        except Stopped as stopped:
            return Outcome(stopped.signal_number, str(stopped))
    raise AssertionError("main.py ends by SystemExit")


def run_all(folder: Path, picture: str) -> dict[str, Outcome]:
    """Runs every mode; the runs `straight`, `resumed` and `streamed` must have equal parameters."""
    from cnn_jax.reporting.train_logger import TrainLogger

    log_epoch_accuracy = TrainLogger.log_epoch_accuracy

    def interrupt(self: TrainLogger, *arguments: Any) -> None:
        log_epoch_accuracy(self, *arguments)
        signal.raise_signal(signal.SIGINT)

    small = (
        "--config=configs/digits.py",
        "--config.dataset.train_split=train[:70]",
        "--config.num_epochs=2",
    )
    straight, resumed, streamed = (
        f"--workdir={folder / name}" for name in ("straight 数", "resumed", "streamed")
    )
    outcomes = {"straight": run_main(*small, straight)}
    with mock.patch.object(TrainLogger, "log_epoch_accuracy", interrupt):
        outcomes["interrupted"] = run_main(*small, resumed)
    outcomes["resumed"] = run_main(*small, resumed)
    outcomes["finished"] = run_main(*small, resumed)
    outcomes["streamed"] = run_main(*small, streamed, "--config.dataset.feed=stream")
    outcomes["describe"] = run_main(small[0], "--mode=describe")
    for mode in ("evaluate", "inspect", "export", "demo"):
        outcomes[mode] = run_main(f"--mode={mode}", straight)
    outcomes["predict"] = run_main("--mode=predict", straight, f"--images={picture}", "--show")
    mnist = _small_mnist(folder)
    outcomes["mnist"] = run_main(*mnist)
    outcomes["refused"] = run_main(*mnist, "--config.dataset.feed=stream")
    return outcomes


def _small_mnist(folder: Path) -> tuple[str, ...]:
    """Puts small files in the place of the originals of MNIST; returns the flags that use them."""
    import pytest

    from tests.data.small_mnist import accept_as_originals, write_originals

    write_originals(folder / "originals")
    accept_as_originals(pytest.MonkeyPatch())
    return (
        "--config=configs/mnist.py",
        "--config.batch_size=10",
        "--config.num_epochs=1",
        f"--config.dataset.data_dir={folder / 'data'}",
        f"--config.dataset.manual_dir={folder / 'originals'}",
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore", EncodingWarning)
    warnings.filterwarnings("error", category=EncodingWarning, module="cnn_jax|configs|main")
    take_names_away()
    workdirs = Path(sys.argv[1])
    outcomes_of_all = run_all(workdirs, sys.argv[2])
    (workdirs / "outcomes.json").write_text(json.dumps(outcomes_of_all), "utf-8")

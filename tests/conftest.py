"""Fixtures, and isolation of all tests: no network, no TensorFlow, separate cache folders."""

import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import jax
import numpy as np
import pytest

from cnn_jax import data
from cnn_jax.data import Examples
from cnn_jax.io.signals import STOP_SIGNALS
from cnn_jax.reporting.result import Result
from tests.checkpoint.saved import save_checkpoints
from tests.support.command_line import run_main
from tests.support.once import make_once, shared_folder
from tests.support.small import run

# Under nohup, or in the background of a script, these signals are ignored, and the processes that
# tests start would inherit that.
for number in STOP_SIGNALS:
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)

jax.config.update("jax_numpy_rank_promotion", "raise")
# Most of the time is spent on compilation. Processes that tests start compile with optimizations.
jax.config.update("jax_disable_most_optimizations", True)
gc.set_threshold(1_000_000)  # As in `main.py`: most objects that JAX creates are never freed.

# Number of examples of a property test; slow tests use a fraction of it. Every run has the same
# examples, so that failures can be reproduced.
for profile, max_examples in (("quick", 30), ("ci", 60)):
    hypothesis.settings.register_profile(
        profile, max_examples=max_examples, derandomize=True, deadline=None, database=None
    )
hypothesis.settings.load_profile("quick")  # --hypothesis-profile=NAME overrides it.


@pytest.fixture(autouse=True, scope="session")
def _user_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Sets the folders of caches and data sets to a temporary folder of this pytest run.

    All workers and the processes that they start share it, so each program is compiled only once.
    """
    with pytest.MonkeyPatch.context() as patch:
        folder = shared_folder(tmp_path_factory) / "user"
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("TFDS_DATA_DIR", str(folder / "data"))
        yield
    assert "tensorflow" not in sys.modules  # No test may import it.


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks all network connections except to this host; other connections fail at once."""
    connect, getaddrinfo = socket.socket.connect, socket.getaddrinfo
    local = ("localhost", "127.0.0.1", "::1")

    def local_connect(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in local:
            raise OSError(f"tests have no network: {address}")
        connect(self, address)

    def local_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in local:
            raise socket.gaierror(f"tests have no network: {host}")
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", local_connect)
    monkeypatch.setattr(socket, "getaddrinfo", local_getaddrinfo)


@pytest.fixture(scope="session")
def mnist_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder with the four original MNIST files, after MNIST has been prepared."""
    folder = os.environ.get("MNIST_DIR")
    if not folder:
        pytest.skip("MNIST_DIR is not set to a folder with the four original MNIST files")
    # Prepared once for all workers and the processes that they start.
    make_once(
        tmp_path_factory, "mnist", lambda _: len(data.load("mnist", manual_dir=folder).test.label)
    )
    return Path(folder)


@pytest.fixture
def random_examples() -> Examples:
    """Returns seven random 28x28 images with labels: enough for a partial last batch."""
    generator = np.random.default_rng(0)
    return Examples(
        generator.integers(0, 256, (7, 28, 28, 1), dtype=np.uint8),
        generator.integers(0, 10, 7, dtype=np.int32),
    )


@pytest.fixture(scope="session")
def straight_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Returns workdir and result of a small, uninterrupted run; tests must not change it."""
    return make_once(tmp_path_factory, "straight_run", lambda folder: run(folder, figures=True))


@pytest.fixture(scope="session")
def digits_run(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Runs the first command of the README; tests must not change the workdir.

    Returns:
      The workdir, and the finished process with its output.
    """
    return make_once(
        tmp_path_factory,
        "digits_run",
        lambda workdir: run_main("--config=configs/digits.py", f"--workdir={workdir}"),
    )


@pytest.fixture(scope="session")
def fast_run(mnist_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the workdir of `configs/mnist_fast.py` on MNIST; tests must not change it."""

    def make(workdir: Path) -> None:
        done = run_main(
            "--config=configs/mnist_fast.py",
            f"--config.dataset.manual_dir={mnist_files}",
            f"--workdir={workdir}",
        )
        assert done.returncode == 0, done.stderr

    return make_once(tmp_path_factory, "fast_run", make)[0]


@pytest.fixture(scope="session")
def saved_workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a workdir with checkpoints 10 and 20; tests must not change it."""
    workdir = tmp_path_factory.mktemp("saved")
    save_checkpoints(workdir, 10, 20)
    return workdir


@pytest.fixture
def copied_workdir(saved_workdir: Path, tmp_path: Path) -> Path:
    """Returns a copy of `saved_workdir`, which the test may change."""
    return Path(shutil.copytree(saved_workdir, tmp_path / "w"))

"""Strictness and isolation for every test: no network, no TensorFlow, nobody's own caches."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from cnn_jax.data import Examples
from cnn_jax.reporting.result import Result
from tests.checkpoint.saved import save
from tests.support.command_line import main
from tests.support.small import run

# Under nohup, or in the background of a script, these are ignored, and every process that a test
# starts would ignore them too.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)

jax.config.update("jax_numpy_rank_promotion", "raise")
# Compiling takes most of the time here. Tests that start a process of their own run the real thing.
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True, scope="session")
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches and data sets of the tests live in a folder of theirs, shared by all of them."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("user")
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("TFDS_DATA_DIR", str(folder / "data"))
        yield
    assert "tensorflow" not in sys.modules  # Whatever was tested, nothing has imported it.


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this machine can be reached: a test that needs more fails at once."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo
    local = ("localhost", "127.0.0.1", "::1")

    def local_connect(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in local:
            raise OSError(f"tests have no network: {address}")
        connect(self, address)

    def local_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in local:
            raise socket.gaierror(f"tests have no network: {host}")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", local_connect)
    monkeypatch.setattr(socket, "getaddrinfo", local_look_up)


@pytest.fixture(scope="session")
def mnist_files() -> Path:
    """The folder with the four original MNIST files."""
    folder = os.environ.get("MNIST_DIR")
    if not folder:
        pytest.skip("MNIST_DIR names no folder with the four original MNIST files")
    return Path(folder)


@pytest.fixture
def random_split() -> Examples:
    """Seven random 28x28 images: enough for ragged batches, too few to take time."""
    generator = np.random.default_rng(0)
    return Examples(
        generator.integers(0, 256, (7, 28, 28, 1), dtype=np.uint8),
        generator.integers(0, 10, 7, dtype=np.int32),
    )


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The workdir and the result of the small run, never cut; to be left as it is."""
    workdir = tmp_path_factory.mktemp("straight")
    return workdir, run(workdir)


@pytest.fixture(scope="session")
def digits_run(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The README's first command: its workdir, to be left as it is, and what it said."""
    workdir = tmp_path_factory.mktemp("digits")
    return workdir, main("--config=configs/digits.py", f"--workdir={workdir}")


@pytest.fixture(scope="session")
def fast_run(mnist_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of the fast recipe on the real MNIST; to be left as it is."""
    workdir = tmp_path_factory.mktemp("fast")
    done = main(
        "--config=configs/mnist_fast.py",
        f"--config.dataset.manual_dir={mnist_files}",
        f"--workdir={workdir}",
    )
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workdir with the checkpoints 10 and 20; to be left as it is."""
    workdir = tmp_path_factory.mktemp("saved")
    save(workdir, 10, 20)
    return workdir


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """A copy of `saved`, to be done with as one likes."""
    return Path(shutil.copytree(saved, tmp_path / "w"))

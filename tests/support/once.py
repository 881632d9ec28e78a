"""Shares expensive results between the workers of pytest-xdist."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from filelock import FileLock

T = TypeVar("T")


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the temporary folder of this pytest run, which all its workers share."""
    base = tmp_path_factory.getbasetemp()
    # A worker has a subfolder, such as `popen-gw0`, of the folder of the run.
    return base.parent if base.name.startswith("popen-") else base


def make_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], T]
) -> tuple[Path, T]:
    """Calls `make` in the first worker that asks for the result; other workers wait for it.

    Args:
      tmp_path_factory: pytest's fixture.
      name: name of the result and of its folder.
      make: fills an empty folder and returns a result that can be pickled.

    Returns:
      A copy of the folder that only this worker uses, and the result of `make`.
    """
    folder = shared_folder(tmp_path_factory) / "once" / name
    pickled = folder.with_name(f"{name}.pickle")
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_name(f"{name}.lock")):
        if not pickled.exists():
            shutil.rmtree(folder, ignore_errors=True)  # `make` may have failed in another worker.
            folder.mkdir()
            pickled.write_bytes(pickle.dumps(make(folder)))
    result: T = pickle.loads(pickled.read_bytes())
    return Path(shutil.copytree(folder, tmp_path_factory.mktemp(name) / name)), result

"""Fixtures of the tests of data sets: small files in place of the original MNIST."""

from pathlib import Path
from typing import Any

import pytest

from cnn_jax import data
from tests.data.small_mnist import accept_as_originals, write_originals


@pytest.fixture
def originals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a folder with the four small files, which count as the originals."""
    write_originals(tmp_path / "originals")
    accept_as_originals(monkeypatch)
    return tmp_path / "originals"


@pytest.fixture
def load(originals: Path, tmp_path: Path) -> Any:
    """Returns `data.load` for the small MNIST, with folders of the test."""

    def load(**changes: Any) -> data.Dataset:
        folders = {"data_dir": str(tmp_path / "data"), "manual_dir": str(originals)}
        return data.load("mnist", **(folders | changes))

    return load

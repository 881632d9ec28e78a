"""The names that people import from `cnn_jax`."""

import subprocess
import sys
from pathlib import Path

import pytest

import cnn_jax

ROOT = Path(__file__).parent.parent


def test_import_loads_neither_jax_nor_numpy() -> None:
    code = "import sys, cnn_jax; print(sorted({'jax', 'numpy', 'flax'} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_every_public_name_is_defined_where_the_package_says() -> None:
    for name, module in cnn_jax._MODULES.items():
        value = getattr(cnn_jax, name)
        assert value is getattr(sys.modules[f"cnn_jax.{module}"], name)
        assert name in dir(cnn_jax)


def test_every_public_name_is_in_the_documentation() -> None:
    text = (ROOT / "docs" / "code.md").read_text().partition("## The names for Python")[2]
    assert [name for name in cnn_jax._MODULES if f"`{name}" not in text] == []


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'cnn_jax' has no attribute 'train_stepp'"):
        cnn_jax.train_stepp  # noqa: B018

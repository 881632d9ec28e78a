"""Versions of Python and of the packages that a run's numbers depend on."""

import platform
from importlib import metadata

_PACKAGES = ("cnn_jax", "jax", "jaxlib", "flax", "optax", "numpy", "tensorflow-datasets")


def versions() -> dict[str, str]:
    """Of Python and of the packages that the numbers depend on."""
    return {"python": platform.python_version()} | {p: metadata.version(p) for p in _PACKAGES}

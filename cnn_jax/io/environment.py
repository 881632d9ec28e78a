"""Versions of Python and of the packages that the results of a run depend on."""

import platform
from importlib import metadata

_PACKAGES = ("cnn_jax", "jax", "jaxlib", "flax", "optax", "numpy", "tensorflow-datasets")


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that affect the results of a run."""
    return {"python": platform.python_version()} | {p: metadata.version(p) for p in _PACKAGES}

"""The versions of Python and packages, and the number of cores, that a run's results depend on."""

import os
import platform
from importlib import metadata

_PACKAGES = ("cnn_jax", "jax", "jaxlib", "flax", "optax", "numpy", "tensorflow-datasets")


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that affect the results of a run."""
    return {"python": platform.python_version()} | {p: metadata.version(p) for p in _PACKAGES}


def num_cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Not on macOS and Windows.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

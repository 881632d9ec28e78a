"""The versions of Python and packages, the number of cores, and the free shared memory."""

import os
import platform
import shutil
import sys
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


def free_shared_memory() -> int:
    """Returns the bytes that processes can share; containers often have 64 MB.

    Without `/dev/shm`, which only Linux has, it is not known, and the number is a large one.
    """
    if not os.path.isdir("/dev/shm"):
        return sys.maxsize
    if not os.access("/dev/shm", os.W_OK):
        return 0
    return shutil.disk_usage("/dev/shm").free

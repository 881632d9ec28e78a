"""What a measurement was made on."""

import os
import platform
import re
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "numpy", "torch")


def machine() -> dict[str, Any]:
    """Processor and versions."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        cpu = found[1] if found else cpu
    versions = {name: metadata.version(name) for name in PACKAGES if find_spec(name)}
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "versions": {"python": platform.python_version(), **versions},
    }


def in_words(where: dict[str, Any]) -> str:
    """What `machine` found, in a line."""
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    return f"{where['cores']} cores of {where['cpu']}; {versions}"

"""The processor and the package versions that a measurement was made with."""

import os
import platform
import re
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "numpy", "torch")


def describe_machine() -> dict[str, Any]:
    """Returns the processor, its number of cores, and the versions of Python and `PACKAGES`."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        match = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text("utf-8"))
        cpu = match[1] if match else cpu
    versions = {name: metadata.version(name) for name in PACKAGES if find_spec(name)}
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "versions": {"python": platform.python_version(), **versions},
    }


def format_machine(machine: dict[str, Any]) -> str:
    """Formats the result of `describe_machine` as one line."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['cores']} cores of {machine['cpu']}; {versions}"

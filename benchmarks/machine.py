"""The processor, the GPUs and the package versions that a measurement was made with."""

import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cnn_jax.wording import pluralize

PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "numpy", "torch")

_PRINT_GPUS = """
import jax
for device in jax.devices():
    if device.platform == "gpu":
        print(device.device_kind)
"""


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
    return f"{pluralize(machine['cores'], 'core')} of {machine['cpu']}; {versions}"


def gpu_names() -> list[str]:
    """Returns the name of each GPU that JAX finds."""
    # In a separate process: JAX would allocate GPU memory in this one.
    command = [sys.executable, "-c", _PRINT_GPUS]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    return process.stdout.splitlines()


def torch_has_gpu() -> bool:
    """Returns whether PyTorch is installed and finds a GPU."""
    code = "import torch; raise SystemExit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0

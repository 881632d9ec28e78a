"""Compiles programs for GPUs that are not there, from a description of the GPU.

It needs the compiler of JAX's extra `cuda13`, but no GPU, driver, cuBLAS or cuDNN:

    pip install --no-deps jax-cuda13-pjrt==VERSION jax-cuda13-plugin==VERSION nvidia-cuda-nvcc \\
        nvidia-nvvm

with the version of jaxlib. The environment variable GPU_TARGET_CONFIG holds the path of the
description, a `GpuTargetConfigProto` in text format. On a machine with the GPU, a program compiled
with XLA_FLAGS="--xla_dump_to=FOLDER" leaves it there, as `*.gpu_target_config.pbtxt`.

Programs must be compiled in a process with the variables of `ENVIRONMENT`: XLA ends the process
where it misses a part of its compiler.
"""

import os
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # JAX reads the variables of `ENVIRONMENT` when it is imported.
    from jax.sharding import Mesh

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_COMPILATION_CACHE": "0",
    # Without a GPU XLA 0.12 cannot choose between its own products and those of cuBLAS.
    "XLA_FLAGS": "--xla_gpu_enable_triton_gemm=false",
}

_PLUGINS = ("jax-cuda13-pjrt", "jax-cuda13-plugin")  # Of jaxlib's own version.
_COMPILERS = ("nvidia-cuda-nvcc", "nvidia-nvvm")


def what_is_missing() -> str:
    """Returns what prevents this Python from compiling for a GPU, or an empty string."""
    jaxlib = metadata.version("jaxlib")
    for name in _PLUGINS + _COMPILERS:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            return f"{name} is not installed"
        if name in _PLUGINS and version != jaxlib:
            return f"{name} has version {version}: it must be {jaxlib}, that of jaxlib"
    path = os.environ.get("GPU_TARGET_CONFIG", "")
    if not Path(path).is_file():
        return f"GPU_TARGET_CONFIG={path} is not a file: it must be the description of a GPU"
    return ""


def make_mesh(model: int, data: int) -> "Mesh":
    """Returns a mesh of the shape (model, data) of GPUs of one host, as `sharding.make_mesh`."""
    from jax.experimental import topologies
    from jax.sharding import Mesh

    from cnn_jax.engine import sharding

    topology = f"1x1x{model * data}"  # Slices, hosts of a slice, GPUs of a host.
    target_config = Path(os.environ["GPU_TARGET_CONFIG"]).read_text("utf-8")
    description = topologies.get_topology_desc(
        platform="cuda", topology_name=topology, topology=topology, target_config=target_config
    )
    devices: npt.NDArray[Any] = np.array(description.devices)
    return Mesh(devices.reshape(model, data), (sharding.MODEL, sharding.DATA))

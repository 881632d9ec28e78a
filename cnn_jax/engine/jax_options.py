"""Options of JAX and XLA on which results depend: they do not come from the environment.

JAX reads an environment variable for each of its options. Some change the numbers (JAX_ENABLE_X64),
some are for debugging functions that are not compiled (JAX_DISABLE_JIT). A shell may have set them
for another program; a run must give the same bits all the same.
"""

import os
from collections.abc import Callable
from typing import Any

import jax

from cnn_jax.engine.sharding import device_names

_VALUES: dict[str, Any] = {
    "jax_default_device": None,
    "jax_default_matmul_precision": None,
    "jax_default_prng_impl": "threefry2x32",
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_random_seed_offset": 0,
    "jax_threefry_partitionable": True,
    # Debugging. A loss that is not finite is reported by `training.divergence`.
    "jax_debug_infs": False,
    "jax_debug_nans": False,
    "jax_disable_jit": False,
    "jax_error_checking_behavior_divide": "ignore",
    "jax_error_checking_behavior_nan": "ignore",
    "jax_error_checking_behavior_oob": "ignore",
    "jax_no_execution": False,
    "jax_no_tracing": False,
    "jax_transfer_guard": None,
    "jax_transfer_guard_device_to_device": None,
    "jax_transfer_guard_device_to_host": None,
    "jax_transfer_guard_host_to_device": None,
}


def ignore_environment(warn: Callable[[str], None]) -> None:
    """Sets the options to their values, whatever the environment says, and checks the platform.

    For a program, at its start: it changes JAX for the whole process.

    Args:
      warn: prints a warning; called for each variable that is ignored, or that may change the last
        bits.

    Raises:
      UserError: if JAX has no device, because JAX_PLATFORMS names what is not installed.
    """
    for option, value in _VALUES.items():
        variable = option.upper()
        if os.environ.get(variable) and jax.config.values.get(option, value) != value:
            jax.config.update(option, value)
            warn(f"{variable}={os.environ[variable]} is ignored: results must not depend on it")
    for variable in ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS"):
        if given := os.environ.get(variable):
            warn(f"{variable}={given} is set: it may change the last bits of the results")
    device_names()


def compiler_options(deterministic: bool) -> dict[str, bool | str]:
    """Returns XLA's options for every program.

    Args:
      deterministic: forbids kernels and autotuning whose results differ between runs. It matters on
        GPUs; XLA has no such kernels elsewhere.
    """
    options: dict[str, bool | str] = {"xla_gpu_deterministic_ops": True} if deterministic else {}
    if jax.__version_info__ < (0, 11):
        # Before JAX 0.11 the newer CPU library for products runs a small result, such as a kernel's
        # gradient, on one core only: a step takes 5 to 20 % longer. The older one splits its sum
        # over all cores, so that its bits depend on their number. The newer library's plain sums
        # beat XLA's own.
        options["xla_cpu_experimental_ynn_fusion_type"] = "LIBRARY_FUSION_TYPE_REDUCE"
    return options

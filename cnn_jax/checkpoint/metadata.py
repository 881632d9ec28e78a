"""The metadata of a run's checkpoints."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from cnn_jax import data
from cnn_jax.engine.sharding import device_names
from cnn_jax.io.environment import num_cores, versions
from cnn_jax.wording import pluralize


@dataclasses.dataclass
class Progress:
    """Times of a run so far and the size of its metrics, including all parts before it resumed.

    Attributes:
      training_seconds: time of the loop over epochs, over all starts of the run.
      epoch_seconds: time of each epoch that has begun, training alone.
      eval_seconds: time of all evaluations.
      compile_seconds: time to compile the programs.
      total_seconds: time in all.
      metrics_bytes: size of `metrics.jsonl`; rows after it are removed when the run resumes.
    """

    training_seconds: float = 0.0
    epoch_seconds: list[float] = dataclasses.field(default_factory=list)
    eval_seconds: float = 0.0
    compile_seconds: float = 0.0
    total_seconds: float = 0.0
    metrics_bytes: int = 0


def run_metadata(config: ConfigDict, info: data.Info, progress: Progress) -> dict[str, Any]:
    """Returns the metadata of a checkpoint of a run."""
    return {
        "config": config.to_dict(),
        **environment(),
        "dataset": {
            "image_shape": info.image_shape,
            "class_names": info.class_names,
            "digest": info.digest,
        },
        "progress": dataclasses.asdict(progress),
    }


def environment() -> dict[str, Any]:
    """Returns the versions, devices and number of cores on which a run's bits may depend."""
    return {"versions": versions(), "devices": device_names(), "cores": num_cores()}


def describe_numerics(metadata: Mapping[str, Any]) -> str:
    """Describes the packages, devices and cores, which decide how floats are rounded.

    Args:
      metadata: of a checkpoint, or the return value of `environment`.

    Returns:
      Packages with their versions, then devices, such as `jax 0.12.0, jaxlib 0.12.0, flax 0.12.2,
      optax 0.2.6, cpu:0 cpu`; with JAX 0.10 also the number of cores.
    """
    packages = ("jax", "jaxlib", "flax", "optax")
    parts = [f"{package} {metadata['versions'].get(package)}" for package in packages]
    if metadata["versions"].get("jax", "").startswith("0.10."):
        # There the cores split the sum of a kernel's gradient: `jax_options.compiler_options`.
        cores = metadata.get("cores")
        parts.append(pluralize(cores, "core") if cores else "unknown cores")
    return ", ".join(parts + metadata["devices"])

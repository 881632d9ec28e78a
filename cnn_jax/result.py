"""What a run has come to, and on what."""

import dataclasses
import hashlib
import platform
from importlib import metadata
from typing import Any

import jax

from cnn_jax.errors import UserError

_PACKAGES = ("cnn_jax", "jax", "jaxlib", "flax", "optax", "numpy", "tensorflow-datasets")


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run has come to; all but `params` is in `result.json`.

    Seconds are those of all processes together, where one went on with the run of another.

    Attributes:
      test_accuracy: fraction, 0..1.
      test_loss: mean cross-entropy in nats.
      train_accuracy: fraction, over the whole training set with the final parameters.
      num_parameters: how many numbers were trained.
      steps: steps taken.
      epoch_seconds: of each epoch, training alone.
      eval_seconds: of all evaluations together.
      compile_seconds: for the compiled programs, part of them while the data are read.
      total_seconds: from the call of `run` to its end.
      params_sha256: over the parameters' bytes in tree order.
      versions: of Python and of the packages.
      devices: names of the devices that trained.
      params: the trained parameters.
    """

    test_accuracy: float
    test_loss: float
    train_accuracy: float
    num_parameters: int
    steps: int
    epoch_seconds: list[float]
    eval_seconds: float
    compile_seconds: float
    total_seconds: float
    params_sha256: str
    versions: dict[str, str]
    devices: list[str]
    params: Any = dataclasses.field(repr=False)

    @classmethod
    def from_json(cls, content: dict[str, Any] | None, params: Any) -> "Result | None":
        """The result that `content` of a `result.json` stands for, or None where it is none."""
        names = {field.name for field in dataclasses.fields(cls)} - {"params"}
        if content is None or content.keys() != names:
            return None
        return cls(**content, params=params)

    def to_json(self) -> dict[str, Any]:
        """The content of `result.json`."""
        fields = (f.name for f in dataclasses.fields(self) if f.name != "params")
        return {name: getattr(self, name) for name in fields}


def params_sha256(params: Any) -> str:
    """SHA-256 over the parameters' bytes in tree order, in hexadecimal digits."""
    leaves = jax.tree.leaves(jax.device_get(params))
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()


def versions() -> dict[str, str]:
    """Of Python and of the packages that the numbers depend on."""
    return {"python": platform.python_version()} | {p: metadata.version(p) for p in _PACKAGES}


def devices() -> list[str]:
    """The accelerators, or the CPU, that JAX found."""
    try:
        return [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()]
    except RuntimeError as error:  # JAX_PLATFORMS names one that is not there.
        raise UserError(f"JAX has no device: {error}. Change JAX_PLATFORMS.") from error

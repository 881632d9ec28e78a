"""A workdir with two checkpoints."""

from pathlib import Path
from typing import Any

import numpy as np
import optax

from cnn_jax.checkpoint.manager import Checkpoint, Checkpoints


def tree_of(step: int) -> dict[str, Any]:
    """Parameters, and an optimizer's state with empty parts; every array depends on the step."""
    # Noise, which no compression makes shorter, and so much that it stands in a file of its own.
    kernel = np.random.default_rng(step).normal(size=(20, 30)).astype(np.float32)
    params = {"conv": {"kernel": kernel}}
    return {"params": params, "opt_state": optax.adamw(0.1).init(params), "step": np.int32(step)}


def save(workdir: Path, *steps: int) -> None:
    with Checkpoints(workdir, read_only=False) as checkpoints:
        for step in steps:
            checkpoints.save(step, tree_of(step), {"config": {"seed": step, "rate": 0.1 + 0.2}})


def newest(workdir: Path) -> tuple[Checkpoint | None, list[str]]:
    warnings: list[str] = []
    with Checkpoints(workdir, read_only=True) as checkpoints:
        return checkpoints.newest(warnings.append), warnings


def files_of(workdir: Path, step: int) -> list[Path]:
    folder = workdir / "checkpoints" / str(step)
    return sorted(path for path in folder.rglob("*") if path.is_file())

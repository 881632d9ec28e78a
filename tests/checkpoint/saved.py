"""Saves and restores small checkpoints."""

from pathlib import Path
from typing import Any

import numpy as np
import optax

from cnn_jax.checkpoint.manager import Checkpoints
from cnn_jax.checkpoint.restore import Checkpoint, newest_checkpoint


def make_tree(step: int) -> dict[str, Any]:
    """Returns parameters, an optimizer state with empty parts, and a step; all depend on `step`."""
    # Noise cannot be compressed, and this much of it gets a file of its own.
    kernel = np.random.default_rng(step).normal(size=(20, 30)).astype(np.float32)
    params = {"conv": {"kernel": kernel}}
    return {"params": params, "opt_state": optax.adamw(0.1).init(params), "step": np.int32(step)}


def save_checkpoints(workdir: Path, *steps: int) -> None:
    """Saves a checkpoint for each step, with the arrays of `make_tree`."""
    with Checkpoints(workdir) as checkpoints:
        for step in steps:
            checkpoints.save(step, make_tree(step), {"config": {"seed": step, "rate": 0.1 + 0.2}})


def restore_newest(workdir: Path) -> tuple[Checkpoint | None, list[str]]:
    """Restores the newest intact checkpoint; returns it, and the warnings."""
    warnings: list[str] = []
    return newest_checkpoint(workdir / "checkpoints", warnings.append), warnings


def checkpoint_files(workdir: Path, step: int) -> list[Path]:
    """Returns all files of a checkpoint, sorted."""
    folder = workdir / "checkpoints" / str(step)
    return sorted(path for path in folder.rglob("*") if path.is_file())

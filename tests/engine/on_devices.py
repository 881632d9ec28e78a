"""Trains on eight simulated devices; runs in a new process, since their number is fixed at start.

    JAX_NUM_CPU_DEVICES=8 python -m tests.engine.on_devices FOLDER

writes `results.npz` and `collectives.json` into FOLDER, for `test_sharding.py`.
"""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh

from benchmarks.collectives import count_collectives
from cnn_jax import data, train
from cnn_jax.config import schema, sweep
from cnn_jax.engine import compile, many_models, sharding
from cnn_jax.engine.loops import EvalMetrics
from cnn_jax.nn.metrics import Metrics
from cnn_jax.reporting.per_model import compute_each
from tests.support.small import AUGMENT, small_config

NUM_STEPS, FEW_STEPS, NUM_TRAIN = 200, 30, 1437
BATCH_SIZE = 20  # Each of 8 devices has 2 or 3 of these examples.


def make_mesh(*shape: int) -> Mesh:
    """Returns a mesh of the first devices with a shape (model, data)."""
    devices = np.array(jax.devices()[: math.prod(shape)])
    return Mesh(devices.reshape(shape), (sharding.MODEL, sharding.DATA))


def train_on(
    mesh: Mesh, num_steps: int, num_models: int = 1, seed: int = 1, **changes: Any
) -> dict[str, npt.NDArray[Any]]:
    """Trains M models on the digits.

    Args:
      mesh: from `make_mesh`.
      num_steps: number of steps.
      num_models: M.
      seed: of the first model.
      changes: other values of the config.

    Returns:
      `loss` [num_steps, M] of each step; `params` [M, size]; `count` [M], the number of examples
      trained on; `eval_count` [M] and `accuracy` [M] on the training set.
    """
    digits = data.load("digits")
    changes |= {"learning_rate": 0.05, "model.features": (2, 4), "batch_size": BATCH_SIZE}
    config = small_config(seed=seed, num_models=num_models, **changes)
    seeds, _ = sweep.seeds_and_hyperparameters(config)
    states = [train.create_train_state(config, jax.random.key(int(seed))) for seed in seeds]
    state = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    state = sharding.to_devices(state, sharding.sharded_by_model(mesh))
    augmentation = sharding.to_devices(
        train.create_augmentation(config, seeds), sharding.sharded_by_model(mesh)
    )
    examples = jax.device_put((digits.train.image, digits.train.label), sharding.replicated(mesh))
    permutations = [
        np.stack([train.epoch_permutation(int(seed), epoch, NUM_TRAIN) for seed in seeds])
        for epoch in (1, 2, 3)
    ]
    total, losses = Metrics.empty(num_models), []
    num_batches = train.steps_per_epoch(NUM_TRAIN, BATCH_SIZE)
    compiled = compile.jitted_loops(True, mesh, BATCH_SIZE)
    for step in range(num_steps):
        epoch, first = divmod(step, num_batches)
        state, total, batch_metrics = compiled.train_steps(
            state, total, augmentation, *examples, permutations[epoch], first, 1
        )
        losses.append([values["loss"] for values in compute_each(batch_metrics)])
    empty = EvalMetrics.empty(num_models, num_models)
    metrics = compute_each(compiled.evaluate(state, empty, *examples, 0, NUM_TRAIN).models)
    leaves = jax.tree.leaves(sharding.to_host(state.params))
    return {
        "loss": np.array(losses),
        "params": np.concatenate([leaf.reshape(num_models, -1) for leaf in leaves], 1),
        "count": np.array(total.count),
        "eval_count": np.array([values["count"] for values in metrics]),
        "accuracy": np.array([values["accuracy"] for values in metrics]),
    }


def collectives_of(num_models: int) -> dict[str, Any]:
    """Returns what devices send each other in a step, by program: see `count_collectives`."""
    config = small_config(num_models=num_models)
    mesh = sharding.make_mesh(num_models)
    programs = compile.compile_programs(config, schema.check(config), mesh, None, time.perf_counter)
    return {
        name: count_collectives(getattr(programs, name).as_text())
        for name in ("train_steps", "evaluate")
    }


def main(folder: Path) -> None:
    """Writes the arrays of all trainings, the shapes of meshes, and the collectives."""
    jax.config.update("jax_disable_most_optimizations", True)
    results = {f"{n} devices": train_on(make_mesh(1, n), NUM_STEPS) for n in (1, 2, 8)}
    results["8 devices again"] = train_on(make_mesh(1, 8), NUM_STEPS)
    for n in (1, 2, 8):
        results[f"augmented, {n} devices"] = train_on(make_mesh(1, n), FEW_STEPS, **AUGMENT)
    results["augmented, 4 models, 4x2 devices"] = train_on(make_mesh(4, 2), FEW_STEPS, 4, **AUGMENT)
    results["4 models, 1 device"] = train_on(make_mesh(1, 1), FEW_STEPS, 4)
    results["4 models, 4x2 devices"] = train_on(make_mesh(4, 2), FEW_STEPS, 4)
    maps_sequentially = many_models.maps_sequentially
    many_models.maps_sequentially = lambda mesh: False  # As on an accelerator.
    results["4 models vectorized, 2x1 devices"] = train_on(make_mesh(2, 1), FEW_STEPS, 4)
    many_models.maps_sequentially = maps_sequentially
    for index in (0, 3):
        results[f"model {index} alone"] = train_on(make_mesh(1, 1), FEW_STEPS, seed=1 + index)
    results["mesh shapes"] = {
        str(n): np.array(list(sharding.make_mesh(n).shape.values())) for n in (1, 4, 6, 20, 64)
    }
    arrays: Any = {
        f"{training}/{name}": array
        for training, result in results.items()
        for name, array in result.items()
    }
    np.savez(folder / "results.npz", **arrays)
    counts = {f"{n} models on a CPU": collectives_of(n) for n in (1, 20)}
    # As on accelerators: models vectorized, and XLA's own convolution.
    many_models.maps_sequentially = lambda mesh: False
    vars(jax.lax)["platform_dependent"] = lambda *arguments, default, **_: default(*arguments)
    counts |= {f"{n} models": collectives_of(n) for n in (1, 4, 20, 64)}
    (folder / "collectives.json").write_text(json.dumps(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

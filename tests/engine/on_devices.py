"""What eight simulated devices compute, in a process of its own, where they can be had.

    JAX_NUM_CPU_DEVICES=8 python -m tests.engine.on_devices FILE

writes arrays into FILE, for `test_parallel.py`.
"""

import sys
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh

from cnn_jax import data, train
from cnn_jax.config import sweep
from cnn_jax.engine import loops, sharding
from cnn_jax.engine.loops import EvalMetrics
from cnn_jax.nn.metrics import Metrics
from tests.support.small import small_config

STEPS, FEW, BATCH_SIZE, NUM_TRAIN = (
    200,
    30,
    20,
    1437,
)  # 20 examples are 2 or 3 for each of 8 devices.


def mesh_of(model: int, examples: int) -> Mesh:
    """The first model * examples devices."""
    devices = np.array(jax.devices()[: model * examples])
    return Mesh(devices.reshape(model, examples), (sharding.MODEL, sharding.DATA))


def train_on(
    mesh: Mesh, steps: int, num_models: int = 1, seed: int = 1
) -> dict[str, npt.NDArray[Any]]:
    """The losses of each of the steps and what they come to, for each network."""
    digits = data.load("digits")
    changes = {"learning_rate": 0.05, "model.features": (2, 4), "batch_size": BATCH_SIZE}
    config = small_config(seed=seed, num_models=num_models, **changes)
    seeds, _ = sweep.seeds_and_hyperparameters(config)
    states = [train.create_train_state(config, jax.random.key(int(seed))) for seed in seeds]
    state = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    state = sharding.to_devices(state, sharding.sharded_by_model(mesh))
    examples = jax.device_put((digits.train.image, digits.train.label), sharding.replicated(mesh))
    orders = [
        np.stack([train.epoch_permutation(int(s), e, NUM_TRAIN) for s in seeds]) for e in (1, 2, 3)
    ]
    total, losses = Metrics.empty(num_models), []
    num_batches = train.steps_per_epoch(NUM_TRAIN, BATCH_SIZE)
    compiled = loops.compiled_loops(True, mesh, BATCH_SIZE)
    for step in range(steps):
        epoch, first = divmod(step, num_batches)
        state, total, last = compiled.train_steps(state, total, *examples, orders[epoch], first, 1)
        losses.append([values["loss"] for values in last.compute_each()])
    empty = EvalMetrics.empty(num_models, num_models)
    scores = compiled.evaluate(state, empty, *examples, 0, NUM_TRAIN)
    params = np.concatenate(
        [leaf.reshape(num_models, -1) for leaf in jax.tree.leaves(sharding.to_host(state.params))],
        1,
    )
    return {
        "loss": np.array(losses),
        "params": params,
        "count": np.array(total.count),
        "scored": np.array([values["count"] for values in scores.models.compute_each()]),
        "accuracy": np.array([values["accuracy"] for values in scores.models.compute_each()]),
    }


def main(path: str) -> None:
    jax.config.update("jax_disable_most_optimizations", True)
    found = {f"{n} devices": train_on(mesh_of(1, n), STEPS) for n in (1, 2, 4, 8)}
    found["8 devices again"] = train_on(mesh_of(1, 8), STEPS)
    found["4 models, 1 device"] = train_on(mesh_of(1, 1), FEW, 4)
    found["4 models, 4x2 devices"] = train_on(mesh_of(4, 2), FEW, 4)
    one_by_one = sharding.maps_sequentially
    sharding.maps_sequentially = lambda mesh: False  # As an accelerator does.
    found["4 models at once, 2x1 devices"] = train_on(mesh_of(2, 1), FEW, 4)
    sharding.maps_sequentially = one_by_one
    for number in (0, 3):
        found[f"model {number} alone"] = train_on(mesh_of(1, 1), FEW, seed=1 + number)
    found["meshes"] = {
        str(n): np.array(list(sharding.make_mesh(n).shape.values())) for n in (1, 4, 6, 20, 64)
    }
    arrays: Any = {f"{key}/{name}": v for key, each in found.items() for name, v in each.items()}
    np.savez(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])

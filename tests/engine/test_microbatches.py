from types import SimpleNamespace
from typing import Any, cast

import chex
import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from cnn_jax import data, train
from cnn_jax.engine import compile, microbatches
from cnn_jax.engine.microbatches import count_microbatches
from cnn_jax.engine.sharding import DATA
from cnn_jax.model import ConvNet
from cnn_jax.nn.metrics import Metrics
from tests.engine.test_loops import MESH, add_model_axis, arrays_of, drop_model_axis
from tests.test_train import state_with


@pytest.mark.parametrize(
    ("features", "image_shape", "batch_size", "expected"),
    [
        ((8, 16), (28, 28, 1), 128, 1),  # 4 * 8 * 28 * 28 * 128 = 3.2 MB.
        ((16, 32), (32, 32, 3), 128, 2),  # 8.4 MB.
        ((8, 16), (64, 64, 1), 128, 4),  # 16.8 MB.
        ((8, 16), (64, 64, 1), 100, 2),  # 13.1 MB.
        ((8, 16), (64, 64, 1), 127, 1),  # 16.6 MB, but 127 is a prime number.
        ((64, 8), (64, 64, 1), 64, 4),  # 67.1 MB: nine parts would have fewer than 16 examples.
        ((8, 64), (64, 64, 1), 64, 4),  # 8.4 MB in the first map, 16.8 MB in the second.
    ],
)
def test_the_largest_feature_map_decides_the_number_of_parts(
    features: tuple[int, ...], image_shape: tuple[int, int, int], batch_size: int, expected: int
) -> None:
    model = ConvNet(features=features)
    assert count_microbatches(MESH, model, image_shape, batch_size) == expected


@pytest.mark.parametrize(("platform", "data_devices"), [("cuda", 1), ("cpu", 2)])
def test_other_devices_take_a_batch_as_a_whole(platform: str, data_devices: int) -> None:
    devices = np.array([SimpleNamespace(platform=platform)] * data_devices)
    mesh: Any = SimpleNamespace(shape={DATA: data_devices}, devices=devices)
    assert count_microbatches(cast(Mesh, mesh), ConvNet(), (64, 64, 1), 128) == 1


def test_a_run_trains_in_these_parts(
    random_examples: data.Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Four examples with two filters: 4 * 2 * 28 * 28 * 4 bytes. Half of them in each part.
    monkeypatch.setattr(microbatches, "MAX_MAP_BYTES", 4 * 2 * 28 * 28 * 2)
    monkeypatch.setattr(microbatches, "MIN_EXAMPLES", 1)

    def small_state() -> train.TrainState:
        return state_with(**{"model.features": (2,)})

    permutation = train.epoch_permutation(5, 1, 7)
    plain, expected = train.train_epoch(
        small_state().replace(num_microbatches=2), *arrays_of(random_examples), permutation, 4
    )
    looped, total, _ = compile.jitted_loops(True, MESH, 4).train_steps(
        *(add_model_axis(small_state()), Metrics.empty(1), None, *arrays_of(random_examples)),
        *(permutation[None], 0, 2),
    )
    chex.assert_trees_all_close(drop_model_axis(total), expected, rtol=1e-6)
    if jax.__version_info__ >= (0, 11):  # As in `test_loop_equals_the_plain_loop`.
        chex.assert_trees_all_equal(drop_model_axis(looped.params), plain.params)

"""Training does not depend on the number of devices, nor on the models trained at the same time."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.engine import on_devices
from tests.support.command_line import ROOT
from tests.support.once import make_once

pytestmark = pytest.mark.cluster

Results = Mapping[str, Mapping[str, npt.NDArray[Any]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the files that `on_devices.py` writes, which takes a minute."""

    def make(folder: Path) -> None:
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8"}
        command = [sys.executable, "-m", "tests.engine.on_devices", str(folder)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300)

    return make_once(tmp_path_factory, "devices", make)[0]


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    """The arrays of each training in `on_devices.py`."""
    by_training: dict[str, dict[str, npt.NDArray[Any]]] = {}
    with np.load(folder / "results.npz") as arrays:
        for key in arrays:
            training, name = key.split("/")
            by_training.setdefault(training, {})[name] = arrays[key]
    return by_training


def test_training_does_not_depend_on_the_number_of_devices(results: Results) -> None:
    expected = results["1 devices"]
    losses = expected["loss"]
    assert losses.shape == (200, 1)
    assert losses[-1] < 1.1 < 2 < losses[0]  # The model has learnt something.
    for devices in (2, 8):
        sharded = results[f"{devices} devices"]
        # Sums have another order: float32 rounds by 6e-8, which grows over 200 steps. If 8 devices
        # with 2 or 3 examples each lost or counted twice one of 20, the error would be a twentieth.
        np.testing.assert_allclose(sharded["loss"], losses, rtol=1e-5)
        np.testing.assert_allclose(sharded["params"], expected["params"], atol=1e-5)
        # 200 steps are 2 epochs of 71 full batches and one of 17, and 56 more batches.
        assert sharded["count"] == expected["count"] == 2 * 1437 + 56 * 20
        assert sharded["eval_count"] == expected["eval_count"] == 1437


def test_augmentation_does_not_depend_on_devices_and_models(results: Results) -> None:
    # Batches of 20 are padded to 24 on 8 devices. Rounded to 0..255, the images are the same.
    expected = results["augmented, 1 devices"]["loss"]
    assert not np.allclose(expected, results["1 devices"]["loss"][: len(expected)], rtol=1e-4)
    for training in ("2 devices", "8 devices", "4 models, 4x2 devices"):
        loss = results[f"augmented, {training}"]["loss"][:, :1]
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_same_number_of_devices_gives_the_same_bits(results: Results) -> None:
    for name, array in results["8 devices"].items():
        np.testing.assert_array_equal(array, results["8 devices again"][name])


@pytest.mark.parametrize(
    "training",
    ["4 models, 1 device", "4 models, 4x2 devices", "4 models vectorized, 2x1 devices"],
)
def test_models_trained_together_equal_those_trained_alone(results: Results, training: str) -> None:
    together = results[training]
    for index in (0, 3):
        alone = results[f"model {index} alone"]
        for name in ("loss", "accuracy"):
            values = together[name][..., index : index + 1]
            np.testing.assert_allclose(values, alone[name], rtol=1e-5)
        np.testing.assert_allclose(together["params"][index], alone["params"][0], atol=1e-6)
    # All models differ, in their permutations and their initial parameters.
    assert len({loss.tobytes() for loss in together["loss"].T}) == 4
    assert together["count"].tolist() == [on_devices.FEW_STEPS * on_devices.BATCH_SIZE] * 4


def test_models_on_one_device_have_the_same_bits_as_alone(results: Results) -> None:
    for index in (0, 3):
        alone = results[f"model {index} alone"]["params"][0]
        np.testing.assert_array_equal(results["4 models, 1 device"]["params"][index], alone)


def test_mesh_distributes_models_first_and_splits_batches_over_the_rest(results: Results) -> None:
    # Of 8 devices the models get gcd(models, 8): all for 64, 4 for 4 or 20, 2 for 6, 1 for 1.
    shapes = results["mesh shapes"]
    for num_models, shape in {1: [1, 8], 4: [4, 2], 6: [2, 4], 20: [4, 2], 64: [8, 1]}.items():
        assert shapes[str(num_models)].tolist() == shape


def test_models_on_different_devices_need_nothing_of_each_other(folder: Path) -> None:
    # Eight devices. 64 models: eight on each. 20 and 4 models: two devices share the batches of
    # five models or one, 1 model: all do, and add up gradients and metrics.
    collectives = json.loads((folder / "collectives.json").read_text())
    assert len(collectives) == 6
    for models, programs in collectives.items():
        kinds = set() if models == "64 models" else {"all-reduce"}
        assert programs["train_steps"].keys() == kinds
        # Where models form an ensemble, the devices add up the probabilities of its models.
        assert programs["evaluate"].keys() == {"all-reduce"}
    # Gradients of the reference's 9,098 parameters, the sum of the losses, and two counts.
    assert collectives["1 models"]["train_steps"]["all-reduce"] == [2, 4 * (9098 + 3)]

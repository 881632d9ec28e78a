"""The same numbers on any number of devices, and for any number of networks at once."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.engine import on_devices
from tests.support.command_line import ROOT

Found = Mapping[str, Mapping[str, npt.NDArray[Any]]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What `on_devices.py` has computed. It takes half a minute for twelve trainings."""
    path = tmp_path_factory.mktemp("devices") / "found.npz"
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8"}
    command = [sys.executable, "-m", "tests.engine.on_devices", str(path)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300)
    each: dict[str, dict[str, npt.NDArray[Any]]] = {}
    with np.load(path) as arrays:
        for key in arrays:
            training, name = key.split("/")
            each.setdefault(training, {})[name] = arrays[key]
    return each


def test_any_number_of_devices_computes_the_same(found: Found) -> None:
    straight = found["1 devices"]
    losses = straight["loss"]
    assert losses.shape == (200, 1)
    assert losses[-1] < 1.1 < 2 < losses[0]  # It did learn meanwhile.
    for devices in (2, 4, 8):
        shared = found[f"{devices} devices"]
        # Sums in another order: float32 has 6e-8, and 200 steps carry that on. A batch of 20 that
        # was cut or counted wrongly by 8 devices, of 2 or 3 each, would be off by a twentieth.
        np.testing.assert_allclose(shared["loss"], losses, rtol=1e-5)
        np.testing.assert_allclose(shared["params"], straight["params"], atol=1e-5)
        # 200 steps are 2 epochs of 71 full batches and one of 17, and 56 batches more.
        assert shared["count"] == straight["count"] == 2 * 1437 + 56 * 20
        assert shared["scored"] == straight["scored"] == 1437


def test_the_same_number_of_devices_gives_the_same_bits(found: Found) -> None:
    for name, array in found["8 devices"].items():
        np.testing.assert_array_equal(array, found["8 devices again"][name])


@pytest.mark.parametrize(
    "training", ["4 models, 1 device", "4 models, 4x2 devices", "4 models at once, 2x1 devices"]
)
def test_networks_trained_at_once_are_those_trained_alone(found: Found, training: str) -> None:
    together = found[training]
    for number in (0, 3):
        alone = found[f"model {number} alone"]
        for name in ("loss", "accuracy"):
            values = together[name][..., number : number + 1]
            np.testing.assert_allclose(values, alone[name], rtol=1e-5)
        np.testing.assert_allclose(together["params"][number], alone["params"][0], atol=1e-6)
    # Each has its own order and its own parameters.
    assert len({loss.tobytes() for loss in together["loss"].T}) == 4
    assert together["count"].tolist() == [on_devices.FEW * on_devices.BATCH_SIZE] * 4


def test_on_one_device_they_have_the_same_bits(found: Found) -> None:
    for number in (0, 3):
        alone = found[f"model {number} alone"]["params"][0]
        np.testing.assert_array_equal(found["4 models, 1 device"]["params"][number], alone)


def test_networks_come_first_and_what_is_left_shares_the_batches(found: Found) -> None:
    # For 8 devices: all of them for 8, 16 or 64 networks; 4 of 8 for 4 or 20; 2 of 8 for 6.
    shapes = found["meshes"]
    for count, shape in {1: [1, 8], 4: [4, 2], 6: [2, 4], 20: [4, 2], 64: [8, 1]}.items():
        assert shapes[str(count)].tolist() == shape

"""A trained model, loaded from the workdir of a run."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn_jax import data
from cnn_jax.evaluation.trained import load
from cnn_jax.reporting.result import Result


def test_model_is_loaded_from_its_workdir_without_console_output(
    straight_run: tuple[Path, Result], capfd: pytest.CaptureFixture[str]
) -> None:
    workdir, result = straight_run
    for argument in (workdir, str(workdir)):
        trained = load(argument)
        assert (trained.workdir, trained.step) == (workdir, result.steps)
        assert trained.image_shape == (28, 28, 1)
        assert trained.class_names == tuple("0123456789")
        assert trained.params.keys() == result.params.keys()
        for layer, arrays in result.params.items():
            assert trained.params[layer].keys() == arrays.keys()
            for name, array in arrays.items():
                np.testing.assert_array_equal(trained.params[layer][name], array)
    assert capfd.readouterr().out == ""


def test_damaged_newest_checkpoint_gives_a_python_warning_at_the_callers_line(
    straight_run: tuple[Path, Result], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    workdir = Path(shutil.copytree(straight_run[0], tmp_path / "w"))
    state = workdir / "checkpoints" / "10" / "state"
    largest = max(filter(Path.is_file, state.rglob("*")), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    message = r"^.*/checkpoints: checkpoint 10 is damaged \(.*\): using checkpoint 5 instead$"
    with pytest.warns(UserWarning, match=message) as warnings:
        assert load(workdir).step == 5
    (warning,) = warnings
    assert warning.filename == __file__
    assert capfd.readouterr().out == ""


def test_other_arrays_than_images_are_refused(straight_run: tuple[Path, Result]) -> None:
    trained = load(straight_run[0])
    images: Any = data.load("digits").test.image[:2]
    assert trained.probabilities(images).shape == (2, 10)
    for floats in (images / 255, images.astype(np.float32), images.astype(np.int32)):
        with pytest.raises(
            TypeError, match=f"^images of dtype {floats.dtype} are .* uint8, 0..255"
        ):
            trained.probabilities(floats)
    for array in (images[0], images[..., 0], images[:, ::2], images.reshape(2, -1)):
        with pytest.raises(
            ValueError, match=r"are invalid: the shape must be \(N, 28, 28, 1\)\. F"
        ):
            trained.probabilities(array)

"""A trained model, loaded from the workdir of a run."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cnn_jax.evaluation.loading import load
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

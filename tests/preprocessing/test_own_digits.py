"""Real pictures: people's own digits in `$OWN_DIGITS_DIR`, and MNIST's test digits on paper."""

import collections
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.own_pictures_cases import Case, draw_numbers, draw_papers, own_digits, read
from cnn_jax import data
from cnn_jax.evaluation.ensemble import Ensemble
from cnn_jax.evaluation.loading import load_ensemble
from tests.support.command_line import run_main
from tests.support.once import make_once

SEED = 4  # None of its pictures was looked at while the preparation was made.

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def model(mnist_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    """Returns the model of `configs/mnist_99.py`, trained once: about a minute."""

    def train(folder: Path) -> None:
        done = run_main(
            "--config=configs/mnist_99.py",
            f"--config.dataset.manual_dir={mnist_files}",
            f"--workdir={folder}",
        )
        assert done.returncode == 0, done.stderr

    workdir, _ = make_once(tmp_path_factory, "mnist_99", train)
    return load_ensemble(str(workdir), None, None, None, print)


# It reads 692 pictures: half a minute.
def test_digits_of_other_people_are_read(model: Ensemble) -> None:
    if not os.environ.get("OWN_DIGITS_DIR"):
        pytest.skip("OWN_DIGITS_DIR is not set to a folder of people's own digits")
    readings = read(model, own_digits(Path(os.environ["OWN_DIGITS_DIR"])))
    singles = [reading for reading in readings if reading.case.truth]
    wrong = collections.Counter(r.case.kind for r in singles if not r.is_right)
    # 98.34 % on JAX 0.12.
    assert np.mean([reading.is_right for reading in singles]) >= 0.982, wrong
    several = [reading for reading in readings if reading.case.truth is None]
    taken_for_one = [r.case.path.name for r in several if r.is_sure and len(r.label) == 1]
    assert len(taken_for_one) <= len(several) / 10, taken_for_one


def mnist_test_set(mnist_files: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    test = data.load("mnist", manual_dir=str(mnist_files)).test
    return test.image[..., 0], test.label


# It draws and reads 128 pictures of up to 3,000 pixels: a minute, three beside other tests.
def test_empty_paper_is_never_sure_and_a_digit_on_it_is(
    model: Ensemble, mnist_files: Path, tmp_path: Path
) -> None:
    readings = read(model, list(draw_papers(*mnist_test_set(mnist_files), tmp_path, SEED)))
    empty = [reading for reading in readings if reading.case.kind == "empty"]
    assert len(empty) == 64
    assert [reading.case.path.name for reading in empty if reading.is_sure] == []
    written = [reading for reading in readings if reading.case.kind == "single"]
    assert np.mean([r.is_right and r.is_sure for r in written]) >= 0.9


# It draws and reads 200 numbers: half a minute, more beside other tests.
def test_numbers_are_read_or_unsure(model: Ensemble, mnist_files: Path, tmp_path: Path) -> None:
    cases: list[Case] = list(draw_numbers(*mnist_test_set(mnist_files), tmp_path, SEED))
    readings = read(model, cases)
    assert np.mean([r.is_right or not r.is_sure for r in readings]) >= 0.9
    # Not only unsure: most are read.
    assert np.mean([r.is_right for r in readings]) > 0.5

"""No mode imports a slow package that it does not need."""

import re
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from tests.support.command_line import run_main
from tests.support.small import run

SLOW = {  # Each takes 0.1 to 1 s.
    "flax",
    "grain",
    "jax",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "optax",
    "orbax",
    "pyarrow",
    "scipy",
    "sklearn",
    "tensorboardX",
    "tensorflow_datasets",
}


def _slow_imports(*arguments: str) -> set[str]:
    """Returns the slow packages that `main.py` imports when it runs with these arguments."""
    # The second variable makes the compilation shorter.
    environment = {"PYTHONPROFILEIMPORTTIME": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = run_main(*arguments, **environment)
    assert done.returncode == 0, done.stderr
    # A line is `import time: 154 | 40154 |   jax._src.core`.
    names = re.findall(r"^import time: +\d+ \| +\d+ \| +(\w+)", done.stderr, re.MULTILINE)
    assert "numpy" in names  # Each mode imports it: the pattern fits.
    return SLOW & set(names)


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """Returns the workdir of a training on whole splits: TFDS parses all others."""
    folder = tmp_path / "workdir"
    splits = {"dataset.train_split": "train", "dataset.test_split": "test"}
    run(folder, batch_size=512, num_epochs=1, **splits)
    return folder


def test_describe_imports_no_slow_package() -> None:
    assert _slow_imports("--config=configs/mnist.py", "--mode=describe") == set()


def test_training_without_a_workdir_imports_the_arithmetic_alone() -> None:
    imported = _slow_imports("--config=configs/digits.py", "--config.num_epochs=1")
    assert imported == {"flax", "jax", "optax"}


def test_evaluate_imports_what_reads_checkpoints_and_draws_besides(workdir: Path) -> None:
    imported = _slow_imports("--mode=evaluate", f"--workdir={workdir}")
    assert imported == {"flax", "jax", "matplotlib", "optax", "orbax"}


def test_predict_imports_what_reads_checkpoints_and_pictures_besides(
    workdir: Path, tmp_path: Path
) -> None:
    picture = Image.new("L", (100, 100), 255)
    ImageDraw.Draw(picture).line((50, 20, 50, 80), fill=0, width=8)
    picture.save(tmp_path / "one.png")
    images = f"--images={tmp_path / 'one.png'}"
    imported = _slow_imports("--mode=predict", f"--workdir={workdir}", images)
    assert imported == {"flax", "jax", "orbax", "scipy"}

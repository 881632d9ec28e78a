"""`--mode=evaluate`: any checkpoint of a workdir, on any data set of its form."""

import io
from pathlib import Path
from typing import Any

import pytest

from cnn_jax import experiment
from cnn_jax.errors import UserError
from cnn_jax.result import Result
from tests.small import run, small_config

pytestmark = pytest.mark.durability


def evaluate(workdir: Path, *arguments: Any) -> tuple[dict[str, float], list[str]]:
    out = io.StringIO()
    values = evaluate_mode.evaluate(str(workdir), *arguments, out=out, err=io.StringIO())
    return values, out.getvalue().splitlines()


def test_evaluate_needs_a_workdir_alone(straight: tuple[Path, Result], tmp_path: Path) -> None:
    workdir, result = straight
    values, lines = evaluate(workdir)
    assert values == {"loss": result.test_loss, "accuracy": result.test_accuracy, "count": 30}
    assert lines == [f"Test accuracy: {100 * result.test_accuracy:.2f}%"]


def test_evaluate_takes_any_checkpoint(straight: tuple[Path, Result]) -> None:
    # That of step 5 is what a run of one epoch ends with.
    assert evaluate(straight[0], None, 5)[0]["loss"] == run(None, num_epochs=1).test_loss


def test_evaluate_takes_the_data_set_of_a_config(straight: tuple[Path, Result]) -> None:
    # What only a training needs may be another one.
    changes = {
        "dataset.test_split": "train[:70]",
        "learning_rate": 7.0,
        "model.init_stddev": 0.0,
    }
    values, _ = evaluate(straight[0], small_config(**changes))
    assert values["accuracy"] == straight[1].train_accuracy


def test_evaluate_refuses_another_network(straight: tuple[Path, Result]) -> None:
    with pytest.raises(UserError, match=r"another network: model\.activation was relu and is sig"):
        evaluate(straight[0], small_config(**{"model.activation": "sigmoid"}))


def test_evaluate_says_where_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no checkpoint: allowed is"):
        evaluate(tmp_path)
    assert not list(tmp_path.iterdir())

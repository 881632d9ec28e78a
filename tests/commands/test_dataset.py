"""The test set that a model is scored on or inspected with: whether it fits the model."""

import io
from pathlib import Path

import pytest

from cnn_jax import data
from cnn_jax.commands.dataset import load_test_set
from cnn_jax.errors import UserError
from cnn_jax.evaluation.loading import load
from cnn_jax.io.console import Console
from cnn_jax.reporting.result import Result

DIGITS = tuple("0123456789")


def load_described_as(
    info: data.Info, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[data.Examples, str]:
    """Loads the test set of a run as if its data set had another description.

    Returns:
      The examples, and the warnings.
    """
    monkeypatch.setattr(data, "describe", lambda **_: info)
    err = io.StringIO()
    described, test = load_test_set(load(workdir), Console(io.StringIO(), err))
    assert described is info
    return test, err.getvalue()


@pytest.mark.parametrize(
    ("class_names", "expected"),
    [
        (DIGITS, ""),
        (("0", "cat", *DIGITS[2:]), "(class 1 is cat, not 1): a prediction counts as right"),
        (
            tuple("abcdefghij"),
            "(class 0 is a, not 0, class 1 is b, not 1, class 2 is c, not 2, and 7 more): a pred",
        ),
    ],
)
def test_classes_that_the_model_has_not_learned_are_named(
    class_names: tuple[str, ...],
    expected: str,
    straight_run: tuple[Path, Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = data.Info((28, 28, 1), class_names, (), ())
    test, warnings = load_described_as(info, straight_run[0], monkeypatch)
    assert len(test.label) == 30
    assert expected in warnings
    assert warnings.count("\n") == bool(expected)


@pytest.mark.parametrize(
    ("shape", "class_names", "description"),
    [
        ((32, 32, 3), DIGITS, "10 classes of 32x32x3 images"),
        ((28, 28, 1), (*DIGITS, "10"), "11 classes of 28x28x1 images"),
        ((28, 28, 1), ("0",), "1 class of 28x28x1 images"),
    ],
)
def test_data_set_that_does_not_fit_the_model_is_refused(
    shape: tuple[int, int, int],
    class_names: tuple[str, ...],
    description: str,
    straight_run: tuple[Path, Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = (
        rf"^dataset\.name=digits has {description}: it must have 10 classes of 28x28x1 images, "
        r"like checkpoint 10 of .*\. Use"
    )
    with pytest.raises(UserError, match=message):
        load_described_as(data.Info(shape, class_names, (), ()), straight_run[0], monkeypatch)

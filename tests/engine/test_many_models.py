"""Several networks in one run: the same as each by itself, to the end, cut, and used."""

import io
import json
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest

from cnn_jax import data, experiment
from cnn_jax.commands import evaluate as evaluate_mode
from cnn_jax.errors import Stopped, UserError
from cnn_jax.evaluation import trained
from cnn_jax.io import signals
from cnn_jax.io.workdir import read_metrics
from cnn_jax.reporting.result import Result
from cnn_jax.training.device_feed import DeviceFeed
from tests.support.small import run, small_config

CHANGES: dict[str, Any] = {"num_models": 2, "learning_rate": (0.1, 0.05), "seed": 3}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, str]:
    """Two rates, two seeds: the workdir, to be left as it is, the result and what it printed."""
    workdir, out = tmp_path_factory.mktemp("together"), io.StringIO()
    config = small_config(**CHANGES)
    return workdir, experiment.run(config, str(workdir), out=out, err=io.StringIO()), out.getvalue()


def network(tree: Any, number: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[number], tree)


def test_each_network_is_that_of_a_run_of_its_own(together: tuple[Path, Result, str]) -> None:
    _, result, _ = together
    assert result.networks
    # The last: rate 0.05, seed 4. A swept rate is an argument, not a constant: one rounding more.
    alone = run(None, seed=4, learning_rate=0.05)
    chex.assert_trees_all_close(network(result.params, 3), alone.params, atol=1e-6)
    assert result.networks[3] == {
        "seed": 4,
        "learning_rate": 0.05,
        "test_accuracy": alone.test_accuracy,
        "test_loss": pytest.approx(alone.test_loss, rel=1e-5),
        "train_accuracy": alone.train_accuracy,
    }
    assert result.num_parameters == alone.num_parameters
    assert len({leaf.tobytes() for leaf in result.params["linear_1"]["kernel"]}) == 4


def test_the_result_sums_up(together: tuple[Path, Result, str]) -> None:
    workdir, result, _ = together
    content = json.loads((workdir / "result.json").read_text())
    assert content == result.to_json()
    accuracies = [each["test_accuracy"] for each in content["networks"]]
    assert content["test_accuracy"] == pytest.approx(np.mean(accuracies))
    by_rate = content["comparison"]
    assert [each["learning_rate"] for each in by_rate] == [0.1, 0.05]
    assert by_rate[1]["test_accuracy_mean"] == pytest.approx(np.mean(accuracies[2:]))
    # The ensemble, from the probabilities of its two networks as the other modes compute them.
    networks = [trained.load(str(workdir), None, print, None, number) for number in (0, 1)]
    examples = data.load(**networks[0].config.dataset).test
    mean = np.mean([each.probabilities(examples.image) for each in networks], axis=0)
    right = (mean.argmax(axis=1) == examples.label).mean()
    assert by_rate[0]["ensemble_test_accuracy"] == pytest.approx(right)


def test_the_metrics_have_every_network_and_their_mean(together: tuple[Path, Result, str]) -> None:
    rows = read_metrics(together[0])
    assert len(rows) == 2 * (3 + 1) + 1  # As of one network.
    for row in rows:
        assert row["loss"] == pytest.approx(np.mean(row["networks"]["loss"]))
        assert len(row["networks"]["accuracy"]) == 4


def test_what_is_printed(together: tuple[Path, Result, str]) -> None:
    lines = together[2].splitlines()
    assert "Networks: 4 = 2 learning_rate x 2 seeds" in lines
    start = lines.index("Test accuracy in %, learning_rate 0.1:")
    assert lines[start + 1].startswith("  seed 3 to 4: ")
    assert lines[-1] == f"Test accuracy: {100 * together[1].test_accuracy:.2f}%"


@pytest.mark.durability
def test_a_run_that_is_cut_goes_on_to_the_same_bits(
    together: tuple[Path, Result, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stopped after the second of ten steps, in the middle of an epoch and before a row of metrics.
    train = DeviceFeed.train

    def stopping(self: Any, *arguments: Any) -> Any:
        if arguments[3] == 1:
            signals.StopRequest.number = 15
        return train(self, *arguments)

    monkeypatch.setattr(signals.StopRequest, "number", None)
    with monkeypatch.context() as patch:
        patch.setattr(DeviceFeed, "train", stopping)
        with pytest.raises(Stopped, match=r"after step [1-3] of 10"):
            run(tmp_path, **CHANGES)
    signals.StopRequest.number = None
    result = run(tmp_path, **CHANGES)
    straight = together[1]
    assert result.params_sha256 == straight.params_sha256
    assert result.networks == straight.networks
    assert result.comparison == straight.comparison
    without_time = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in read_metrics(folder)]
        for folder in (tmp_path, together[0])
    ]
    assert without_time[0] == without_time[1]


def test_a_finished_run_says_so_and_compares_again(together: tuple[Path, Result, str]) -> None:
    out = io.StringIO()
    config = small_config(**CHANGES)
    result = experiment.run(config, str(together[0]), out=out, err=io.StringIO())
    assert result.networks == together[1].networks
    lines, before = out.getvalue().splitlines(), together[2].splitlines()
    assert lines == ["This run is finished after 2 epochs.", *before[before.index("") :]]


def test_other_networks_are_another_run(together: tuple[Path, Result, str]) -> None:
    for key, value, words in (
        ("num_models", 3, "num_models was 2 and is 3"),
        ("learning_rate", (0.1, 0.2), "learning_rate was 0.1,0.05 and is 0.1,0.2"),
    ):
        with pytest.raises(UserError, match=words):
            run(together[0], **{**CHANGES, key: value})


def test_every_network_can_be_used(together: tuple[Path, Result, str]) -> None:
    workdir, result, _ = together
    assert result.networks
    report = evaluate_mode.evaluate(
        str(workdir), None, None, 2, out=io.StringIO(), err=io.StringIO()
    )
    assert report["test_accuracy"] == result.networks[2]["test_accuracy"]
    assert report["test_loss"] == pytest.approx(result.networks[2]["test_loss"])
    with pytest.raises(UserError, match=r"holds 4 networks .* Use --model=K, 0\.\.3"):
        trained.load(str(workdir), None, print)
    with pytest.raises(UserError, match=r"has no network 4: allowed is 0\.\.3"):
        trained.load(str(workdir), None, print, None, 4)


def test_a_single_network_has_the_number_0(straight: tuple[Path, Result]) -> None:
    assert trained.load(str(straight[0]), None, print, None, 0).step == 10
    with pytest.raises(UserError, match="has no network 1: allowed is 0, its only one"):
        trained.load(str(straight[0]), None, print, None, 1)


def test_a_network_that_diverges_leaves_the_others_alone(tmp_path: Path) -> None:
    out = io.StringIO()
    config = small_config(learning_rate=(0.1, 1e30))
    result = experiment.run(config, str(tmp_path), out=out, err=io.StringIO())
    assert result.networks
    assert (
        "The loss of seed 1, learning_rate 1e+30 is no number any more, by step" in out.getvalue()
    )
    alone = run(None, learning_rate=0.1)
    assert result.networks[0]["test_accuracy"] == alone.test_accuracy
    assert (result.networks[1]["test_loss"], result.test_loss) == (None, None)
    assert result.test_accuracy == alone.test_accuracy  # A lost network has none.
    rows = read_metrics(tmp_path)
    assert rows[-1]["networks"]["loss"][1] is None
    assert rows[-1]["loss"] == rows[-1]["networks"]["loss"][0]
    with pytest.raises(UserError, match=r"parameters that are no numbers.*--model"):
        trained.load(str(tmp_path), None, print, None, 1)


def test_where_all_diverge_the_run_ends() -> None:
    with pytest.raises(UserError, match="the loss became nan"):
        run(None, learning_rate=(1e30, 1e31))

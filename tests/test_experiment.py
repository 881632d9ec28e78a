"""Whole runs, on a few of the bundled digits."""

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest

from cnn_jax import data, experiment, train
from cnn_jax.distributed.cluster import Cluster
from cnn_jax.engine import loops
from cnn_jax.engine.sharding import device_names
from cnn_jax.errors import UserError
from cnn_jax.nn.metrics import Metrics
from cnn_jax.reporting.result import Result
from cnn_jax.training import session
from cnn_jax.training.context import RunContext
from cnn_jax.training.trainer import Trainer
from tests.support import small
from tests.support.small import small_config


def run(workdir: Path | None = None, **changes: Any) -> tuple[Result, list[str]]:
    out = io.StringIO()
    result = small.run(workdir, out=out, **changes)
    return result, out.getvalue().splitlines()


def test_run_prints_the_lines_of_the_reference() -> None:
    out = io.StringIO()
    result = experiment.run(small_config(), out=out, err=io.StringIO(), clock=lambda: 7.0)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("Device: cpu:0 cpu | Compiled in ")
    assert lines[1:3] == [
        "Image batch dimensions: (16, 28, 28, 1)",
        "Image label dimensions: (16,)",
    ]
    # Of five batches, counted from 0, every second one.
    for epoch, start in ((1, 3), (2, 8)):
        assert [line.partition("Cost")[0] for line in lines[start : start + 3]] == [
            f"Epoch: 00{epoch}/002 | Batch {batch}/005 | " for batch in ("000", "002", "004")
        ]
        assert lines[start + 3].startswith(f"Epoch: 00{epoch}/002 training accuracy: ")
        assert lines[start + 4] == "Time elapsed: 0.00 min"
    assert lines[13] == "Total Training Time: 0.00 min"
    assert lines[14:] == [f"Test accuracy: {100 * result.test_accuracy:.2f}%"]


# A chunk of one step, of two, and the whole epoch: a line may not depend on how it is split.
@pytest.mark.parametrize("log_every_steps", [1, 2, 5])
def test_each_line_has_the_cost_of_the_batch_it_names(log_every_steps: int) -> None:
    _, lines = run(log_every_steps=log_every_steps)
    printed = [line for line in lines if " | Batch " in line]
    # The cost of a batch is computed with the parameters before its step.
    config = small_config()
    digits = data.load("digits", train_split="train[:70]").train
    state = train.create_train_state(config, jax.random.key(1), num_examples=70)
    expected = []
    for epoch in (1, 2):
        permutation = jax.device_get(train.epoch_permutation(1, epoch, 70))
        for batch in range(5):
            rows = permutation[16 * batch : 16 * batch + 16]
            examples: train.Batch = {"image": digits.image[rows], "label": digits.label[rows]}
            state, metrics = train.train_step(state, examples)
            if batch % log_every_steps == 0:
                expected.append((f"Batch {batch:03d}/005", metrics.compute()["loss"]))
    assert [line.split(" | ")[1] for line in printed] == [name for name, _ in expected]
    costs = [float(line.rpartition(" ")[2]) for line in printed]
    # Four printed decimals are off by at most 5e-5; the rest is float32 rounding.
    assert costs == pytest.approx([cost for _, cost in expected], abs=6e-5)


def test_several_models_print_the_mean_of_their_costs() -> None:
    def costs(**changes: Any) -> list[float]:
        lines = [line for line in run(**changes)[1] if " | Batch " in line]
        return [float(line.rpartition(" ")[2]) for line in lines]

    means = [(a + b) / 2 for a, b in zip(costs(seed=1), costs(seed=2), strict=True)]
    # The two costs and their mean are each rounded to four decimals.
    assert costs(seed=1, num_models=2) == pytest.approx(means, abs=1.1e-4)


def test_files_of_a_run(tmp_path: Path) -> None:
    result, _ = run(tmp_path)
    written = json.loads((tmp_path / "result.json").read_text())
    assert written == result.to_json()
    assert written["num_parameters"] == 9098
    assert written["steps"] == 10
    assert len(written["epoch_seconds"]) == 2
    seconds = sum(written["epoch_seconds"]) + written["eval_seconds"] + written["compile_seconds"]
    assert 0 < seconds < written["total_seconds"]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["config"]["dataset"]["train_split"] == "train[:70]"
    assert set(config) == {"config", "versions", "devices", "cores"}

    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["epoch"], row["split"]) for row in rows] == [
        (2, 1, "train"),
        (4, 1, "train"),
        (5, 1, "train"),
        (5, 1, "train_eval"),
        (7, 2, "train"),
        (9, 2, "train"),
        (10, 2, "train"),
        (10, 2, "train_eval"),
        (10, 2, "test"),
    ]
    assert rows[-1]["accuracy"] == result.test_accuracy
    assert rows[-2]["accuracy"] == result.train_accuracy
    assert all(set(row) == set(rows[0]) and row["seconds"] >= 0 for row in rows)


def test_params_sha256_is_the_digest_of_the_parameters() -> None:
    result, _ = run()
    leaves = jax.tree.leaves(result.params)
    digest = hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()
    assert result.params_sha256 == digest


def test_same_seed_gives_same_bits_and_other_seed_other_bits() -> None:
    first, second, other = (run(seed=seed)[0] for seed in (1, 1, 2))
    chex.assert_trees_all_equal(first.params, second.params)
    assert first.params_sha256 == second.params_sha256 != other.params_sha256


def test_chunk_length_does_not_change_the_bits() -> None:
    digests = {run(log_every_steps=every)[0].params_sha256 for every in (1, 3, 100)}
    assert len(digests) == 1


def test_run_equals_its_steps_taken_one_by_one() -> None:
    # The public step function, batch by batch; the last batch has its true size.
    config = small_config()
    digits = data.load("digits", train_split="train[:70]").train
    state = train.create_train_state(config, jax.random.key(1), num_examples=70)
    for epoch in (1, 2):
        permutation = jax.device_get(train.epoch_permutation(1, epoch, 70))
        for start in range(0, 70, 16):
            rows = permutation[start : start + 16]
            batch: train.Batch = {"image": digits.image[rows], "label": digits.label[rows]}
            state, _ = train.train_step(state, batch)
    # A padded batch is summed in another order, and ten steps accumulate the rounding.
    chex.assert_trees_all_close(run()[0].params, state.params, atol=1e-6)


def test_steps_are_traced_once_and_the_test_set_is_scored_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traced: list[tuple[int, ...]] = []
    from_batch = Metrics.from_batch

    def count(logits: jax.Array, *rest: Any) -> Metrics:
        traced.append(logits.shape)
        return from_batch(logits, *rest)

    monkeypatch.setattr(Metrics, "from_batch", count)
    scored: list[tuple[int, int]] = []
    evaluate: Callable[..., Any] = Trainer._evaluate

    def spy(self: Any, start: int, stop: int) -> Any:
        scored.append((start, stop))
        return evaluate(self, start, stop)

    monkeypatch.setattr(Trainer, "_evaluate", spy)
    # A model that no other test has, since JAX does not trace a function again.
    run(None, **{"model.features": (3, 5)})
    # Once to train and once to evaluate, over two epochs with partial batches and two data sets.
    assert traced == [(16, 10), (loops.EVAL_BATCH_SIZE, 10)]
    # The training set after each epoch; the test set, which follows it in memory, at the end.
    assert scored == [(0, 70), (0, 70), (70, 100)]


def test_diverged_loss_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="loss is nan between step 1 and step 2: it must be finite"):
        run(tmp_path, learning_rate=1e30)
    assert not (tmp_path / "result.json").exists()


def test_divergence_of_the_last_step_is_noticed(tmp_path: Path) -> None:
    # A single step: its loss is that of the parameters before it, which is finite.
    with pytest.raises(UserError, match="between step 0 and step 1"):
        run(
            tmp_path,
            num_epochs=1,
            learning_rate=1e38,
            **{"dataset.train_split": "train[:16]"},
        )
    assert not (tmp_path / "result.json").exists()


def test_invalid_config_touches_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch_size=71"):
        run(tmp_path / "w", batch_size=71)
    assert not (tmp_path / "w").exists()


def test_missing_platform_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_device() -> Any:
        raise RuntimeError("Unknown backend: 'tpu' requested")

    monkeypatch.setattr(jax, "devices", no_device)
    with pytest.raises(UserError, match="JAX_PLATFORMS"):
        device_names()


def test_adamw_with_one_cycle_learns() -> None:
    result, _ = run(optimizer="adamw", learning_rate=0.01, schedule="one_cycle", num_epochs=12)
    assert result.train_accuracy > 0.9


def train_on_mnist(
    config: str, mnist_files: Path, workdir: Path, *flags: str
) -> tuple[dict[str, Any], list[str]]:
    """Runs `main.py`; returns the content of result.json and the lines of the console."""
    done = subprocess.run(
        [
            *(sys.executable, "main.py", f"--config=configs/{config}.py", *flags),
            *(f"--config.dataset.manual_dir={mnist_files}", f"--workdir={workdir}"),
        ],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    return json.loads((workdir / "result.json").read_text()), done.stdout.splitlines()


@pytest.mark.real_data
def test_reference_config_on_real_mnist_for_one_epoch(mnist_files: Path, tmp_path: Path) -> None:
    # 469 steps on real data take seconds: the main job of the program, end to end.
    result, lines = train_on_mnist("mnist", mnist_files, tmp_path / "w", "--config.num_epochs=1")
    assert result["steps"] == 469  # 60,000 / 128 = 468.75
    batches = [line for line in lines if " | Batch " in line]
    costs = [float(line.rpartition(" ")[2]) for line in batches]
    assert [line[23:30] for line in batches] == [f"{n:03d}/469" for n in range(0, 469, 50)]
    # The weights are so small that the loss stays near ln 10 = 2.303 for half of the epoch.
    assert all(abs(cost - 2.3026) < 0.02 for cost in costs[:5])
    # Then it learns: five seeds ended this epoch with 0.6 to 0.9 of the training set right.
    assert 0.6 < result["test_accuracy"] < 0.95


@pytest.mark.real_data
def test_fast_config_on_real_mnist_for_one_epoch(fast_run: Path) -> None:
    result = json.loads((fast_run / "result.json").read_text())
    # Ten seeds: mean 98.63 %, standard deviation 0.16 %. Three of these below the mean.
    assert result["test_accuracy"] > 0.9815


def test_workdir_that_is_not_shared_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Second(Cluster):
        def __init__(self) -> None:
            super().__init__()
            self.process_index, self.process_count = 1, 2

        def broadcast_from_first(self, text: str) -> str:
            return "token of process 0"

    monkeypatch.setattr(session, "_SHARED_SECONDS", 0)
    unused: Any = None
    context = RunContext(small_config(), unused, unused, Second(), unused, unused, 0.0)
    second = session.Session(context, unused, None, unused)
    with pytest.raises(UserError, match=r"process 1 on .* it must be a folder on a file system"):
        second._check_shared(tmp_path)
    (tmp_path / ".cluster").write_text("token of process 0")
    second._check_shared(tmp_path)


def train_in_small_batches(num_epochs: int, learning_rate: float) -> tuple[Result, str]:
    """Trains on batches of 2 of 70 examples, 35 an epoch; returns the warnings as well."""
    err = io.StringIO()
    changes = {"num_epochs": num_epochs, "learning_rate": learning_rate}
    result = small.run(None, err=err, batch_size=2, log_every_steps=35, **changes)
    return result, err.getvalue()


def test_training_that_has_learned_nothing_is_named() -> None:
    result, warnings = train_in_small_batches(29, 1e-9)  # 29 * 35 = 1,015 steps.
    labels = data.load("digits", train_split="train[:70]").train.label
    share = np.bincount(labels).max() / 70
    assert result.train_accuracy <= share + 0.01
    (line,) = warnings.splitlines()
    assert line.startswith(
        "warning: the model has learned nothing: its training accuracy, "
        f"{100 * result.train_accuracy:.1f} %, is at most a point above {100 * share:.1f} %, the "
    )


@pytest.mark.parametrize(("num_epochs", "learning_rate"), [(28, 1e-9), (29, 0.1)])
def test_short_or_successful_training_is_not(num_epochs: int, learning_rate: float) -> None:
    result, warnings = train_in_small_batches(num_epochs, learning_rate)
    assert (result.train_accuracy > 0.5) == (learning_rate == 0.1)
    assert warnings == ""

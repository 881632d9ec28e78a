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
import pytest

from cnn_jax import data, experiment, train
from cnn_jax.distributed.cluster import Cluster
from cnn_jax.engine import loops
from cnn_jax.engine.sharding import device_names
from cnn_jax.errors import UserError
from cnn_jax.nn.metrics import Metrics
from cnn_jax.reporting.result import Result
from cnn_jax.training import session
from cnn_jax.training.trainer import Trainer
from tests.support.small import small_config


def run(workdir: Path | None = None, **changes: Any) -> tuple[Result, list[str]]:
    out = io.StringIO()
    folder = str(workdir) if workdir else None
    result = experiment.run(small_config(**changes), folder, out=out, err=io.StringIO())
    return result, out.getvalue().splitlines()


def test_a_run_prints_what_the_reference_prints() -> None:
    out = io.StringIO()
    result = experiment.run(small_config(), out=out, err=io.StringIO(), clock=lambda: 7.0)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("Device: cpu:0 cpu | Compiled in ")
    assert lines[1:3] == [
        "Image batch dimensions: (16, 28, 28, 1)",
        "Image label dimensions: (16,)",
    ]
    # After batches 2 and 4; the fifth ends the epoch.
    assert [line.partition("Cost")[0] for line in lines[3:5]] == [
        f"Epoch: 001/002 | Batch {batch}/005 | " for batch in ("002", "004")
    ]
    assert lines[5].startswith("Epoch: 001/002 training accuracy: ")
    assert lines[6] == "Time elapsed: 0.00 min"
    assert lines[11] == "Total Training Time: 0.00 min"
    assert lines[12:] == [f"Test accuracy: {100 * result.test_accuracy:.2f}%"]


def test_the_files_say_what_happened(tmp_path: Path) -> None:
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
    assert set(config) == {"config", "versions", "devices"}

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


def test_the_digest_is_that_of_the_parameters() -> None:
    result, _ = run()
    leaves = jax.tree.leaves(result.params)
    digest = hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()
    assert result.params_sha256 == digest


def test_the_same_seed_gives_the_same_bits_and_another_others() -> None:
    first, second, other = (run(seed=seed)[0] for seed in (1, 1, 2))
    chex.assert_trees_all_equal(first.params, second.params)
    assert first.params_sha256 == second.params_sha256 != other.params_sha256


def test_the_length_of_a_compiled_call_does_not_change_the_bits() -> None:
    digests = {run(log_every_steps=every)[0].params_sha256 for every in (1, 3, 100)}
    assert len(digests) == 1


def test_the_run_is_its_steps_one_by_one() -> None:
    # The same through the public step function, batch by batch, the last one exact.
    config = small_config()
    digits = data.load("digits", train_split="train[:70]").train
    state = train.create_train_state(config, jax.random.key(1), num_examples=70)
    for epoch in (1, 2):
        order = jax.device_get(train.epoch_permutation(1, epoch, 70))
        for start in range(0, 70, 16):
            rows = order[start : start + 16]
            batch: train.Batch = {"image": digits.image[rows], "label": digits.label[rows]}
            state, _ = train.train_step(state, batch)
    # The padded batch sums in another order, and ten steps carry that on.
    chex.assert_trees_all_close(run()[0].params, state.params, atol=1e-6)


def test_each_step_function_is_traced_once_and_the_test_set_scored_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jax.clear_caches()  # What other tests have traced would not be traced again.
    traced: list[tuple[int, ...]] = []
    of_batch = Metrics.of_batch

    def count(logits: jax.Array, *rest: Any) -> Metrics:
        traced.append(logits.shape)
        return of_batch(logits, *rest)

    monkeypatch.setattr(Metrics, "of_batch", count)
    scored: list[tuple[int, int]] = []
    score: Callable[..., Any] = Trainer._score

    def spy(self: Any, start: int, stop: int) -> Any:
        scored.append((start, stop))
        return score(self, start, stop)

    monkeypatch.setattr(Trainer, "_score", spy)
    run()
    # Once in train_step and once in eval_step, over two epochs with ragged ends and two data sets.
    assert traced == [(16, 10), (loops.EVAL_BATCH_SIZE, 10)]
    # The training set after each epoch; the test set, which follows it, at the end.
    assert scored == [(0, 70), (0, 70), (70, 100)]


def test_a_rate_that_makes_the_loss_no_number_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nan between step 1 and step 2"):
        run(tmp_path, learning_rate=1e30)
    assert not (tmp_path / "result.json").exists()


def test_a_last_step_that_makes_the_loss_no_number_is_noticed(tmp_path: Path) -> None:
    # One step in all: its own loss is that of the parameters before it, and fine.
    with pytest.raises(UserError, match="between step 0 and step 1"):
        run(
            tmp_path,
            num_epochs=1,
            learning_rate=1e38,
            **{"dataset.train_split": "train[:16]"},
        )
    assert not (tmp_path / "result.json").exists()


def test_a_config_that_is_not_allowed_touches_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch_size=71"):
        run(tmp_path / "w", batch_size=71)
    assert not (tmp_path / "w").exists()


def test_a_platform_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_device() -> Any:
        raise RuntimeError("Unknown backend: 'tpu' requested")

    monkeypatch.setattr(jax, "devices", no_device)
    with pytest.raises(UserError, match="JAX_PLATFORMS"):
        device_names()


def test_another_recipe_learns() -> None:
    result, _ = run(optimizer="adamw", learning_rate=0.01, schedule="one_cycle", num_epochs=12)
    assert result.train_accuracy > 0.9


def train_on_mnist(
    recipe: str, mnist_files: Path, workdir: Path, *flags: str
) -> tuple[dict[str, Any], list[str]]:
    """What `main.py` leaves in result.json and on the console."""
    done = subprocess.run(
        [
            *(sys.executable, "main.py", f"--config=configs/{recipe}.py", *flags),
            *(f"--config.dataset.manual_dir={mnist_files}", f"--workdir={workdir}"),
        ],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    return json.loads((workdir / "result.json").read_text()), done.stdout.splitlines()


def test_reference_recipe_on_real_mnist_for_one_epoch(mnist_files: Path, tmp_path: Path) -> None:
    # 469 steps on real data take seconds: it is the program's main job, end to end.
    result, lines = train_on_mnist("mnist", mnist_files, tmp_path / "w", "--config.num_epochs=1")
    assert result["steps"] == 469  # 60,000 / 128 = 468.75
    batches = [line for line in lines if " | Batch " in line]
    costs = [float(line.rpartition(" ")[2]) for line in batches]
    assert [line[23:30] for line in batches] == [f"{n:03d}/469" for n in range(50, 469, 50)]
    # The weights are so small that the loss stays near ln 10 = 2.303 for half of the epoch.
    assert all(abs(cost - 2.3026) < 0.02 for cost in costs[:4])
    # Then it learns: five seeds ended this epoch with 0.6 to 0.9 of the training set right.
    assert 0.6 < result["test_accuracy"] < 0.95


def test_one_epoch_of_the_fast_recipe_on_real_mnist(fast_run: Path) -> None:
    result = json.loads((fast_run / "result.json").read_text())
    # Ten seeds: mean 98.63 %, standard deviation 0.16 %. Three of these below the mean.
    assert result["test_accuracy"] > 0.9815


def test_a_workdir_that_is_not_shared_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Second(Cluster):
        def __init__(self) -> None:
            super().__init__()
            self.index, self.count = 1, 2

        def broadcast_from_first(self, text: str) -> str:
            return "what process 0 has written"

    monkeypatch.setattr(session, "_SHARED_SECONDS", 0)
    unused: Any = None
    arguments = (Second(), unused, None, unused, unused, unused, unused)
    second = session.Session(small_config(), unused, *arguments)
    with pytest.raises(UserError, match=r"process 1 on .* allowed is one folder on a file system"):
        second._check_shared(tmp_path)
    (tmp_path / ".cluster").write_text("what process 0 has written")
    second._check_shared(tmp_path)

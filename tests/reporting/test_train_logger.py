"""The console lines, the progress bar and `metrics.jsonl` of a training."""

import io
import json
from pathlib import Path

import pytest

from cnn_jax.io.console import Console
from cnn_jax.io.workdir import Workdir
from cnn_jax.reporting.train_logger import TrainLogger


class Terminal(io.StringIO):
    """A stream that is a terminal, so that the progress bar is drawn."""

    def isatty(self) -> bool:
        return True


def make_logger(
    out: io.StringIO, workdir: Workdir | None = None, err: io.StringIO | None = None
) -> TrainLogger:
    return TrainLogger(workdir, Console(out, err or io.StringIO()), num_epochs=10, num_batches=469)


def test_lines_are_those_of_the_reference() -> None:
    out = io.StringIO()
    logger = make_logger(out)
    logger.start(["cpu:0 cpu", "cpu:1 cpu"], 1.26, (128, 28, 28, 1), 0, {})
    logger.log_progress(1, 50, 2.29918, show=True, advance=50)
    logger.log_progress(1, 69, 2.2, show=False, advance=19)
    logger.log_epoch_accuracy(1, 0.93041, 7.2)
    logger.log_training_time(70.2)
    logger.log_test_accuracy(0.9797)
    logger.close()
    assert out.getvalue().splitlines() == [
        "Device: cpu:0 cpu, cpu:1 cpu | Compiled in 1.3 s",
        "Image batch dimensions: (128, 28, 28, 1)",
        "Image label dimensions: (128,)",
        "Epoch: 001/010 | Batch 050/469 | Cost: 2.2992",
        "Epoch: 001/010 training accuracy: 93.04%",
        "Time elapsed: 0.12 min",
        "Total Training Time: 1.17 min",
        "Test accuracy: 97.97%",
    ]


def test_bar_is_drawn_only_on_a_terminal() -> None:
    for err, drawn in ((Terminal(), True), (io.StringIO(), False)):
        logger = make_logger(io.StringIO(), err=err)
        logger.start(["cpu:0 cpu"], 1.0, (128, 28, 28, 1), 0, {})
        logger.log_progress(2, 50, 1.0, show=False, advance=50)
        logger.close()
        assert bool(err.getvalue()) is drawn


def test_without_a_workdir_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    logger = make_logger(io.StringIO())
    logger.log_metrics(
        step=1, epoch=1, split="test", per_model=[{"loss": 1, "accuracy": 1}], seconds=1
    )
    logger.close()
    assert not list(tmp_path.iterdir())


def test_metrics_are_appended_to_the_workdir(tmp_path: Path) -> None:
    with Workdir(str(tmp_path)) as workdir:
        logger = make_logger(io.StringIO(), workdir)
        for step in (1, 2):
            values = {"loss": 2.5, "accuracy": 0.5, "count": 2}
            logger.log_metrics(
                step=step, epoch=1, split="train", per_model=[values], seconds=0.12345
            )
        logger.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    expected = {"epoch": 1, "split": "train", "loss": 2.5, "accuracy": 0.5, "seconds": 0.123}
    assert rows == [{"step": step, **expected} for step in (1, 2)]
    assert logger.metrics_size() == (tmp_path / "metrics.jsonl").stat().st_size


def test_resumed_run_reports_its_step() -> None:
    out, err = io.StringIO(), Terminal()
    logger = make_logger(out, err=err)
    logger.start(["cpu:0 cpu"], 1.0, (128, 28, 28, 1), 1172, {})
    logger.close()
    assert out.getvalue().splitlines()[-1] == "Resuming after step 1172 of 4690"
    assert "1172/4690" in err.getvalue()  # The bar starts there too.


def test_many_devices_are_counted() -> None:
    out = io.StringIO()
    logger = make_logger(out)
    devices = [f"cuda:{index} NVIDIA H100" for index in range(9)] + ["cpu:0 cpu"]
    logger.start(devices, 1.0, (128, 28, 28, 1), 0, {})
    logger.close()
    assert out.getvalue().startswith("Device: 9 x NVIDIA H100, 1 x cpu | Compiled")

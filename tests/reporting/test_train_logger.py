import io
import json
from pathlib import Path

import pytest

from cnn_jax.io.console import Console
from cnn_jax.io.workdir import Workdir
from cnn_jax.reporting.train_logger import TrainLogger


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def report_to(
    out: io.StringIO, workdir: Workdir | None = None, err: io.StringIO | None = None
) -> TrainLogger:
    return TrainLogger(workdir, Console(out, err or io.StringIO()), num_epochs=10, num_batches=469)


def test_the_lines_are_those_of_the_reference() -> None:
    out = io.StringIO()
    report = report_to(out)
    report.begin(["cpu:0 cpu", "cpu:1 cpu"], 1.26, (128, 28, 28, 1), 0, {})
    report.batches(1, 50, 2.29918, show=True, advance=50)
    report.batches(1, 69, 2.2, show=False, advance=19)
    report.epoch_accuracy(1, 0.93041, 7.2)
    report.training_time(70.2)
    report.test_accuracy(0.9797)
    report.close()
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


def test_the_bar_is_drawn_on_a_terminal_alone() -> None:
    for err, drawn in ((Terminal(), True), (io.StringIO(), False)):
        report = report_to(io.StringIO(), err=err)
        report.begin(["cpu:0 cpu"], 1.0, (128, 28, 28, 1), 0, {})
        report.batches(2, 50, 1.0, show=False, advance=50)
        report.close()
        assert bool(err.getvalue()) is drawn


def test_without_a_workdir_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = report_to(io.StringIO())
    report.write_json("result.json", {})
    report.metrics(step=1, epoch=1, split="test", each=[{"loss": 1, "accuracy": 1}], seconds=1)
    report.close()
    assert not list(tmp_path.iterdir())


def test_what_goes_into_the_workdir(tmp_path: Path) -> None:
    with Workdir(str(tmp_path)) as workdir:
        report = report_to(io.StringIO(), workdir)
        report.write_json("result.json", {"steps": 3})
        for step in (1, 2):
            values = {"loss": 2.5, "accuracy": 0.5, "count": 2}
            report.metrics(step=step, epoch=1, split="train", each=[values], seconds=0.12345)
        report.close()
    assert json.loads((tmp_path / "result.json").read_text()) == {"steps": 3}
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    expected = {"epoch": 1, "split": "train", "loss": 2.5, "accuracy": 0.5, "seconds": 0.123}
    assert rows == [{"step": step, **expected} for step in (1, 2)]
    assert report.metrics_size() == (tmp_path / "metrics.jsonl").stat().st_size


def test_a_run_that_goes_on_says_from_where() -> None:
    out, err = io.StringIO(), Terminal()
    report = report_to(out, err=err)
    report.begin(["cpu:0 cpu"], 1.0, (128, 28, 28, 1), 1172, {})
    report.close()
    assert out.getvalue().splitlines()[-1] == "Going on after step 1172 of 4690"
    assert "1172/4690" in err.getvalue()  # The bar too.


def test_many_devices_are_counted() -> None:
    out = io.StringIO()
    report = report_to(out)
    devices = [f"cuda:{number} NVIDIA H100" for number in range(9)] + ["cpu:0 cpu"]
    report.begin(devices, 1.0, (128, 28, 28, 1), 0, {})
    report.close()
    assert out.getvalue().startswith("Device: 9 x NVIDIA H100, 1 x cpu | Compiled")

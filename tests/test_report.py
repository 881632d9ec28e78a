import io
import json
from pathlib import Path

import pytest

from cnn_jax.errors import UserError
from cnn_jax.report import Report, check_finite


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def report_to(
    out: io.StringIO, workdir: Path | None = None, err: io.StringIO | None = None
) -> Report:
    folder = str(workdir) if workdir else None
    return Report(folder, out=out, err=err or io.StringIO(), num_epochs=10, num_batches=469)


def test_the_lines_are_those_of_the_reference() -> None:
    out = io.StringIO()
    report = report_to(out)
    report.begin(["cpu:0 cpu", "cpu:1 cpu"], 1.26, (128, 28, 28, 1))
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
        report.begin(["cpu:0 cpu"], 1.0, (128, 28, 28, 1))
        report.batches(2, 50, 1.0, show=False, advance=50)
        report.close()
        assert bool(err.getvalue()) is drawn


def test_without_a_workdir_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = report_to(io.StringIO())
    report.write_json("result.json", {})
    report.metrics(step=1, epoch=1, split="test", values={"loss": 1, "accuracy": 1}, seconds=1)
    report.close()
    assert not list(tmp_path.iterdir())


def test_files_of_a_workdir(tmp_path: Path) -> None:
    report = report_to(io.StringIO(), tmp_path / "deep" / "w")
    report.write_json("result.json", {"steps": 3})
    for step in (1, 2):
        values = {"loss": 2.5, "accuracy": 0.5, "count": 2}
        report.metrics(step=step, epoch=1, split="train", values=values, seconds=0.12345)
    report.close()
    folder = tmp_path / "deep" / "w"
    assert json.loads((folder / "result.json").read_text()) == {"steps": 3}
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    expected = {"epoch": 1, "split": "train", "loss": 2.5, "accuracy": 0.5, "seconds": 0.123}
    assert rows == [{"step": step, **expected} for step in (1, 2)]
    assert sorted(p.name for p in folder.iterdir()) == ["metrics.jsonl", "result.json"]


def test_a_workdir_with_a_run_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("precious")
    with pytest.raises(UserError, match="holds a run already"):
        report_to(io.StringIO(), tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == "precious"


def test_a_workdir_where_a_run_came_to_nothing_can_be_used_again(tmp_path: Path) -> None:
    for _ in range(2):
        report_to(io.StringIO(), tmp_path).close()
    report_to(io.StringIO(), tmp_path).write_json("result.json", {})


def test_a_disk_that_refuses_is_said(tmp_path: Path) -> None:
    report = report_to(io.StringIO(), tmp_path / "w")
    (tmp_path / "w" / "metrics.jsonl").unlink()
    (tmp_path / "w").rmdir()
    with pytest.raises(UserError, match=r"metrics\.jsonl cannot be written \(No such file"):
        report.metrics(step=1, epoch=1, split="test", values={"loss": 1, "accuracy": 1}, seconds=1)
    with pytest.raises(UserError, match=r"result\.json cannot be written"):
        report.write_json("result.json", {})


def test_a_workdir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UserError, match="cannot be written"):
        report_to(io.StringIO(), tmp_path / "file")


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run(loss: float) -> None:
    check_finite(2.3, 0, 50)
    with pytest.raises(UserError, match=f"became {loss} between step 50 and step 100.*smaller"):
        check_finite(loss, 50, 100)

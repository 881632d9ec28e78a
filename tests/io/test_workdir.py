"""Files that are whole or not there, and a lock that dies with its process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cnn_jax.errors import UserError
from cnn_jax.io.workdir import Workdir, read_metrics

pytestmark = pytest.mark.durability


def test_the_folder_is_made(tmp_path: Path) -> None:
    with Workdir(str(tmp_path / "deep" / "w")) as workdir:
        workdir.write_json("result.json", {"steps": 3})
    assert json.loads((tmp_path / "deep" / "w" / "result.json").read_text()) == {"steps": 3}
    assert sorted(p.name for p in (tmp_path / "deep" / "w").iterdir()) == [".lock", "result.json"]


def test_what_cannot_be_written_leaves_the_file_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workdir(str(tmp_path)) as workdir:
        workdir.write_json("result.json", {"steps": 3})

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(UserError, match=r"result\.json cannot be written \(No space left"):
            workdir.write_json("result.json", {"steps": 4})
        assert workdir.read_json("result.json") == {"steps": 3}


def test_metrics_are_cut_to_what_they_were(tmp_path: Path) -> None:
    with Workdir(str(tmp_path)) as workdir:
        assert workdir.metrics_size() == 0
        workdir.add_metrics({"step": 1})
        size = workdir.metrics_size()
        assert size == len('{"step": 1}\n')
        workdir.add_metrics({"step": 2})
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"st')  # A process died while writing.
        assert workdir.cut_metrics(size)
        workdir.add_metrics({"step": 2})
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [1, 2]
        assert not workdir.cut_metrics(1000)  # So many it never had: nothing is done.
        assert workdir.metrics_size() == 2 * size


@pytest.mark.parametrize("content", ["", "{", "[1]", "[" * 100_000, '{"a": NaN', "\udcff"])
def test_json_that_is_no_object_is_not_there(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    with Workdir(str(tmp_path)) as workdir:
        assert workdir.read_json("config.json") is None
        assert workdir.read_json("nothing.json") is None


def test_a_disk_that_refuses_is_said(tmp_path: Path) -> None:
    with Workdir(str(tmp_path / "w")) as workdir:
        (tmp_path / "w" / ".lock").unlink()
        (tmp_path / "w").rmdir()
        with pytest.raises(UserError, match=r"metrics\.jsonl cannot be written \(No such file"):
            workdir.add_metrics({"step": 1})
        with pytest.raises(UserError, match=r"result\.json cannot be written"):
            workdir.write_json("result.json", {})


def test_what_is_no_row_of_metrics_is_left_out(tmp_path: Path) -> None:
    row = {"step": 1, "split": "test", "loss": 0.5, "accuracy": 0.5}
    lines = [
        json.dumps(row),
        "5",
        "null",
        "[]",
        '{"split": "train"}',
        '{"step": 2, "spl',
        "{" * 9999,
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert read_metrics(tmp_path) == [row]
    assert read_metrics(tmp_path / "nowhere") == []


def test_a_workdir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UserError, match="cannot be written"):
        Workdir(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious"


def test_a_second_run_is_refused_as_long_as_the_first_has_the_folder(tmp_path: Path) -> None:
    with Workdir(str(tmp_path)), pytest.raises(UserError, match=r"in use by .*process \d+ on "):
        Workdir(str(tmp_path))
    Workdir(str(tmp_path)).__exit__()


def test_a_lock_of_a_dead_process_does_not_block(tmp_path: Path) -> None:
    # It dies with the folder open, as under SIGKILL: nothing is cleaned up.
    code = f"import os; from cnn_jax.io.workdir import Workdir; w = Workdir({str(tmp_path)!r}); "
    subprocess.run([sys.executable, "-c", code + "os._exit(9)"], check=False, timeout=60)
    assert (tmp_path / ".lock").read_text().startswith("process ")
    with Workdir(str(tmp_path)):
        pass

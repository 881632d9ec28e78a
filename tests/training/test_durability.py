"""Faults in real processes: whatever ends a run, the same command goes on to the same bits.

One process starts in some 2.5 s, and these tests start some thirty: their time is what it costs to
know that nothing is lost.
"""

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cnn_jax import data
from tests.data.small_mnist import check_loaded, take_for_originals, write_originals
from tests.support.command_line import ROOT, main, start

pytestmark = pytest.mark.durability

# An epoch takes some 20 ms and is saved, so that a process is saving half of its time.
LONG = ("--config=configs/digits.py", "--config.num_epochs=150", "--config.model.features=4,8")
STEPS = 6750  # 150 epochs of 45 steps: 1,437 digits in batches of 32.
SHORT = (*LONG, "--config.num_epochs=15")


def outcome(workdir: Path) -> tuple[str, list[dict[str, Any]]]:
    """What a run ends with, its times aside."""
    result = json.loads((workdir / "result.json").read_text())
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["seconds"]
    return result["params_sha256"], rows


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """The outcome of LONG, never cut."""
    workdir = tmp_path_factory.mktemp("straight")
    done = main(*LONG, f"--workdir={workdir}")
    assert (done.returncode, done.stderr) == (0, "")
    return outcome(workdir)


@pytest.fixture(scope="module")
def finished_short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of SHORT, never cut."""
    workdir = tmp_path_factory.mktemp("straight_short") / "w"
    assert main(*SHORT, f"--workdir={workdir}").returncode == 0
    return workdir


@pytest.fixture(scope="module")
def straight_short(finished_short: Path) -> tuple[str, list[dict[str, Any]]]:
    """The outcome of SHORT, never cut."""
    return outcome(finished_short)


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    stop = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < stop
        time.sleep(0.0005)


def read_until_training(process: subprocess.Popen[str]) -> str:
    """Everything up to the first accuracy of this process."""
    assert process.stdout
    text = ""
    while "accuracy" not in text:
        line = process.stdout.readline()
        assert line, process.communicate()
        text += line
    return text


def test_twenty_kills_at_any_moment_change_nothing(
    straight: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    moments = random.Random(4)  # So that it is known which twenty were tried.
    workdir = tmp_path / "w"

    def is_saving() -> bool:
        return any((workdir / "checkpoints").glob("*tmp*"))

    def has_saved_more() -> bool:
        folders = (workdir / "checkpoints").iterdir()
        return any(f.name.isdigit() and int(f.name) > starts[-1] for f in folders)

    starts: list[int] = []  # Of each process: the step after which it went on.
    for kill in range(20):
        with start(*LONG, f"--workdir={workdir}") as process:
            if kill % 5 == 4:  # While it starts: importing, restoring, compiling.
                time.sleep(moments.uniform(0.0, 2.5))
            else:
                text = read_until_training(process)
                starts.append(int(text.partition("after step ")[2].partition(" of")[0] or 0))
                time.sleep(moments.uniform(0.0, 0.4))
                if kill % 5 == 2:  # However slow the machine is, some come further.
                    wait_until(has_saved_more)
                if kill % 2:
                    wait_until(is_saving)
            process.kill()
            process.communicate(timeout=60)
            assert process.returncode == -signal.SIGKILL
    # Each went on from where those before it had come, and none was at the end already.
    assert starts == sorted(starts)
    assert len(set(starts)) > 4
    assert starts[-1] < STEPS
    assert not (workdir / "result.json").exists()
    done = main(*LONG, f"--workdir={workdir}")
    assert (done.returncode, done.stderr) == (0, "")
    assert outcome(workdir) == straight
    assert not is_saving()  # What was half-written is cleared away.


def test_signals_save_the_state_and_a_second_run_is_kept_out(
    straight: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with start(*LONG, f"--workdir={tmp_path}") as process:
            read_until_training(process)
            if number == signal.SIGTERM:
                second = main(*LONG, f"--workdir={tmp_path}")
                assert (second.returncode, second.stdout) == (2, "")
                assert f"in use by another run (process {process.pid} on " in second.stderr
                # Evaluating changes nothing, and so may be done meanwhile.
                evaluated = main("--mode=evaluate", f"--workdir={tmp_path}")
                assert (evaluated.returncode, evaluated.stderr) == (0, "")
            process.send_signal(number)
            sent = time.monotonic()
            _, err = process.communicate(timeout=60)
            assert time.monotonic() - sent < 10
        assert process.returncode == 128 + number
        (line,) = err.splitlines()
        step = int(line.partition("after step ")[2].split()[0])
        assert line == (
            f"stopped by {number.name}: after step {step} of {STEPS}, saved in "
            f"{tmp_path}/checkpoints; the same command goes on from there"
        )
        assert max(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == step
    assert main(*LONG, f"--workdir={tmp_path}").returncode == 0
    assert outcome(tmp_path) == straight


@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_a_signal_before_the_training_is_obeyed_at_once(mode: str, finished_short: Path) -> None:
    # While JAX is imported, and while XLA compiles, from some 0.5 s on.
    numbers = itertools.cycle([signal.SIGINT, signal.SIGTERM])
    for tenths in (0, 3, 6, 9):
        number = next(numbers)
        command = ["--mode=evaluate", f"--workdir={finished_short}"]
        if mode == "train":
            command = [*SHORT, f"--workdir={finished_short.parent / f'new{tenths}'}"]
        # Without the cache, so that it takes its time.
        with start(*command, JAX_ENABLE_COMPILATION_CACHE="0") as process:
            wait_until(partial(has_imported_jax, process.pid))
            time.sleep(tenths / 10)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 128 + number, err
        assert err == f"stopped by {number.name}: nothing was to be saved\n"


def has_imported_jax(pid: int) -> bool:
    return "libjax_common" in Path(f"/proc/{pid}/maps").read_text()


def in_a_namespace(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a shell script that may mount what nobody else sees."""
    return subprocess.run(
        [
            *("unshare", "--user", "--map-root-user", "--mount", "bash", "-euc", script, "-"),
            *arguments,
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def can_mount() -> bool:
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "mount",
        "-t",
        "tmpfs",
        "t",
        "/mnt",
    ]
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


needs_mounts = pytest.mark.skipif(not can_mount(), reason="mounting is not allowed here")


@needs_mounts
def test_a_full_disk_is_said_and_with_room_again_nothing_is_lost(
    straight_short: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    # A disk of its own, which is filled to the last byte as soon as the first checkpoint is there.
    script = """
        folder=$1; shift
        mount -t tmpfs -o size=1m tmpfs "$folder/disk"
        "$PYTHON" main.py "$@" --workdir="$folder/disk/w" &
        while [ ! -d "$folder/disk/w/checkpoints/45" ]; do sleep 0.001; done
        dd if=/dev/zero of="$folder/disk/filler" bs=4k status=none 2> /dev/null || true
        status=0; wait $! || status=$?
        echo "status $status"
        rm "$folder/disk/filler"
        "$PYTHON" main.py "$@" --workdir="$folder/disk/w"
        cp "$folder/disk/w/"*.json* "$folder"
    """
    (tmp_path / "disk").mkdir()
    done = in_a_namespace(script, str(tmp_path), *SHORT)
    assert done.returncode == 0, done.stderr
    assert "status 2" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "cannot be written (No space left on device)" in line
    assert outcome(tmp_path) == straight_short


def test_a_file_size_limit_is_said_and_without_it_nothing_is_lost(
    straight_short: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    # 16 KiB a file: the parameters do not fit.
    command = [sys.executable, "main.py", *SHORT, f"--workdir={tmp_path}"]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 16 && exec "$@"', "-", *command],
        cwd=ROOT,
        env=os.environ
        | {"JAX_ENABLE_COMPILATION_CACHE": "0"},  # Which warns where it cannot write.
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the checkpoint of step 45 cannot be written (File too large)")
    assert main(*SHORT, f"--workdir={tmp_path}").returncode == 0
    assert outcome(tmp_path) == straight_short


@needs_mounts
def test_a_workdir_that_can_only_be_read_is_said_and_can_be_evaluated(tmp_path: Path) -> None:
    script = """
        "$PYTHON" main.py "${@:2}" --workdir="$1" > /dev/null
        mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"
        "$PYTHON" main.py --mode=evaluate --workdir="$1" | tail -n 1
        "$PYTHON" main.py "${@:2}" --workdir="$1" || echo "status $?"
    """
    done = in_a_namespace(script, str(tmp_path), *SHORT)
    accuracy, status = done.stdout.splitlines()
    assert accuracy.startswith("Test accuracy: ")
    assert status == "status 2"
    report, run = done.stderr.splitlines()
    assert report.startswith(f"error: {tmp_path}/report.json cannot be written (Read-only file ")
    assert run.startswith(f"error: {tmp_path} cannot be written (Read-only file system)")


def test_deaths_while_data_are_prepared_and_cached_leave_nothing_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_originals(tmp_path / "originals")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Each process goes on where the one before it died: among the 30 training and then the 10 test
    # pictures; when all is prepared and pictures are read; when the first and when the second file
    # of the cache is written but has no name yet.
    for function, call in (
        ("PIL.Image.Image.save", 20),
        ("PIL.Image.Image.save", 35),
        ("cnn_jax.data.array_record._decode", 5),
        ("os.fsync", 1),
        ("os.fsync", 2),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "tests.data.small_mnist", str(tmp_path), function, str(call)],
            cwd=ROOT,
            capture_output=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
    take_for_originals(monkeypatch)
    for _ in range(2):  # The second time from the cache.
        dataset = data.load(
            "mnist", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path / "originals")
        )
        check_loaded(dataset)

"""Faults in real processes: however a run ends, the same command resumes it to the same bits.

These tests start about thirty processes, at 2.5 s each.
"""

import contextlib
import itertools
import json
import os
import random
import re
import shutil
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
from tests.data.small_mnist import accept_as_originals, check_small_mnist, write_originals
from tests.support.command_line import ROOT, run_main, start_main
from tests.support.once import make_once

pytestmark = pytest.mark.durability

# An epoch takes about 20 ms and is saved, so that a process spends half of its time saving. With a
# constant learning rate no program depends on the number of epochs: all runs share one compilation.
CONFIG = (
    "--config=configs/digits.py",
    "--config.model.features=4,8",
    "--config.schedule=constant",
)
LONG = (*CONFIG, "--config.num_epochs=90", "--config.film_frames=100")
STEPS = 4050  # 90 epochs of 45 steps: 1,437 digits in batches of 32.
SHORT = (*CONFIG, "--config.num_epochs=15")

# The SHA-256 of a run's parameters, its rows of metrics without their times, its film by file.
Outcome = tuple[str, list[dict[str, Any]], dict[str, bytes]]


def outcome(workdir: Path) -> Outcome:
    result = json.loads((workdir / "result.json").read_text())
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["seconds"]
    film = {path.name: path.read_bytes() for path in workdir.glob("film/*.frame")}
    return result["params_sha256"], rows, film


@pytest.fixture(scope="module")
def straight_long(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The outcome of LONG without any fault."""

    def make(workdir: Path) -> Outcome:
        process = run_main(*LONG, f"--workdir={workdir}")
        assert (process.returncode, process.stderr) == (0, "")
        straight = outcome(workdir)
        assert len(straight[2]) == 100
        return straight

    return make_once(tmp_path_factory, "straight_long", make)[1]


@pytest.fixture(scope="module")
def finished_short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of SHORT without any fault."""

    def make(workdir: Path) -> None:
        assert run_main(*SHORT, f"--workdir={workdir}").returncode == 0

    return make_once(tmp_path_factory, "straight_short", make)[0]


@pytest.fixture(scope="module")
def straight_short(finished_short: Path) -> Outcome:
    """The outcome of SHORT without any fault."""
    return outcome(finished_short)


def wait_until(condition: Callable[[], bool], timeout_seconds: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def read_until_training(process: subprocess.Popen[str]) -> str:
    """Returns the output of a process up to its first accuracy."""
    assert process.stdout
    text = ""
    while "accuracy" not in text:
        line = process.stdout.readline()
        assert line, process.communicate()
        text += line
    return text


# Of ten kills in a row two hit the program while it starts (importing, restoring, compiling), four
# while it saves, two after it has saved a new checkpoint, one of these while it saves again, and
# three at any moment of the training. More kills would hit the same states again.
def test_run_killed_ten_times_equals_straight_run(straight_long: Outcome, tmp_path: Path) -> None:
    moments = random.Random(4)  # The same ten moments in each test run.
    workdir = tmp_path / "w"

    def is_saving() -> bool:
        return any((workdir / "checkpoints").glob("*tmp*"))

    def has_new_checkpoint() -> bool:
        folders = (workdir / "checkpoints").iterdir()
        return any(f.name.isdigit() and int(f.name) > starts[-1] for f in folders)

    starts: list[int] = []  # The step from which each process resumed.
    for kill in range(10):
        with start_main(*LONG, f"--workdir={workdir}") as process:
            if kill % 5 == 4:  # While it starts: importing, restoring, compiling.
                time.sleep(moments.uniform(0.0, 2.5))
            else:
                text = read_until_training(process)
                starts.append(int(text.partition("after step ")[2].partition(" of")[0] or 0))
                time.sleep(moments.uniform(0.0, 0.4))
                if kill % 5 == 2:  # However slow the computer is, some processes get further.
                    wait_until(has_new_checkpoint)
                if kill % 2:
                    wait_until(is_saving)
            process.kill()
            process.communicate(timeout=60)
            assert process.returncode == -signal.SIGKILL
    # Each process resumed where the one before it had stopped, and none was at the end already. The
    # first started at 0, and two were killed only after they had saved a new checkpoint.
    assert starts == sorted(starts)
    assert len(set(starts)) >= 3
    assert starts[-1] < STEPS
    assert not (workdir / "result.json").exists()
    resumed = run_main(*LONG, f"--workdir={workdir}")
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert outcome(workdir) == straight_long
    assert not is_saving()  # Incomplete checkpoints have been deleted.


def test_stop_signals_save_the_state_and_a_second_run_is_refused(
    straight_long: Outcome, tmp_path: Path
) -> None:
    def has_checkpoint() -> bool:
        return any(path.name.isdigit() for path in (tmp_path / "checkpoints").iterdir())

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with start_main(*LONG, f"--workdir={tmp_path}") as process:
            read_until_training(process)
            if number == signal.SIGTERM:
                wait_until(has_checkpoint)
                # While it is paused, it cannot finish.
                process.send_signal(signal.SIGSTOP)
                try:
                    second = run_main(*LONG, f"--workdir={tmp_path}")
                    # An evaluation changes no checkpoint, so it is allowed meanwhile.
                    evaluated = run_main("--mode=evaluate", f"--workdir={tmp_path}")
                finally:
                    process.send_signal(signal.SIGCONT)
                assert (second.returncode, second.stdout) == (2, "")
                assert f"in use by another run (process {process.pid} on " in second.stderr
                assert (evaluated.returncode, evaluated.stderr) == (0, "")
            process.send_signal(number)
            sent_at = time.monotonic()
            _, err = process.communicate(timeout=60)
            assert time.monotonic() - sent_at < 10
        assert process.returncode == 128 + number
        (line,) = err.splitlines()
        step = int(line.partition("after step ")[2].split()[0])
        assert line == (
            f"stopped by {number.name}: after step {step} of {STEPS}; saved in "
            f"{tmp_path}/checkpoints. The same command resumes from there"
        )
        assert max(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == step
    assert run_main(*LONG, f"--workdir={tmp_path}").returncode == 0
    assert outcome(tmp_path) == straight_long


@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_stop_signal_before_the_training_ends_the_program_at_once(
    mode: str, finished_short: Path
) -> None:
    # JAX is being imported at first; XLA compiles after about 0.5 s.
    numbers = itertools.cycle([signal.SIGINT, signal.SIGTERM])
    for tenths in (0, 3, 6, 9):
        number = next(numbers)
        command = ["--mode=evaluate", f"--workdir={finished_short}"]
        if mode == "train":
            command = [*SHORT, f"--workdir={finished_short.parent / f'new{tenths}'}"]
        # Without the compilation cache, so that compiling takes long enough.
        with start_main(*command, JAX_ENABLE_COMPILATION_CACHE="0") as process:
            wait_until(partial(has_imported_jax, process.pid))
            time.sleep(tenths / 10)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 128 + number, err
        assert err == f"stopped by {number.name}: there was nothing to save\n"


def has_imported_jax(pid: int) -> bool:
    return "libjax_common" in Path(f"/proc/{pid}/maps").read_text()


def run_in_mount_namespace(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a shell script whose mounts are invisible to all other processes."""
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


needs_mounts = pytest.mark.skipif(not can_mount(), reason="this user may not mount")


@needs_mounts
def test_full_disk_is_reported_and_the_run_resumes_when_there_is_space(
    straight_short: Outcome, tmp_path: Path
) -> None:
    # A separate disk is filled to the last byte as soon as it contains the first checkpoint.
    script = """
        folder=$1; shift
        mount -t tmpfs -o size=1m tmpfs "$folder/disk"
        "$PYTHON" main.py "$@" --workdir="$folder/disk/w" &
        while [ ! -d "$folder/disk/w/checkpoints/45" ]; do sleep 0.001; done
        dd if=/dev/zero of="$folder/disk/padding" bs=4k status=none 2> /dev/null || true
        status=0; wait $! || status=$?
        echo "status $status"
        rm "$folder/disk/padding"
        "$PYTHON" main.py "$@" --workdir="$folder/disk/w"
        cp "$folder/disk/w/"*.json* "$folder"
    """
    (tmp_path / "disk").mkdir()
    process = run_in_mount_namespace(script, str(tmp_path), *SHORT)
    assert process.returncode == 0, process.stderr
    assert "status 2" in process.stdout
    (line,) = process.stderr.splitlines()
    assert line.startswith("error: ")
    assert re.search(r"cannot write .*\(No space left on device\)", line)
    assert outcome(tmp_path) == straight_short


def test_file_size_limit_is_reported_and_the_run_resumes_without_it(
    straight_short: Outcome, tmp_path: Path
) -> None:
    # The parameters need more than 16 KiB in a file.
    command = [sys.executable, "main.py", *SHORT, f"--workdir={tmp_path}"]
    process = subprocess.run(
        ["bash", "-c", 'ulimit -f 16 && exec "$@"', "-", *command],
        cwd=ROOT,
        # The compilation cache would warn that it cannot write. This run saves no checkpoint, so
        # that its bits, without optimizations, do not matter.
        env=os.environ
        | {"JAX_ENABLE_COMPILATION_CACHE": "0", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert process.returncode == 2
    _, line = process.stderr.splitlines()  # The first one is the warning about that variable.
    folder = tmp_path / "checkpoints"
    assert line.startswith(f"error: cannot write checkpoint 45 of {folder} (File too large): ")
    assert run_main(*SHORT, f"--workdir={tmp_path}").returncode == 0
    assert outcome(tmp_path) == straight_short


@needs_mounts
def test_read_only_workdir_is_reported_and_can_be_evaluated(
    finished_short: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished_short, tmp_path, dirs_exist_ok=True)
    script = """
        mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"
        "$PYTHON" main.py --mode=evaluate --workdir="$1" | tail -n 1
        "$PYTHON" main.py "${@:2}" --workdir="$1" || echo "status $?"
    """
    process = run_in_mount_namespace(script, str(tmp_path), *SHORT)
    accuracy, status = process.stdout.splitlines()
    assert accuracy.startswith("Test accuracy: ")
    assert status == "status 2"
    report_error, run_error = process.stderr.splitlines()
    assert report_error.startswith(
        f"error: cannot write {tmp_path}/report.json (Read-only file system)"
    )
    assert run_error.startswith(f"error: cannot write {tmp_path} (Read-only file system)")


def test_data_set_is_intact_after_kills_during_preparation_and_caching(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_originals(tmp_path / "originals")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Each process continues where the one before it was killed: among the 30 training images, among
    # the 10 test images, while the prepared images are read, and when the first and the second file
    # of the cache are written but not yet renamed.
    for function, call in (
        ("PIL.Image.Image.save", 20),
        ("PIL.Image.Image.save", 35),
        ("cnn_jax.data.array_record._decode", 5),
        ("os.fsync", 1),
        ("os.fsync", 2),
    ):
        process = subprocess.run(
            [sys.executable, "-m", "tests.data.small_mnist", str(tmp_path), function, str(call)],
            cwd=ROOT,
            capture_output=True,
            timeout=100,
            check=False,
        )
        assert process.returncode == -signal.SIGKILL, process.stderr
    accept_as_originals(monkeypatch)
    for _ in range(2):  # The second time from the cache.
        dataset = data.load(
            "mnist", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path / "originals")
        )
        check_small_mnist(dataset)

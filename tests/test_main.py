"""The command line, as somebody would use it: in a process of its own."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import ROOT, error_of, main, start

SMALL = (
    "--config=configs/digits.py",
    "--config.dataset.train_split=train[:64]",
    "--config.num_epochs=1",
)


def test_digits_from_start_to_end(
    digits_run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    # The first command of the README; the whole recipe, since its result is what it promises.
    workdir, done = digits_run
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads((workdir / "result.json").read_text())
    assert done.stdout.splitlines()[-1] == f"Test accuracy: {100 * result['test_accuracy']:.2f}%"
    assert result["test_accuracy"] >= 0.96


def test_two_processes_give_the_same_bits_and_follow_their_flags(tmp_path: Path) -> None:
    changes = ("--config.seed=7", "--config.learning_rate=0.002", "--config.model.features=4,6")
    processes = [start(*SMALL, *changes, f"--workdir={tmp_path / name}") for name in ("a", "b")]
    for process in processes:
        with process:
            process.communicate(timeout=100)
            assert process.returncode == 0
    first, second = (
        json.loads((tmp_path / name / "result.json").read_text())["params_sha256"] for name in "ab"
    )
    assert first == second
    config = json.loads((tmp_path / "a" / "config.json").read_text())["config"]
    assert (config["seed"], config["learning_rate"]) == (7, 0.002)
    assert config["model"]["features"] == [4, 6]


def test_describe_needs_neither_data_nor_jax() -> None:
    # A platform that does not exist would stop anything that asks JAX for a device.
    done = main("--config=configs/mnist.py", "--mode=describe", JAX_PLATFORMS="nothing")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].split() == ["total", "9,098", "290,080"]


def test_help_is_no_error() -> None:
    done = main("--help")
    assert done.returncode == 0
    assert "--config=configs/mnist.py" in done.stdout
    names = ("config", "workdir", "mode", "step", "network", "images", "json", "show", "profile")
    for name in (*names, "coordinator", "num_processes", "process_id"):
        assert re.search(rf"^  --(\[no\])?{name}: ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no --config given"),
        (("--config=configs/nothing.py",), "configs/nothing.py is not there"),
        (("--config=configs/mnist.py", "--config.sed=2"), "Did you mean seed?"),
        (("--config=configs/mnist.py", "--config.seed=abc"), "seed=abc is not allowed"),
        (("--config=configs/mnist.py", "--config.seed"), "Missing value"),
        (
            ("--config=configs/mnist.py", "--mode=fly"),
            "<train|evaluate|predict|inspect|export|describe>",
        ),
        (("--config=configs/mnist.py", "more"), "more is not a flag"),
        (("--mode=evaluate",), "no --workdir given"),
        (("--config=configs/digits.py", "--workdir="), "--workdir is empty"),
        (("--mode=evaluate", "--config.seed=2"), "--config.seed=2 changes a config, and none is"),
        (("--config=configs/digits.py", "--workdir=nul\udcff"), "is no UTF-8"),
        (("--mode=evaluate", "--workdir=nowhere"), "nowhere has no checkpoint"),
        (("--config=configs/mnist.py", "--step=3"), "--step=3 has no effect with --mode=train"),
        (("--config=configs/mnist.py", "--model=3"), "--model=3 has no effect with --mode=tra"),
        (("--mode=evaluate", "--workdir=nowhere", "--step=-1"), "not a non-negative integer"),
        (("--mode=predict", "--workdir=nowhere"), "no --images given"),
        (("--mode=predict", "--workdir=nowhere", "--images=a.png"), "nowhere has no checkpoint"),
        (("--mode=inspect",), "no --workdir given"),
        (("--mode=export", "--workdir=nowhere"), "nowhere has no checkpoint"),
        (("--mode=export", "--images=a.png"), "--images=a.png has no effect with --mode=export"),
        (("--config=configs/mnist.py", "--profile"), "--profile needs a place"),
        (("--cofnig=configs/mnist.py",), "Did you mean: config"),
        (("--config=configs/digits.py", "--workdir=~nobody/" + "y" * 300), "cannot be written"),
        (("--config=configs/mnist.py", "--config.dataset.manual_dir=" + "y" * 300), "is no folder"),
        (
            ("--config=configs/mnist.py", "--workdir=main.py"),
            "main.py cannot be written (File exists)",
        ),
    ],
)
def test_what_one_can_mend_is_one_line_and_status_2(arguments: tuple[str, ...], words: str) -> None:
    assert words in error_of(*arguments)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def get_config(): return 1 / 0", "ZeroDivisionError: division by zero ("),
        ("def get_config(): return int('x')", "ValueError: invalid literal"),
        ("def get_config(:", "SyntaxError"),
        ("import nothing_like_it", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "ends the program"),
        ("def get_config(): return 3", "returns no ConfigDict"),
        ("from configs import mnist\ndef get_config(): return mnist.get_config().model", "unknown"),
    ],
)
def test_a_config_file_that_does_not_run_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    line = error_of(f"--config={path}")
    assert words in line


def test_a_reader_that_goes_away_ends_the_program_quietly() -> None:
    command = f"{sys.executable} main.py --config=configs/mnist.py --mode=describe"
    with subprocess.Popen(
        command.split(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        err = process.stderr.read()
    assert (process.returncode, err) == (-signal.SIGPIPE, b"")


def test_a_console_without_room_is_said() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("Linux alone has /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "main.py", *SMALL],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the console's lines cannot be written (No space left on device)")

"""Tests of the command line of `main.py`: its output, its errors and its exit status."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from cnn_jax import experiment
from tests.support.command_line import ROOT, error_line, error_message, run_main

SMALL = (
    "--config=configs/digits.py",
    "--config.dataset.train_split=train[:64]",
    "--config.num_epochs=1",
)


@pytest.mark.real_data
def test_first_command_of_the_readme_trains_on_digits(
    digits_run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    # All epochs, because the README states the accuracy.
    workdir, done = digits_run
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads((workdir / "result.json").read_text())
    assert done.stdout.splitlines()[-1] == f"Test accuracy: {100 * result['test_accuracy']:.2f}%"
    assert result["test_accuracy"] >= 0.96


def test_two_processes_train_the_same_bits_and_overrides_are_applied(tmp_path: Path) -> None:
    changes = ("--config.seed=7", "--config.learning_rate=0.002", "--config.model.features=4,6")
    # A process of its own, and this one. Both compile without optimizations, as `conftest.py` says.
    done = run_main(*SMALL, *changes, f"--workdir={tmp_path}", JAX_DISABLE_MOST_OPTIMIZATIONS="1")
    assert done.returncode == 0
    same = import_module("configs.digits").get_config()
    same.update_from_flattened_dict(
        {
            "dataset.train_split": "train[:64]",
            "num_epochs": 1,
            "seed": 7,
            "learning_rate": 0.002,
            "model.features": (4, 6),
        }
    )
    result = experiment.run(same, out=io.StringIO(), err=io.StringIO())
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["params_sha256"] == result.params_sha256
    config = json.loads((tmp_path / "config.json").read_text())["config"]
    assert (config["seed"], config["learning_rate"]) == (7, 0.002)
    assert config["model"]["features"] == [4, 6]


def test_describe_requires_neither_data_nor_jax() -> None:
    # With an unknown platform, JAX raises an error as soon as a device is requested.
    done = run_main("--config=configs/mnist.py", "--mode=describe", JAX_PLATFORMS="nothing")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].split() == ["total", "9,098", "290,080"]


def test_help_lists_all_flags_and_succeeds() -> None:
    done = run_main("--help")
    assert done.returncode == 0
    assert "--config=configs/mnist.py" in done.stdout
    names = ("config", "workdir", "mode", "step", "model", "images", "json", "show", "profile")
    others = ("labels", "serve", "port", "coordinator", "num_processes", "process_id")
    for name in (*names, *others):
        assert re.search(rf"^  --(\[no\])?{name}: ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--config is missing: it must be a config file"),
        (
            ("--config=configs/missing.py",),
            "missing.py): it must be an existing Python file whose get_config()",
        ),
        (("--config=configs/mnist.py", "--config.sed=2"), "Did you mean seed?"),
        (
            ("--config=configs/mnist.py", "--config.seed=abc"),
            "seed=abc is invalid: it must be an integer from 0",
        ),
        (("--config=configs/mnist.py", "--config.seed"), "Missing value"),
        (
            ("--config=configs/mnist.py", "--mode=fly"),
            "<train|evaluate|predict|inspect|export|demo|describe>",
        ),
        (("--config=configs/mnist.py", "more"), "argument more is invalid: it must be a flag"),
        (("--mode=evaluate",), "--workdir is missing: with --mode=evaluate it must be the folder"),
        (
            ("--config=configs/digits.py", "--workdir="),
            "--workdir= is invalid: it must be a folder",
        ),
        (("--mode=evaluate", "--config.seed=2"), "--config.seed=2 is invalid without --config: "),
        (
            ("--config=configs/digits.py", "--workdir=nul\udcff"),
            "is invalid: it must be valid UTF-8",
        ),
        (("--mode=evaluate", "--workdir=nowhere"), "nowhere has no checkpoint"),
        (
            ("--config=configs/mnist.py", "--step=3"),
            "--step=3 has no effect with --mode=train: the mode must be evaluate or predict",
        ),
        (("--config=configs/mnist.py", "--model=3"), "--model=3 has no effect with --mode=train"),
        (("--mode=evaluate", "--workdir=nowhere", "--step=-1"), "not a non-negative integer"),
        (("--mode=predict", "--workdir=nowhere"), "--images is missing: it must name files"),
        (("--mode=predict", "--workdir=nowhere", "--images=a.png"), "nowhere has no checkpoint"),
        (("--mode=inspect",), "--workdir is missing: with --mode=inspect it must be the folder"),
        (("--mode=export", "--workdir=nowhere"), "nowhere has no checkpoint"),
        (
            ("--mode=inspect", "--labels=a.csv"),
            "--labels=a.csv has no effect with --mode=inspect: ",
        ),
        (("--mode=export", "--images=a.png"), "--images=a.png has no effect with --mode=export"),
        (
            ("--config=configs/mnist.py", "--profile"),
            "--workdir is missing: with --profile it must be",
        ),
        (("--cofnig=configs/mnist.py",), "Did you mean: config"),
        (
            ("--config=configs/digits.py", "--workdir=~nobodi/" + "y" * 300),
            "there is no home folder",
        ),
        (
            ("--config=configs/digits.py", "--workdir=" + "y" * 300),
            "cannot write",
        ),
        (
            ("--config=configs/mnist.py", "--config.dataset.manual_dir=" + "y" * 300),
            "yyy is invalid: it must be a folder with the four original files",
        ),
        (
            ("--config=configs/mnist.py", "--workdir=main.py"),
            "cannot write main.py (File exists)",
        ),
    ],
)
def test_error_of_the_user_is_reported(
    arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert words in error_message(*arguments)


# `main.py` reports every UserError in the same place, so three processes are enough to test it:
# with an invalid flag, an invalid config key, and an error that is raised after JAX was imported.
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--config=configs/digits.py", "--workdir=nul\udcff"),
            "is invalid: it must be valid UTF-8",
        ),
        (("--config=configs/mnist.py", "--config.sed=2"), "Did you mean seed?"),
        (("--mode=evaluate", "--workdir=nowhere"), "nowhere has no checkpoint"),
    ],
)
def test_error_of_the_user_is_one_line_and_exit_status_2(
    arguments: tuple[str, ...], words: str
) -> None:
    assert words in error_line(*arguments)


@pytest.mark.parametrize(
    ("setup", "status"), [("", -signal.SIGPIPE), ("import signal; del signal.SIGPIPE; ", 128 + 13)]
)
def test_closed_output_pipe_ends_the_program_without_a_message(setup: str, status: int) -> None:
    code = setup + "import runpy; runpy.run_path('main.py', run_name='__main__')"
    command = [sys.executable, "-c", code, "--config=configs/mnist.py", "--mode=describe"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        err = process.stderr.read()
    assert (process.returncode, err) == (status, b"")


@pytest.mark.durability
def test_full_disk_on_standard_output_is_reported() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("only Linux has /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "main.py", *SMALL],
            cwd=ROOT,
            env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.returncode == 2
    # The first line is the warning about that variable.
    _, line = done.stderr.splitlines()
    assert line.startswith(
        "error: cannot write to standard output (No space left on device): it must be"
    )

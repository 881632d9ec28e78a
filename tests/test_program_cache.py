import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from cnn_jax import program_cache

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, and JAX's settings put back afterwards."""
    before = {name: jax.config.values[name] for name in SETTINGS}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    folder = program_cache.folder()
    folder.mkdir(parents=True)
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)


def write(programs: Path, name: str, content: bytes = b"code", age: int = 0) -> Path:
    path = programs / f"{name}-cache"
    path.write_bytes(content)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_sealed_programs_are_kept(programs: Path) -> None:
    path = write(programs, "whole")
    program_cache.seal(programs)
    assert program_cache.use() == programs
    assert path.read_bytes() == b"code"
    assert jax.config.values["jax_compilation_cache_dir"] == str(programs)


@pytest.mark.parametrize("damaged", [b"", b"cod", b"dode", b"code "])
def test_damaged_programs_are_removed(programs: Path, damaged: bytes) -> None:
    path = write(programs, "one")
    program_cache.seal(programs)
    path.write_bytes(damaged)
    program_cache.use()
    assert list(programs.iterdir()) == []


def test_a_program_without_a_digest_is_removed(programs: Path) -> None:
    # Its writer died before it was whole.
    write(programs, "unsealed")
    program_cache.use()
    assert list(programs.iterdir()) == []


def test_the_oldest_programs_are_removed(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write(programs, str(age), age=age) for age in range(4)]
    program_cache.seal(programs)
    monkeypatch.setattr(program_cache, "MAX_PROGRAMS", 3)
    program_cache.use()
    assert [path.exists() for path in paths] == [True, True, True, False]


def test_what_the_user_has_settled_stays(programs: Path, tmp_path: Path) -> None:
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    assert program_cache.use() is None
    assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path / "own")
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        assert program_cache.use() is None
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert jax.config.values["jax_compilation_cache_dir"] is None


def test_a_folder_that_cannot_be_made_costs_only_the_cache(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert program_cache.use() is None
    assert jax.config.values["jax_compilation_cache_dir"] is None


def test_processors_with_other_features_get_another_folder(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_cache, "_processor", lambda: "flags: fpu")
    assert program_cache.folder() != programs


# Slow, with three starts of the real program: only a new process finds compiled programs on disk.
def test_a_damaged_program_costs_a_compilation_and_changes_no_bit(tmp_path: Path) -> None:
    def run(number: int, **environment: str) -> str:
        workdir = tmp_path / str(number)
        process = subprocess.run(
            [
                sys.executable,
                "main.py",
                "--config=configs/digits.py",
                "--config.num_epochs=1",
                "--config.model.features=4,4",
                f"--workdir={workdir}",
            ],
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        assert process.stderr == ""
        sha256: str = json.loads((workdir / "result.json").read_text())["params_sha256"]
        return sha256

    compiled = run(1)
    (train_steps,) = tmp_path.glob("cache/cnn_jax/programs/*/jit__train_steps-*-cache")
    whole = train_steps.read_bytes()
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 1
    train_steps.write_bytes(damaged)
    assert run(2) == compiled
    assert train_steps.read_bytes() != damaged  # Compiled and kept again.
    written = train_steps.stat().st_mtime_ns
    assert run(3) == compiled
    assert train_steps.stat().st_mtime_ns == written  # Taken from there.

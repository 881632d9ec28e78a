"""The cache of compiled programs: what JAX is told, and which entries it gets to see."""

import errno
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from cnn_jax.engine import compilation_cache

CACHE_DIR = "jax_compilation_cache_dir"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cache folder, below the temporary folder of this test, with three entries."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = compilation_cache.folder()
    assert folder
    folder.mkdir(parents=True)
    for name in ("a-cache", "b-cache", "c-cache"):
        (folder / name).write_bytes(zlib.compress(name.encode() * 100))
    names = [CACHE_DIR, "jax_persistent_cache_min_compile_time_secs"]
    names += ["jax_persistent_cache_enable_xla_caches"]
    before = {name: jax.config.values[name] for name in names}
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)


def test_jax_gets_the_folder_of_this_processor(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compilation_cache.enable()
    assert jax.config.values[CACHE_DIR] == str(cache)
    assert jax.config.values["jax_persistent_cache_min_compile_time_secs"] == 0
    assert len(list(cache.iterdir())) == 3
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "flags: fpu\n\n")
    assert compilation_cache.folder() != cache


def test_damaged_entries_are_removed(cache: Path) -> None:
    intact = (cache / "a-cache").read_bytes()
    for name, damaged in {
        "flipped": intact[:-9] + bytes([intact[-9] ^ 1]) + intact[-8:],
        "truncated": intact[:-1],
        "empty": b"",
        "other": b"no zlib stream",
    }.items():
        (cache / f"{name}-cache").write_bytes(damaged)
    (cache / "folder-cache").mkdir()  # Nobody's: neither used nor removed.
    compilation_cache.enable()
    names = {path.name for path in cache.iterdir()}
    assert names == {"a-cache", "b-cache", "c-cache", "folder-cache"}


def test_oldest_entries_are_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(cache / "b-cache", (1e9, 1e9))
    monkeypatch.setattr(compilation_cache, "MAX_PROGRAMS", 2)
    compilation_cache.enable()
    assert {path.name for path in cache.iterdir()} == {"a-cache", "c-cache"}


def test_entry_that_cannot_be_removed_is_left(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    (cache / "d-cache").write_bytes(b"damaged")
    monkeypatch.setattr(compilation_cache, "MAX_PROGRAMS", 1)
    monkeypatch.setattr(Path, "unlink", fail)
    compilation_cache.enable()
    assert jax.config.values[CACHE_DIR] == str(cache)
    assert len(list(cache.iterdir())) == 4


@pytest.mark.parametrize(
    ("setting", "value"), [(CACHE_DIR, "mine"), ("jax_enable_compilation_cache", False)]
)
def test_settings_of_the_user_are_kept(cache: Path, setting: str, value: object) -> None:
    before = jax.config.values[setting]
    jax.config.update(setting, value)
    try:
        compilation_cache.enable()
        assert jax.config.values[setting] == value
        assert jax.config.values[CACHE_DIR] in (None, "mine")
    finally:
        jax.config.update(setting, before)


def test_no_cache_where_entries_would_have_no_checksum(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation_cache, "find_spec", lambda name: name == "zstandard")
    compilation_cache.enable()
    assert jax.config.values[CACHE_DIR] is None


def test_no_cache_if_its_folder_cannot_be_created(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    compilation_cache.enable()
    assert jax.config.values[CACHE_DIR] is None


# Only a new process reads compiled programs from the disk: three starts of the real program.
@pytest.mark.durability
def test_damaged_program_is_compiled_again_to_the_same_bits(tmp_path: Path) -> None:
    def run(number: int) -> str:
        workdir = tmp_path / str(number)
        process = subprocess.run(
            [
                sys.executable,
                "main.py",
                "--config=configs/digits.py",
                "--config.num_epochs=1",
                "--config.dataset.train_split=train[:64]",
                f"--workdir={workdir}",
            ],
            env={
                **os.environ,
                "XDG_CACHE_HOME": str(tmp_path / "cache"),
                "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        (line,) = process.stderr.splitlines()
        assert line.startswith("warning: JAX_DISABLE_MOST_OPTIMIZATIONS=1 is set")
        sha256: str = json.loads((workdir / "result.json").read_text())["params_sha256"]
        return sha256

    expected = run(1)
    (train_steps,) = tmp_path.glob("cache/cnn_jax/programs/*/jit_train_steps-*-cache")
    damaged = bytearray(train_steps.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    train_steps.write_bytes(damaged)
    assert run(2) == expected
    assert train_steps.read_bytes() != damaged  # Compiled and stored again.
    written = train_steps.stat().st_mtime_ns
    assert run(3) == expected
    assert train_steps.stat().st_mtime_ns == written  # Used as it is.

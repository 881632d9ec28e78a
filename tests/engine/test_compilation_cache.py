import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from cnn_jax.engine import compilation_cache

CACHE_DIR = "jax_compilation_cache_dir"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, in a place of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return compilation_cache.folder()


def compile_something(number: int) -> None:
    """A program that no other test has compiled, since it contains the number."""
    jax.jit(lambda x: x + number)(jnp.zeros(3)).block_until_ready()


def programs_seen() -> dict[str, bytes]:
    """What JAX has in its folder."""
    return {path.name: path.read_bytes() for path in Path(jax.config.values[CACHE_DIR]).iterdir()}


def test_programs_are_kept_and_taken_again(kept: Path) -> None:
    with compilation_cache.enabled():
        assert programs_seen() == {}
        compile_something(1001)
        compiled = programs_seen()
        assert compiled
    assert jax.config.values[CACHE_DIR] is None
    assert {path.name for path in kept.iterdir()} == set(compiled)
    with compilation_cache.enabled():
        assert programs_seen() == compiled


@pytest.mark.parametrize("kind", ["flipped", "cut", "longer", "empty", "folder"])
def test_jax_does_not_see_a_damaged_program(kept: Path, kind: str) -> None:
    kept.mkdir(parents=True)
    program = b"machine code"
    whole = hashlib.sha256(program).hexdigest().encode() + program
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    contents = {"flipped": flipped, "cut": whole[:-1], "longer": whole + b" ", "empty": b""}
    if kind == "folder":
        (kept / "one-cache").mkdir()
    else:
        (kept / "one-cache").write_bytes(contents[kind])
    (kept / "two-cache").write_bytes(whole)
    with compilation_cache.enabled():
        assert programs_seen() == {"two-cache": program}


def test_jax_does_not_see_half_a_copy_on_a_full_disk(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.mkdir(parents=True)
    program = b"machine code"
    (kept / "one-cache").write_bytes(hashlib.sha256(program).hexdigest().encode() + program)
    write_bytes = Path.write_bytes

    def write_half(self: Path, content: bytes) -> int:
        write_bytes(self, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with compilation_cache.enabled():
        assert not any(name.endswith("-cache") for name in programs_seen())


def test_a_damaged_program_is_replaced(kept: Path) -> None:
    with compilation_cache.enabled():
        compile_something(1002)
    before = {path: path.read_bytes() for path in kept.iterdir()}
    for path in before:
        path.write_bytes(b"damaged")
    jax.clear_caches()
    with compilation_cache.enabled():
        compile_something(1002)
    with compilation_cache.enabled():
        assert {path.name for path in before} <= set(programs_seen())


def test_the_oldest_programs_are_removed(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.mkdir(parents=True)
    paths = [kept / f"{age}-cache" for age in range(4)]
    for age, path in enumerate(paths):
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(compilation_cache, "MAX_PROGRAMS", 3)
    with compilation_cache.enabled():
        pass
    assert [path.exists() for path in paths] == [True, True, True, False]


def test_what_the_user_has_settled_stays(kept: Path, tmp_path: Path) -> None:
    own = str(tmp_path / "own")
    for setting, value, before in (
        (CACHE_DIR, own, None),
        ("jax_enable_compilation_cache", False, True),
    ):
        jax.config.update(setting, value)
        try:
            with compilation_cache.enabled():
                assert jax.config.values[setting] == value
        finally:
            jax.config.update(setting, before)
    assert not kept.exists()


def test_a_folder_that_cannot_be_made_costs_only_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with compilation_cache.enabled():
        assert jax.config.values[CACHE_DIR] is None
        compile_something(1003)


def test_processors_with_other_features_get_another_folder(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation_cache, "_processor", lambda: "flags: fpu")
    assert compilation_cache.folder() != kept


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
    damaged = bytearray(train_steps.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    train_steps.write_bytes(damaged)
    assert run(2) == compiled
    assert train_steps.read_bytes() != damaged  # Compiled and kept again.
    written = train_steps.stat().st_mtime_ns
    assert run(3) == compiled
    assert train_steps.stat().st_mtime_ns == written  # Taken from there.

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
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, below the temporary folder of this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return compilation_cache.folder()


def compile_program(number: int) -> None:
    """Compiles a program that contains a number; no other test must use the same one."""
    jax.jit(lambda x: x + number)(jnp.zeros(3)).block_until_ready()


def jax_programs() -> dict[str, bytes]:
    """Returns the content of each file in the folder that JAX uses."""
    return {path.name: path.read_bytes() for path in Path(jax.config.values[CACHE_DIR]).iterdir()}


def test_compiled_program_is_stored_and_given_to_jax_again(cache: Path) -> None:
    with compilation_cache.enabled():
        assert jax_programs() == {}
        compile_program(1001)
        compiled = jax_programs()
        assert compiled
    assert jax.config.values[CACHE_DIR] is None
    assert {path.name for path in cache.iterdir()} == set(compiled)
    with compilation_cache.enabled():
        assert jax_programs() == compiled


@pytest.mark.parametrize("kind", ["flipped", "truncated", "extended", "empty", "folder"])
def test_jax_gets_no_damaged_program(cache: Path, kind: str) -> None:
    cache.mkdir(parents=True)
    program = b"machine code"
    intact = hashlib.sha256(program).hexdigest().encode() + program
    contents = {
        "flipped": intact[:-1] + bytes([intact[-1] ^ 1]),
        "truncated": intact[:-1],
        "extended": intact + b" ",
        "empty": b"",
    }
    if kind == "folder":
        (cache / "damaged-cache").mkdir()
    else:
        (cache / "damaged-cache").write_bytes(contents[kind])
    (cache / "intact-cache").write_bytes(intact)
    with compilation_cache.enabled():
        assert jax_programs() == {"intact-cache": program}


def test_jax_gets_no_truncated_copy_on_a_full_disk(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir(parents=True)
    program = b"machine code"
    (cache / "intact-cache").write_bytes(hashlib.sha256(program).hexdigest().encode() + program)
    write_bytes = Path.write_bytes

    def write_half(self: Path, content: bytes) -> int:
        write_bytes(self, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with compilation_cache.enabled():
        assert not any(name.endswith("-cache") for name in jax_programs())


def test_damaged_program_is_replaced(cache: Path) -> None:
    with compilation_cache.enabled():
        compile_program(1002)
    before = {path: path.read_bytes() for path in cache.iterdir()}
    for path in before:
        path.write_bytes(b"damaged")
    with compilation_cache.enabled():
        compile_program(1002)  # A new function: JAX traces it again, and looks it up on disk.
    with compilation_cache.enabled():
        assert {path.name for path in before} <= set(jax_programs())


def test_oldest_programs_are_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir(parents=True)
    paths = [cache / f"{age}-cache" for age in range(4)]
    for age, path in enumerate(paths):
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(compilation_cache, "MAX_PROGRAMS", 3)
    with compilation_cache.enabled():
        pass
    assert [path.exists() for path in paths] == [True, True, True, False]


def test_settings_of_the_user_are_kept(cache: Path, tmp_path: Path) -> None:
    users_folder = str(tmp_path / "user")
    for setting, value, before in (
        (CACHE_DIR, users_folder, None),
        ("jax_enable_compilation_cache", False, True),
    ):
        jax.config.update(setting, value)
        try:
            with compilation_cache.enabled():
                assert jax.config.values[setting] == value
        finally:
            jax.config.update(setting, before)
    assert not cache.exists()


def test_program_compiles_without_cache_if_its_folder_cannot_be_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with compilation_cache.enabled():
        assert jax.config.values[CACHE_DIR] is None
        compile_program(1003)


def test_processor_with_other_features_has_another_folder(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation_cache, "_processor", lambda: "flags: fpu")
    assert compilation_cache.folder() != cache


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
        assert process.stderr == ""
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

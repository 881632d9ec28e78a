"""Compiled programs on disk, so that a second start need not compile them again.

JAX keeps them and knows them by their contents, its version and its compiler's options. What it
lacks is added here: a folder for each kind of processor, since a program may use instructions that
another one does not have; and a digest for each file, since damaged machine code would be run.
"""

import contextlib
import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path

import jax

from cnn_jax.data import cache

MAX_PROGRAMS = 500  # Some 50 MB. A run of another shape or recipe adds eight.


def folder() -> Path:
    """Where programs for this machine are: a folder for each jaxlib, platform and processor."""
    processor = hashlib.sha256(_processor().encode()).hexdigest()[:16]
    name = f"jaxlib-{version('jaxlib')}-{jax.default_backend()}-{processor}"
    return cache.folder() / "programs" / name


def _processor() -> str:
    """The processor with all its features, or what comes nearest to it."""
    with contextlib.suppress(OSError):
        for core in Path("/proc/cpuinfo").read_text().split("\n\n"):
            lines = [line for line in core.splitlines() if "MHz" not in line]
            return "\n".join(line for line in lines if line.startswith(("model", "flags", "Feat")))
    return f"{platform.machine()} {platform.processor()}"


def use() -> Path | None:
    """Has JAX look for programs in `folder`, from its next compilation on.

    Damaged files and those without a digest, half-written ones too, are removed, and so are the
    oldest beyond `MAX_PROGRAMS`.

    Returns:
      The folder, or None where it cannot be written, or where the user has settled it otherwise:
      JAX_ENABLE_COMPILATION_CACHE=0 means no cache, JAX_COMPILATION_CACHE_DIR another one.
    """
    programs = folder()
    if not jax.config.values["jax_enable_compilation_cache"]:
        return None
    if jax.config.values["jax_compilation_cache_dir"] not in (None, str(programs)):
        return None
    with contextlib.suppress(OSError):
        programs.mkdir(parents=True, exist_ok=True)
    if not os.access(programs, os.W_OK):
        return None
    for age, path in enumerate(_programs(programs)):
        if age >= MAX_PROGRAMS or not _is_whole(path):
            _remove(path)
    jax.config.update("jax_compilation_cache_dir", str(programs))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return programs


def seal(programs: Path) -> None:
    """Writes the digests of new programs; a folder that cannot be written costs only the cache."""
    with contextlib.suppress(OSError):
        for path in _programs(programs):
            if not _digest_path(path).exists():
                unfinished = path.with_suffix(".tmp")
                unfinished.write_text(_digest(path))
                unfinished.replace(_digest_path(path))


def _programs(programs: Path) -> list[Path]:
    """The files with programs, newest first."""
    dated = []
    for path in programs.glob("*-cache"):
        with contextlib.suppress(OSError):  # Another process may remove it.
            dated.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(dated, reverse=True)]


def _digest_path(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_whole(path: Path) -> bool:
    try:
        return _digest_path(path).read_bytes() == _digest(path).encode()
    except OSError:
        return False


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
        _digest_path(path).unlink()

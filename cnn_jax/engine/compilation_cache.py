"""The compilation cache: compiled programs on disk, so that a later start does not compile them.

JAX has such a cache, keyed by a program's text, JAX's version and the compiler's options. But JAX
would run damaged machine code, would keep a truncated entry forever, and does not key by the
processor's features. So JAX is given a folder private to this process, with copies of the intact
entries; entries that JAX adds are kept, with a checksum, in the user's cache folder.
"""

import contextlib
import hashlib
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from cnn_jax.io import files

MAX_PROGRAMS = 200  # About 10 MB. A run adds a few.
_PROGRAMS = "*-cache"  # JAX's names of entries.
_PRIVATE = "of-one-process-"  # Prefix of the private folders.
_STALE_SECONDS = 24 * 3600.0  # No compilation takes so long.


def folder() -> Path:
    """Returns the cache folder of this jaxlib version, platform and processor."""
    processor = hashlib.sha256(_processor().encode()).hexdigest()[:16]
    name = f"jaxlib-{version('jaxlib')}-{jax.default_backend()}-{processor}"
    return files.cache_folder() / "programs" / name


def _processor() -> str:
    """Describes the processor, with its features where Linux lists them."""
    features = ""
    with contextlib.suppress(OSError):
        core = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0]
        lines = [s for s in core.splitlines() if s.startswith(("model", "flags", "Feat", "isa"))]
        features = "\n".join(lines)
    return f"{platform.machine()} {platform.processor()} {features}"


@contextlib.contextmanager
def enabled() -> Iterator[None]:
    """Context manager in which JAX reads programs from `folder` and adds what it compiles.

    Does nothing where the user has configured JAX otherwise (JAX_ENABLE_COMPILATION_CACHE=0: no
    cache; JAX_COMPILATION_CACHE_DIR: another one) or where no folder can be created.
    """
    settings = jax.config.values
    if not settings["jax_enable_compilation_cache"] or settings["jax_compilation_cache_dir"]:
        yield
        return
    shared = folder()
    with contextlib.ExitStack() as stack:
        private = None
        with contextlib.suppress(OSError):
            shared.mkdir(parents=True, exist_ok=True)
            _remove_stale(shared.parent)
            temporary = tempfile.TemporaryDirectory(prefix=_PRIVATE, dir=shared.parent)
            private = Path(stack.enter_context(temporary))
        if private is None:
            yield
            return
        known = _copy_intact(shared, private)
        with _used_by_jax(private):
            yield
        _add_new(private, known, shared)


def _remove_stale(parent: Path) -> None:
    """Removes the private folders of processes that have died."""
    for stale in parent.glob(f"{_PRIVATE}*"):
        with contextlib.suppress(OSError):
            if time.time() - stale.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(stale, ignore_errors=True)


@contextlib.contextmanager
def _used_by_jax(private: Path) -> Iterator[None]:
    settings = {
        "jax_compilation_cache_dir": str(private),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        # XLA's own caches lie beside the programs, and their path would be part of the key.
        "jax_persistent_cache_enable_xla_caches": "none",
    }
    before = {name: jax.config.values[name] for name in settings}
    _configure(settings)
    try:
        yield
    finally:
        _configure(before)


def _configure(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    reset_cache()  # JAX would keep using the folder of its first compilation.


def _copy_intact(shared: Path, private: Path) -> set[str]:
    """Copies the programs that match their checksums, and returns their names."""
    known = set()
    for path in shared.glob(_PROGRAMS):
        if program := files.read_checksummed(path):
            with contextlib.suppress(OSError):  # A failure costs only the cached program.
                incomplete = private / "incomplete"  # On a full disk JAX must not read a part.
                incomplete.write_bytes(program)
                incomplete.replace(private / path.name)
                known.add(path.name)
    return known


def _add_new(private: Path, known: set[str], shared: Path) -> None:
    """Adds new programs to the shared folder, each atomically, and removes the oldest ones."""
    for path in private.glob(_PROGRAMS):
        if path.name not in known:
            with contextlib.suppress(OSError):  # A failure costs only the cached program.
                files.write_checksummed(shared / path.name, path.read_bytes())
    dated = []
    for path in shared.glob("*"):  # Incomplete files of dead processes as well.
        with contextlib.suppress(OSError):
            dated.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(dated, reverse=True)[MAX_PROGRAMS:]:
        with contextlib.suppress(OSError):
            path.unlink()

"""Compiled programs on disk, so that a second start need not compile them again.

JAX has such a cache, and knows a program by its contents, its own version and the compiler's
options. But it would run damaged machine code, leaves half a file for ever, and does not look at
the features of a processor. So here it is given a folder of this process alone, with copies of
those programs that are whole; what it adds is kept, with a digest, in the user's cache folder.
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

MAX_PROGRAMS = 200  # Some 10 MB. The first run adds six, one of another recipe fewer.
_PROGRAMS = "*-cache"  # As JAX names them.
_PRIVATE = "of-one-process-"
_LEFT_SECONDS = 24 * 3600.0  # No compilation takes so long.


def folder() -> Path:
    """Where programs for this machine are: a folder for each jaxlib, platform and processor."""
    processor = hashlib.sha256(_processor().encode()).hexdigest()[:16]
    name = f"jaxlib-{version('jaxlib')}-{jax.default_backend()}-{processor}"
    return files.cache_folder() / "programs" / name


def _processor() -> str:
    """The processor with its features, where Linux tells them."""
    features = ""
    with contextlib.suppress(OSError):
        core = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0]
        lines = [s for s in core.splitlines() if s.startswith(("model", "flags", "Feat", "isa"))]
        features = "\n".join(lines)
    return f"{platform.machine()} {platform.processor()} {features}"


@contextlib.contextmanager
def enabled() -> Iterator[None]:
    """While it lasts, JAX takes programs from `folder`, and what it compiles is kept there.

    Nothing happens where the user has settled it otherwise (JAX_ENABLE_COMPILATION_CACHE=0 means no
    cache, JAX_COMPILATION_CACHE_DIR another one) or where no folder can be made.
    """
    settings = jax.config.values
    if not settings["jax_enable_compilation_cache"] or settings["jax_compilation_cache_dir"]:
        yield
        return
    kept = folder()
    with contextlib.ExitStack() as stack:
        own = None
        with contextlib.suppress(OSError):
            kept.mkdir(parents=True, exist_ok=True)
            _clear_away(kept.parent)
            private = tempfile.TemporaryDirectory(prefix=_PRIVATE, dir=kept.parent)
            own = Path(stack.enter_context(private))
        if own is None:
            yield
            return
        known = _copy_whole(kept, own)
        with _looked_up_by_jax(own):
            yield
        _keep(own, known, kept)


def _clear_away(parent: Path) -> None:
    """Removes the folders of processes that have died."""
    for left in parent.glob(f"{_PRIVATE}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _LEFT_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _looked_up_by_jax(own: Path) -> Iterator[None]:
    ours = {
        "jax_compilation_cache_dir": str(own),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        # XLA's own caches lie beside the programs, and so their path would be a part of the key.
        "jax_persistent_cache_enable_xla_caches": "none",
    }
    before = {name: jax.config.values[name] for name in ours}
    _configure(ours)
    try:
        yield
    finally:
        _configure(before)


def _configure(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    reset_cache()  # JAX would stay with the folder of its first compilation.


def _copy_whole(kept: Path, own: Path) -> set[str]:
    """Copies the programs that match their digests, and returns their names."""
    known = set()
    for path in kept.glob(_PROGRAMS):
        if program := files.read_checksummed(path):
            with contextlib.suppress(OSError):  # It costs only the cache.
                unfinished = own / "unfinished"  # JAX must not see half of it on a full disk.
                unfinished.write_bytes(program)
                unfinished.replace(own / path.name)
                known.add(path.name)
    return known


def _keep(own: Path, known: set[str], kept: Path) -> None:
    """Adds the programs that are not known yet, each whole or not at all; the oldest make room."""
    for path in own.glob(_PROGRAMS):
        if path.name not in known:
            with contextlib.suppress(OSError):  # It costs only the cache.
                files.write_checksummed(kept / path.name, path.read_bytes())
    dated = []
    for path in kept.glob("*"):  # With what a process left unfinished.
        with contextlib.suppress(OSError):
            dated.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(dated, reverse=True)[MAX_PROGRAMS:]:
        with contextlib.suppress(OSError):
            path.unlink()

"""The compilation cache: compiled programs on disk, so that a later start does not compile them.

The cache is JAX's own, which keys a program by its text, its options and the versions. JAX does not
key by the processor's features: hence a folder for each processor. JAX compiles a program whose
entry it cannot read, but never replaces the entry: hence damaged ones are removed at the start.
"""

import contextlib
import hashlib
import platform
import warnings
import zlib
from importlib.util import find_spec
from pathlib import Path

import jax

from cnn_jax.io.folders import cache_folder

MAX_PROGRAMS = 200  # About 6 MB. A run adds eight.


def folder() -> Path | None:
    """Returns the cache folder of this processor; None where the user has no cache folder."""
    features = ""
    with contextlib.suppress(OSError):  # Only Linux lists them.
        core = Path("/proc/cpuinfo").read_text("utf-8", "replace").partition("\n\n")[0]
        lines = [s for s in core.splitlines() if s.startswith(("model", "flags", "Feat", "isa"))]
        features = "\n".join(lines)
    processor = f"{platform.machine()} {platform.processor()} {features}"
    digest = hashlib.sha256(processor.encode()).hexdigest()[:16]
    cache = cache_folder()
    return cache and cache / "programs" / digest


def enable() -> None:
    """Lets JAX read programs from `folder`, and add what it compiles: from now on, once.

    Does nothing where the user has configured JAX otherwise (JAX_ENABLE_COMPILATION_CACHE=0: no
    cache; JAX_COMPILATION_CACHE_DIR: another one), where no folder can be created, and where JAX
    would compress with zstandard, whose streams have no checksum: it would run damaged code.
    """
    settings, path = jax.config.values, folder()
    if not settings["jax_enable_compilation_cache"] or settings["jax_compilation_cache_dir"]:
        return
    if path is None:
        return
    if find_spec("zstandard") or find_spec("compression"):  # The latter comes with Python 3.14.
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        _remove_damaged_and_oldest(path)
    except OSError:
        return
    # A program that cannot be read or written costs only its compilation.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # XLA's own caches lie beside the programs, and their path would be part of the key.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


def _remove_damaged_and_oldest(path: Path) -> None:
    """Removes entries that do not unpack to what their checksums say, and all but the newest."""
    dated = []
    for entry in path.iterdir():
        with contextlib.suppress(OSError):  # Another process may have removed it.
            try:
                zlib.decompress(entry.read_bytes())
                dated.append((entry.stat().st_mtime_ns, entry))
            except zlib.error:
                entry.unlink()
    for _, entry in sorted(dated)[:-MAX_PROGRAMS]:
        with contextlib.suppress(OSError):
            entry.unlink()

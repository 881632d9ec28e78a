"""Tests the parts of libraries that are used beyond their documentation: an upgrade may break them.

Each test names the module that depends on the assumption.
"""

import errno
import importlib.util
import inspect
import json
import re
import zlib
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from absl import flags

from cnn_jax.engine.jax_options import compiler_options


def test_jax_has_a_client_of_its_coordination_service() -> None:
    # `distributed`: Orbax takes the client from the same private module.
    from jax._src import distributed
    from jax._src.lib import _jax  # type: ignore[attr-defined]

    assert distributed.global_state.client is None
    client = _jax.DistributedRuntimeClient
    for method in (
        *("key_value_set", "key_value_delete", "blocking_key_value_get"),
        "get_live_nodes",
    ):
        assert callable(getattr(client, method))


@pytest.mark.parametrize(
    "option",
    [
        "jax_enable_recoverability",  # `distributed.watchdog`
        "jax_enable_preemption_service",  # `distributed.join`
        "jax_check_proxy_envs",  # `distributed.join`
        "jax_traceback_in_locations_limit",  # `export.formats`
        "jax_compilation_cache_dir",  # `engine.compilation_cache`, like the next ones
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_enable_xla_caches",
    ],
)
def test_jax_has_the_option(option: str) -> None:
    assert option in jax.config.values


def test_xla_accepts_the_compiler_options() -> None:
    # `engine.compile`: XLA raises an exception for an unknown option.
    jax.jit(lambda x: x + 1, compiler_options=compiler_options(deterministic=True))(1)


@pytest.mark.skipif(
    bool(importlib.util.find_spec("zstandard") or importlib.util.find_spec("compression")),
    reason="JAX packs programs with zstandard where it can",
)
def test_jax_packs_cached_programs_with_a_checksum() -> None:
    # `engine.compilation_cache` removes what does not unpack.
    from jax._src import compilation_cache

    packed = compilation_cache.compress_executable(b"program")
    assert zlib.decompress(packed) == b"program"


def test_orbax_keeps_items_in_folders_named_after_them(tmp_path: Path) -> None:
    # `checkpoint.restore` lists the steps and reads the items without Orbax's manager.
    handlers = {"state": ocp.PyTreeCheckpointHandler(), "metadata": ocp.JsonCheckpointHandler()}
    with ocp.CheckpointManager(tmp_path, item_handlers=handlers) as manager:
        arguments = ocp.args.Composite(
            state=ocp.args.PyTreeSave({"a": np.ones(2)}), metadata=ocp.args.JsonSave({"b": 3})
        )
        manager.save(7, args=arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["7"]
    assert json.loads((tmp_path / "7" / "metadata" / "metadata").read_text()) == {"b": 3}
    restored = ocp.PyTreeCheckpointHandler().restore(tmp_path / "7" / "state")
    np.testing.assert_array_equal(restored["a"], np.ones(2))


def test_tensorstore_tells_the_error_number_of_a_failed_read(tmp_path: Path) -> None:
    # `checkpoint.errors` distinguishes a file that is missing from one that cannot be read now.
    import tensorstore

    name = "x" * 300  # Longer than a file name may be.
    store = tensorstore.KvStore.open(f"file://{tmp_path}/").result()
    with pytest.raises(ValueError, match=rf"os_error_code='{errno.ENAMETOOLONG}'"):
        store.read(name).result()


def test_grain_frees_shared_memory_in_a_thread_and_reads_a_flag() -> None:
    # `data.prefetch` waits for the thread, and sets the flag where absl has parsed none.
    import grain.multiprocessing

    assert hasattr(grain.multiprocessing.SharedMemoryArray, "_del_thread_pool")
    assert "grain_enable_multiprocess_worker_profiling" in flags.FLAGS


def test_tfds_builders_have_the_parts_that_a_subclass_replaces() -> None:
    # `data.mnist` unpacks and encodes without TensorFlow.
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import download_manager

    assert issubclass(download_manager.NonMatchingChecksumError, Exception)
    for name in ("MNIST", "FashionMNIST", "KMNIST"):
        builder = getattr(tfds.image_classification, name)
        assert re.match("https?://", builder.URL)
        assert list(inspect.signature(builder._split_generators).parameters) == [
            "self",
            "dl_manager",
        ]

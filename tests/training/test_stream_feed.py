"""The stream feed follows its plan, and trains to the same bits as the feed in memory."""

import multiprocessing
import pickle
import signal
import sys
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil
import pytest

from cnn_jax import data
from cnn_jax.config import schema
from cnn_jax.engine import sharding
from cnn_jax.engine.compile import ChunkSizes
from cnn_jax.errors import Stopped, UserError
from cnn_jax.reporting.result import Result
from cnn_jax.training import device_feed, stream_feed
from cnn_jax.training.stream_feed import Chunk, StreamFeed
from tests.support.small import AUGMENT, run, small_config

STREAM = {"dataset.feed": "stream"}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of one batch, 16 images of 784 bytes or, in an evaluation, 200; read by a thread."""
    monkeypatch.setattr(stream_feed, "_CHUNK_BYTES", 16 * 784)
    monkeypatch.setattr(stream_feed, "_num_workers", lambda *_: 0)


def test_plan_has_the_chunks_that_the_trainer_requests() -> None:
    # 70 examples make five batches of 16, with a row of metrics every two, in chunks of at most
    # three batches; the training set is evaluated in chunks of 2 * 20. After step 7 batches 2 .. 4
    # of the second epoch remain. The 30 test examples come after the training examples.
    config = small_config()
    info = schema.check(config)
    second = [Chunk(2, 2, 4), Chunk(2, 4, 5), Chunk(0, 0, 40), Chunk(0, 40, 70)]
    test = [Chunk(0, 70, 100)]
    assert stream_feed.plan_chunks(config, info, 7, ChunkSizes(3, 2), 20) == second + test
    first = [Chunk(1, 0, 2), Chunk(1, 2, 4), Chunk(1, 4, 5), Chunk(0, 0, 40), Chunk(0, 40, 70)]
    full_run = [*first, Chunk(2, 0, 2), *second, *test]
    assert stream_feed.plan_chunks(config, info, 0, ChunkSizes(3, 2), 20) == full_run
    # After the last step of an epoch its evaluation comes first.
    assert stream_feed.plan_chunks(config, info, 5, ChunkSizes(3, 2), 20) == [
        *first[3:],
        *full_run[5:],
    ]
    assert stream_feed.plan_chunks(config, info, 10, ChunkSizes(3, 2), 20) == second[2:] + test


def test_indices_of_each_chunk_follow_the_permutation_and_end_with_padding(tmp_path: Path) -> None:
    # Two models, 7 examples in batches of 3, chunks of two batches: 3 + 3, and 1 with padding.
    permutations = np.array([[6, 5, 4, 3, 2, 1, 0], [0, 2, 4, 6, 1, 3, 5]], np.int32)
    stream_feed.permutation_path(tmp_path, 4).write_bytes(permutations.tobytes())
    full_array = (slice(None),) * 3
    indices = stream_feed._ChunkIndices(
        [Chunk(4, 0, 2), Chunk(4, 2, 3), Chunk(0, 5, 9)],
        ChunkSizes(2, 2),
        stream_feed._ShardLayout(np.arange(3), 3, [full_array]),
        stream_feed._ShardLayout(np.arange(3), 3, [full_array[:2]]),
        tmp_path,
        num_models=2,
    )
    indices = pickle.loads(pickle.dumps(indices))  # It is sent to other processes.
    assert len(indices) == 3
    two_batches = [[[6, 5, 4], [3, 2, 1]], [[0, 2, 4], [6, 1, 3]]]
    assert indices[0].tolist()[0] == two_batches
    assert indices[1].tolist()[0] == [[[0, -1, -1], [-1] * 3], [[5, -1, -1], [-1] * 3]]
    assert indices[2].tolist() == [[[5, 6, 7], [8, -1, -1]]]


def test_stream_feed_trains_to_the_same_bits_as_device_feed(
    straight_run: tuple[Path, Result],
) -> None:
    # As in production, with worker processes that read.
    result = run(None, **STREAM)
    assert result.params_sha256 == straight_run[1].params_sha256
    assert result.test_loss == straight_run[1].test_loss
    assert result.train_accuracy == straight_run[1].train_accuracy


@pytest.mark.usefixtures("small_chunks")
def test_streamed_run_resumes_exactly_from_any_step(
    straight_run: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stopped after steps 3, 5 and 7 of 10: within the first epoch, at its end, within the second.
    train = StreamFeed.train
    for step in (3, 5, 7):
        epoch, first = (step - 1) // 5 + 1, (step - 1) % 5

        def train_and_stop(self: Any, *arguments: Any, last: Any = (epoch, first)) -> Any:
            if arguments[2:4] == last:
                signal.raise_signal(signal.SIGTERM)
            return train(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(StreamFeed, "train", train_and_stop)
            with pytest.raises(Stopped, match=f"after step {step} of 10"):
                run(tmp_path, **STREAM)
    # A run that was started as a stream may end with its examples in memory.
    result = run(tmp_path)
    assert result.params_sha256 == straight_run[1].params_sha256


@pytest.mark.usefixtures("small_chunks")
def test_several_models_are_streamed_to_the_same_bits() -> None:
    changes = {"num_models": 2, "num_epochs": 1, **AUGMENT}
    assert run(None, **changes, **STREAM).params_sha256 == run(None, **changes).params_sha256


def test_error_closes_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    close = StreamFeed.close

    def record(self: StreamFeed) -> None:
        close(self)
        closed.append(self)

    monkeypatch.setattr(StreamFeed, "close", record)
    monkeypatch.setattr(stream_feed, "_num_workers", lambda *_: 0)
    with pytest.raises(UserError, match="loss is nan between step 0 and step"):
        run(None, learning_rate=1e30, **STREAM)
    assert len(closed) == 1


@pytest.mark.durability
def test_stream_that_fails_to_start_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr(StreamFeed, "_next", fail)
    with pytest.raises(UserError, match="the disk is full"):
        run(None, **STREAM)
    assert multiprocessing.active_children() == []


# --- choice of the feed


def make_info(size: int, count: int) -> data.Info:
    """Returns a data set of `count` RGB images for training, and as many for testing."""
    part = (data.Part("train", 0, count),)
    return data.Info((size, size, 3), ("a", "b"), part, part)


def set_free_memory(monkeypatch: pytest.MonkeyPatch, num_bytes: int) -> None:
    memory = types.SimpleNamespace(available=num_bytes)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


def test_workers_are_as_many_as_the_shared_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    # 1000 images of 10 bytes with their labels of 4; each worker has at most 2 * 2 + 3 such chunks
    # in shared memory: 98,000 bytes. The smaller chunks of an evaluation need no more.
    chunk = (jax.ShapeDtypeStruct((1000, 10), np.uint8), jax.ShapeDtypeStruct((1000,), np.int32))
    smaller = (jax.ShapeDtypeStruct((9, 10), np.uint8), jax.ShapeDtypeStruct((9,), np.int32))
    monkeypatch.setattr(stream_feed, "num_cores", lambda: 4)
    # Half of the free memory is left to others.
    for free, num_workers in ((0, 0), (195_999, 0), (196_000, 1), (600_000, 3), (10**9, 4)):
        monkeypatch.setattr(stream_feed, "free_shared_memory", lambda free=free: free)
        assert stream_feed._num_workers(chunk, smaller) == num_workers


@pytest.mark.parametrize("feed", ["auto", "stream"])
def test_streaming_without_array_record_is_refused(
    feed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "array_record", None)
    monkeypatch.setattr(device_feed, "fits_in_memory", lambda _: False)
    changes = {"dataset.name": "mnist", "dataset.feed": feed}
    splits = {"dataset.train_split": "train", "dataset.test_split": "test"}
    with pytest.raises(UserError, match=r"^dataset\.feed=stream is not available here"):
        run(None, **changes, **splits)


def test_examples_may_use_half_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    # 2 * 1000 images of 10 * 10 * 3 bytes and 4 for the label: 608,000 bytes, in three copies on
    # a CPU; half of three times 1,216,000 is just enough.
    set_free_memory(monkeypatch, 3 * 1_216_000)
    assert device_feed.fits_in_memory(make_info(10, 1000))
    set_free_memory(monkeypatch, 3 * 1_216_000 - 6)
    assert not device_feed.fits_in_memory(make_info(10, 1000))
    with pytest.raises(
        UserError, match=r"dataset\.feed=device needs 6\.0e\+05 bytes .* Use dataset\.feed=stream"
    ):
        device_feed.check_fits(make_info(10, 1000))


def test_memory_of_an_accelerator_is_its_limit_minus_its_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Device:
        def memory_stats(self) -> dict[str, int]:
            return {"bytes_limit": 2_000_000, "bytes_in_use": 784_000}

    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    assert device_feed.fits_in_memory(make_info(10, 1000))
    assert not device_feed.fits_in_memory(make_info(10, 1001))


def test_run_streams_by_default_if_memory_is_too_small(
    straight_run: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free_memory(monkeypatch, 1000)
    monkeypatch.setattr(stream_feed, "_num_workers", lambda *_: 0)
    streamed = []
    init = StreamFeed.__init__

    def record(self: StreamFeed, *arguments: Any) -> None:
        init(self, *arguments)
        streamed.append(self)

    monkeypatch.setattr(StreamFeed, "__init__", record)
    assert run(None).params_sha256 == straight_run[1].params_sha256
    assert len(streamed) == 1


def test_load_sharded_returns_all_examples() -> None:
    # A single process reads all of them; `test_cluster_training.py` tests several.
    config = small_config()
    source = data.open_source(**config.dataset)
    image, label = device_feed.load_sharded(source, sharding.make_mesh(1))
    expected = data.load(**config.dataset)
    np.testing.assert_array_equal(
        image, np.concatenate([expected.train.image, expected.test.image])
    )
    np.testing.assert_array_equal(
        label, np.concatenate([expected.train.label, expected.test.label])
    )

"""The feed that reads as needed: planned rightly, and with the bits of the one in memory."""

import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from cnn_jax import data
from cnn_jax.config import schema
from cnn_jax.engine import sharding
from cnn_jax.engine.compile import ChunkSizes
from cnn_jax.errors import Stopped, UserError
from cnn_jax.io.signals import StopRequest
from cnn_jax.reporting.result import Result
from cnn_jax.training import device_feed, stream_feed
from cnn_jax.training.stream_feed import Chunk, StreamFeed
from tests.support.small import run, small_config

STREAM = {"dataset.feed": "stream"}


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of one batch of 16 images of 784 bytes, or of 200, read by a thread."""
    monkeypatch.setattr(stream_feed, "_CHUNK_BYTES", 16 * 784)
    monkeypatch.setattr(stream_feed, "_num_workers", lambda: 0)


def test_the_plan_is_what_the_trainer_asks_for() -> None:
    # 70 examples in batches of 16: five, with a row of metrics every two, in pieces of up to three
    # batches; the training set is scored in pieces of 2 * 20. From step 7 on: batches 2 .. 4 of
    # the second epoch. The 30 test examples stand behind the training examples.
    config = small_config()
    info = schema.check(config)
    second = [Chunk(2, 2, 4), Chunk(2, 4, 5), Chunk(0, 0, 40), Chunk(0, 40, 70)]
    test = [Chunk(0, 70, 100)]
    assert stream_feed.plan_chunks(config, info, 7, ChunkSizes(3, 2), 20) == second + test
    first = [Chunk(1, 0, 2), Chunk(1, 2, 4), Chunk(1, 4, 5), Chunk(0, 0, 40), Chunk(0, 40, 70)]
    whole = [*first, Chunk(2, 0, 2), *second, *test]
    assert stream_feed.plan_chunks(config, info, 0, ChunkSizes(3, 2), 20) == whole
    # An epoch that is trained and not scored yet is scored.
    assert stream_feed.plan_chunks(config, info, 5, ChunkSizes(3, 2), 20) == [
        *first[3:],
        *whole[5:],
    ]
    assert stream_feed.plan_chunks(config, info, 10, ChunkSizes(3, 2), 20) == second[2:] + test


def test_every_piece_has_its_examples(tmp_path: Path) -> None:
    # Two networks, 7 examples in batches of 3, pieces of two batches: 3 + 3, and 1 with filler.
    orders = np.array([[6, 5, 4, 3, 2, 1, 0], [0, 2, 4, 6, 1, 3, 5]], np.int32)
    stream_feed.permutation_path(tmp_path, 4).write_bytes(orders.tobytes())
    everything = (slice(None),) * 3
    wanted = stream_feed._ChunkIndices(
        [Chunk(4, 0, 2), Chunk(4, 2, 3), Chunk(0, 5, 9)],
        ChunkSizes(2, 2),
        stream_feed._ShardLayout(np.arange(3), 3, [everything]),
        stream_feed._ShardLayout(np.arange(3), 3, [everything[:2]]),
        tmp_path,
        num_networks=2,
    )
    wanted = pickle.loads(pickle.dumps(wanted))  # It goes to other processes.
    assert len(wanted) == 3
    both = [[[6, 5, 4], [3, 2, 1]], [[0, 2, 4], [6, 1, 3]]]
    assert wanted[0].tolist()[0] == both
    assert wanted[1].tolist()[0] == [[[0, -1, -1], [-1] * 3], [[5, -1, -1], [-1] * 3]]
    assert wanted[2].tolist() == [[[5, 6, 7], [8, -1, -1]]]


def test_a_stream_gives_the_bits_of_what_is_in_memory(straight: tuple[Path, Result]) -> None:
    # As somebody would run it, with a process that reads.
    result = run(None, **STREAM)
    assert result.params_sha256 == straight[1].params_sha256
    assert result.test_loss == straight[1].test_loss
    assert result.train_accuracy == straight[1].train_accuracy


@pytest.mark.usefixtures("few_at_once")
@pytest.mark.durability
def test_a_streamed_run_goes_on_exactly_from_any_step(
    straight: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stopped after steps 3, 5 and 7 of 10: within an epoch, at its end, and within the other one.
    given = StreamFeed.train
    for step in (3, 5, 7):
        steps_before, first = (step - 1) // 5 + 1, (step - 1) % 5

        def stopping(self: Any, *arguments: Any, at: Any = (steps_before, first)) -> Any:
            if arguments[2:4] == at:
                monkeypatch.setattr(StopRequest, "number", 15)
            return given(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(StreamFeed, "train", stopping)
            with pytest.raises(Stopped, match=f"after step {step} of 10"):
                run(tmp_path, **STREAM)
        monkeypatch.setattr(StopRequest, "number", None)
    # What it began as a stream it may end from memory, and the other way round.
    result = run(tmp_path)
    assert result.params_sha256 == straight[1].params_sha256


@pytest.mark.usefixtures("few_at_once")
def test_networks_at_once_are_streamed_as_well() -> None:
    changes = {"num_models": 2, "num_epochs": 1}
    assert run(None, **changes, **STREAM).params_sha256 == run(None, **changes).params_sha256


def test_an_error_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    close = StreamFeed.close

    def noted(self: StreamFeed) -> None:
        close(self)
        closed.append(self)

    monkeypatch.setattr(StreamFeed, "close", noted)
    monkeypatch.setattr(stream_feed, "_num_workers", lambda: 0)
    with pytest.raises(UserError, match="the loss became nan"):
        run(None, learning_rate=1e30, **STREAM)
    assert len(closed) == 1


def test_a_stream_that_cannot_begin_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr(StreamFeed, "_next", full)
    with pytest.raises(UserError, match="the disk is full"):
        run(None, **STREAM)
    assert multiprocessing.active_children() == []


# --- which feed


def info_of(size: int, count: int) -> data.Info:
    part = (data.Part("train", 0, count),)
    return data.Info((size, size, 3), ("a", "b"), part, part)


def test_what_fits_is_half_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    # 2 * 1000 images of 10 * 10 * 3 bytes and 4 for the label: 608,000 bytes, in three copies on
    # a CPU; half of three times 1,216,000 is just enough.
    monkeypatch.setattr(device_feed, "_host_memory", lambda: 3 * 1_216_000)
    assert device_feed.fits_in_memory(info_of(10, 1000))
    monkeypatch.setattr(device_feed, "_host_memory", lambda: 3 * 1_216_000 - 6)
    assert not device_feed.fits_in_memory(info_of(10, 1000))
    with pytest.raises(UserError, match=r"dataset\.feed=device needs 6\.0e\+05 bytes"):
        device_feed.check_fits(info_of(10, 1000))


def test_an_accelerators_own_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Device:
        def memory_stats(self) -> dict[str, int]:
            return {"bytes_limit": 2_000_000, "bytes_in_use": 784_000}

    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    assert device_feed.fits_in_memory(info_of(10, 1000))
    assert not device_feed.fits_in_memory(info_of(10, 1001))


def test_without_room_a_run_streams_by_itself(
    straight: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_feed, "_host_memory", lambda: 1000)
    monkeypatch.setattr(stream_feed, "_num_workers", lambda: 0)
    streamed = []
    begin = StreamFeed.__init__

    def noted(self: StreamFeed, *arguments: Any) -> None:
        begin(self, *arguments)
        streamed.append(self)

    monkeypatch.setattr(StreamFeed, "__init__", noted)
    assert run(None).params_sha256 == straight[1].params_sha256
    assert len(streamed) == 1


def test_the_share_of_a_process_is_joined_to_the_whole() -> None:
    # One process has all of it; `test_cluster.py` has several.
    config = small_config()
    source = data.open_source(**config.dataset)
    image, label = device_feed.load_sharded(source, sharding.make_mesh(1))
    whole = data.load(**config.dataset)
    np.testing.assert_array_equal(image, np.concatenate([whole.train.image, whole.test.image]))
    np.testing.assert_array_equal(label, np.concatenate([whole.train.label, whole.test.label]))

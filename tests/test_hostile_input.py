"""Whatever others wrote is read, or refused in words: no traceback, no hang, no flood of memory."""

import contextlib
import gzip
import hashlib
import io
import json
import shutil
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from absl import flags
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict, config_flags

from cnn_jax import config as config_module
from cnn_jax import experiment, sealed
from cnn_jax.checkpoint import Checkpoints
from cnn_jax.data import Split, cache
from cnn_jax.data.idx import read_idx
from cnn_jax.errors import UserError
from tests.small import small_config

pytestmark = pytest.mark.durability

# The same examples in every run. Fixtures are folders that each example writes over.
hostile = settings(
    max_examples=300,
    derandomize=True,
    deadline=2000,  # Milliseconds: what takes longer hangs.
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

SHAPE = (2, 3, 4)
IDX = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]) + bytes(range(24))

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -1, 2**63])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def spoilt(whole: bytes) -> st.SearchStrategy[bytes]:
    """A file with some of its bytes changed, cut off, left out or followed by others."""
    places = st.integers(0, len(whole))

    def change(
        places_and_bytes: list[tuple[int, int]], start: int, stop: int, more: bytes
    ) -> bytes:
        content = bytearray(whole)
        for place, value in places_and_bytes:
            content[place % len(content)] = value
        del content[min(start, stop) : max(start, stop)]
        return bytes(content) + more

    few = st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)
    return st.one_of(
        st.builds(change, few, places, st.just(len(whole)), st.just(b"")),
        st.builds(change, few, places, places, st.binary(max_size=4)),
        st.builds(change, few, st.just(0), st.just(0), st.binary(max_size=40)),
        st.binary(max_size=100),
    )


def peak_of(work: Callable[[], Any]) -> int:
    """The most bytes that were in use at once, beyond those before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def read_or_refuse(path: Path) -> None:
    try:
        shape = read_idx(path, SHAPE).shape
    except UserError:
        shape = SHAPE
    assert shape == SHAPE


@hostile
@given(content=spoilt(IDX))
def test_idx_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert peak_of(lambda: read_or_refuse(tmp_path / "file")) < 200_000


@hostile
@given(content=spoilt(gzip.compress(IDX, mtime=0)) | spoilt(IDX).map(gzip.compress))
def test_gzip_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.gz").write_bytes(content)
    assert peak_of(lambda: read_or_refuse(tmp_path / "file.gz")) < 400_000


@pytest.mark.parametrize("header", [IDX, IDX[:3], b""])
def test_a_bomb_takes_no_memory(tmp_path: Path, header: bytes) -> None:
    # 100 kB that unpack to 100 MB.
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(header + bytes(10**8)))
    assert (tmp_path / "bomb.gz").stat().st_size < 120_000
    assert peak_of(lambda: read_or_refuse(tmp_path / "bomb.gz")) < 400_000


def parse(*arguments: str) -> ConfigDict:
    """What `main.py` does with the config's flags, with flags of its own."""
    argv = ["main.py", "--config=configs/mnist.py", *arguments]
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", flag_values=values)
    with mock.patch.object(sys, "argv", argv):
        config_module.check_overrides(argv)
        try:
            values(argv)
        except Exception as error:
            raise config_module.explain_flag_error(error) from error
    config_module.check(config.value)
    return config.value


# ml_collections loads config files in an old way.
old_way = pytest.mark.filterwarnings("ignore:the load_module.. method:DeprecationWarning")


@old_way
@hostile
@given(
    key=st.sampled_from([*config_module.FIELDS, "dataset", "model", "", "model.", "seed.seed"]),
    value=st.text(max_size=20)
    | JSON.map(str)
    | st.sampled_from(
        ["1e999", "nan", "-inf", "9" * 5000, "(" * 300, "/", "~x", "1,2,3", "()", "0x10", "1e-400"]
    ),
)
def test_config_overrides(key: str, value: str) -> None:
    with contextlib.suppress(UserError):
        parse(f"--config.{key}={value}")


@old_way
def test_config_overrides_that_are_fine_pass() -> None:
    # Or the test above could not tell a parser that refuses everything.
    config = parse("--config.model.features=4,8", "--config.learning_rate=1e-3", "--config.seed=7")
    assert (config.model.features, config.learning_rate, config.seed) == ((4, 8), 1e-3, 7)


SPLIT = Split(
    np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4, 1), np.arange(2, dtype=np.int32)
)


@hostile
@given(content=st.data())
def test_cache_files(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "file"
    cache.save(path, "v1", SPLIT)
    path.write_bytes(content.draw(spoilt(path.read_bytes())))
    found = cache.load(path, "v1")
    assert found is None or np.array_equal(found.image, SPLIT.image)


@hostile
@given(
    header=st.fixed_dictionaries(
        {"format": st.just(1), "fingerprint": st.just("v1")},
        optional={"image_shape": JSON | st.lists(st.integers(-3, 2**70), max_size=5)},
    ).map(lambda header: json.dumps(header).encode() + b"\n")
    | JSON.map(lambda value: json.dumps(value).encode() + b"\n")
    | st.sampled_from(
        [b"", b"{", b"[" * 2000 + b"\n", b'{"format": 1e999}\n', b"9" * 5000 + b"\n"]
    ),
    body=st.binary(max_size=100),
)
def test_cache_files_with_a_right_digest(tmp_path: Path, header: bytes, body: bytes) -> None:
    # Written by somebody who knows the digest: it is no signature.
    sealed.write(tmp_path / "file", [header, body])

    def load() -> None:
        found = cache.load(tmp_path / "file", "v1")
        if found is not None:
            assert len(found.image) == len(found.label)
            assert found.image.nbytes + 4 * len(found.label) == len(body)

    assert peak_of(load) < 200_000


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("finished")
    experiment.run(small_config(num_epochs=1), str(workdir), out=io.StringIO())
    return workdir


def go_on(workdir: Path) -> None:
    experiment.run(small_config(num_epochs=1), str(workdir), out=io.StringIO(), err=io.StringIO())


def evaluate(workdir: Path) -> None:
    experiment.evaluate(str(workdir), out=io.StringIO(), err=io.StringIO())


def test_a_checkpoint_can_be_forged(finished: Path, tmp_path: Path) -> None:
    # Or the tests below would try nothing but damaged ones.
    workdir = Path(shutil.copytree(finished, tmp_path / "w"))
    forge(workdir, lambda record: record["progress"].update(eval_seconds=7))
    evaluate(workdir)


def forge(workdir: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the record of the newest checkpoint, and makes its digest right."""
    with Checkpoints(workdir, read_only=True) as checkpoints:
        checkpoint = checkpoints.newest(lambda _: None)
    assert checkpoint is not None
    path = workdir / "checkpoints" / str(checkpoint.step) / "record" / "metadata"
    record = json.loads(path.read_text())
    del record["sha256"]
    change(record)
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name in sorted(checkpoint.arrays):
        digest.update(checkpoint.arrays[name].tobytes())
    path.write_text(json.dumps(record | {"sha256": digest.hexdigest()}))


def test_a_split_of_thousands_of_parts_is_refused() -> None:
    with pytest.raises(UserError, match="is not a split"):
        config_module.check(small_config(**{"dataset.train_split": "+".join(["train"] * 20_000)}))


# Each example restores from a disk, twice.
@settings(hostile, max_examples=25)
@given(content=st.data())
def test_checkpoints_records(finished: Path, tmp_path: Path, content: Any) -> None:
    workdir = Path(shutil.copytree(finished, tmp_path / "w", dirs_exist_ok=True))
    path = workdir / "checkpoints" / "5" / "record" / "metadata"
    whole = path.read_bytes()
    path.write_bytes(
        content.draw(spoilt(whole) | JSON.map(lambda value: json.dumps(value).encode()))
    )
    for use in (go_on, evaluate):
        with pytest.raises(UserError, match="no checkpoint that is whole"):
            use(workdir)


PLACES = [
    "config",
    "progress",
    "format",
    "arrays",
    *(
        "config.model",
        "config.dataset",
        "config.model.features",
        "config.seed",
        "config.num_epochs",
    ),
    *("progress.metrics_size", "progress.epoch_seconds", "progress.total_seconds"),
]


@settings(hostile, max_examples=40)
@given(place=st.sampled_from(PLACES), value=JSON)
def test_checkpoints_records_with_a_right_digest(
    finished: Path, tmp_path: Path, place: str, value: Any
) -> None:
    workdir = Path(shutil.copytree(finished, tmp_path / "w", dirs_exist_ok=True))
    (workdir / "result.json").unlink()
    *groups, key = place.split(".")

    def change(record: dict[str, Any]) -> None:
        for group in groups:
            record = record[group]
        record[key] = value

    forge(workdir, change)
    with contextlib.suppress(UserError):
        evaluate(workdir)
    if place.startswith("progress.") and is_progress(key, value):
        go_on(workdir)
    else:
        with pytest.raises(UserError):
            go_on(workdir)


def is_progress(key: str, value: Any) -> bool:
    """Whether a value may stand in a record: seconds or bytes, of which there are not too many."""
    if key == "epoch_seconds":
        return isinstance(value, list) and all(is_progress("seconds", v) for v in value)
    kinds = (int,) if key == "metrics_size" else (int, float)
    return type(value) in kinds and 0 <= value < 2**53


@settings(hostile, max_examples=15)
@given(content=st.binary(max_size=50) | JSON.map(lambda value: json.dumps(value).encode()))
def test_results(finished: Path, tmp_path: Path, content: bytes) -> None:
    workdir = Path(shutil.copytree(finished, tmp_path / "w", dirs_exist_ok=True))
    (workdir / "result.json").write_bytes(content)
    go_on(workdir)
    assert json.loads((workdir / "result.json").read_text())["steps"] == 5


def test_nothing_that_is_read_is_a_pickle(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a pickle can run code")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(f"pickle.{name}", refuse)
    for use in (go_on, evaluate):
        use(finished)
    sources = [path.read_text() for path in Path(experiment.__file__).parent.rglob("*.py")]
    assert not any("pickle" in text or "np.load(" in text or "eval(" in text for text in sources)

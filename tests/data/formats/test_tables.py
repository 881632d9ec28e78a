"""Tests of Parquet and Arrow files of pictures."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnn_jax import data
from cnn_jax.data import Examples
from tests.data.formats.making import check, check_one_line, error_of, examples, load
from tests.support.hostile import damaged_bytes, hostile

TRAIN, TEST = examples(20, shape=(6, 5, 3)), examples(9, shape=(6, 5, 3))


def png(image: Any) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(image).save(file, "PNG")
        return file.getvalue()


def table_of(shown: Examples, *, names: Any = None, **columns: Any) -> pa.Table:
    """Returns a table as Hugging Face has it, some columns changed."""
    contents = [png(image) for image in shown.image]
    pictures = [{"bytes": content, "path": None} for content in contents]
    table = pa.table({"image": pictures, "label": shown.label} | columns)
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return table.replace_schema_metadata(metadata) if names else table


def write(path: Path, table: pa.Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path, row_group_size=7)
    return path


def both(path: Path) -> Examples:
    """Loads all examples of a file in their order."""
    return load(path, test_path=str(path)).train


def test_a_folder_of_hugging_face(tmp_path: Path) -> None:
    names = ["cat", "dog, big", "鳥"]
    first, second = (Examples(TRAIN.image[r], TRAIN.label[r]) for r in (slice(8), slice(8, 20)))
    write(tmp_path / "data/train-00000-of-00002.parquet", table_of(first, names=names))
    write(tmp_path / "data/train-00001-of-00002.parquet", table_of(second, names=names))
    write(tmp_path / "data/test-00000-of-00001.parquet", table_of(TEST, names=names))
    loaded = load(tmp_path)
    check(loaded.train, TRAIN)
    check(loaded.test, TEST)
    info = data.describe("files", path=str(tmp_path))
    assert (info.class_names, info.source) == (
        tuple(names),
        "Parquet of pictures: 20 train, 9 test",
    )


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_arrow_files(tmp_path: Path, kind: str) -> None:
    path, table = tmp_path / "a.arrow", table_of(TRAIN)
    make = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with make(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=6)
    check(both(path), TRAIN)


def test_binary_pictures_and_labels_of_other_types(tmp_path: Path) -> None:
    contents = pa.array([png(image) for image in TRAIN.image], pa.large_binary())
    strings = pa.array([("b", "a", "c")[label] for label in TRAIN.label]).dictionary_encode()
    path = write(tmp_path / "a.parquet", table_of(TRAIN, image=contents, label=strings))
    check(both(path), Examples(TRAIN.image, np.array([1, 0, 2], np.int32)[TRAIN.label]))


def test_a_source_reads_at_random(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.parquet", table_of(TRAIN)))
    source = data.open_source("files", path=path, test_path=path)
    rows = np.array([19, 3, 3])
    check(source.read(rows), Examples(TRAIN.image[rows], TRAIN.label[rows]))


LABELS = TRAIN.label.tolist()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"label": [*LABELS[:19], None]}, ", row 19 (it has no label): it must have one."),
        ({"label": [*LABELS[:19], 1.5]}, ", row 19 (its label is '1.5')"),
        ({"label": [*LABELS[:19], 4]}, ", row 19 (its label is 4): it must be from 0 to 2, as the"),
        ({"label": [*LABELS[:19], -1]}, ", row 19 (its label is -1): it must be from 0 to 2"),
        ({"label": [[1]] * 20}, "column label (its type is list<"),
        ({"image": [None] * 19 + [b""]}, ", row 0 (it has no picture): it must have one."),
        ({"image": [b"no picture"] * 20}, ", row 0 (it has no format that Pillow decodes"),
        ({"image": [[1, 2]] * 20}, "column of pictures (its type is list<"),
    ],
)
def test_invalid_columns_are_refused(tmp_path: Path, columns: Any, words: str) -> None:
    path = write(tmp_path / "a.parquet", table_of(TRAIN, names=["a", "b", "c"], **columns))
    message = error_of(path)
    assert words in message
    assert str(path) in message


def test_the_row_in_its_own_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet", table_of(TRAIN))
    small = Examples(TEST.image[:, :4], TEST.label)
    path = write(tmp_path / "2.parquet", table_of(small))
    assert f"cannot use {path}, row " in error_of(tmp_path)
    path = write(tmp_path / "2.parquet", table_of(TEST).rename_columns(["image", "name"]))
    words = f"{path}, columns image, name (none is of labels): it must have a column of labels:"
    assert words in error_of(tmp_path)


@hostile
@given(content=st.data())
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, content: st.DataObject) -> None:
    path = write(tmp_path / "a.parquet", table_of(TRAIN))
    path.write_bytes(content.draw(damaged_bytes(path.read_bytes())))
    check_one_line(path)

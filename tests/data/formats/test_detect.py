"""Tests that files of no known format are refused."""

from pathlib import Path

import pytest
from PIL import Image

from cnn_jax.data.formats.detect import find_folder
from tests.data.formats.making import error_of, load


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.doc"
    path.write_bytes(b"notes")
    assert "(its format is not known): it must be one of those in docs/data.md" in error_of(path)


def write_classes(folder: Path) -> None:
    for name in "ab":
        (folder / name).mkdir(parents=True)
        Image.new("L", (4, 4)).save(folder / name / "1.png")


def test_unpacked_folder_of_a_competition(tmp_path: Path) -> None:
    header = ",".join(["label", *map(str, range(16))])
    rows = [f"{label}," + ",".join(["7"] * 16) for label in (0, 1)]
    (tmp_path / "train.csv").write_text("\n".join([header, *rows, *rows]))
    (tmp_path / "test.csv").write_text(header.removeprefix("label,") + "\n" + ",".join("8" * 16))
    (tmp_path / "sample_submission.csv").write_text("ImageId,Label\n1,0\n")
    for needs_labels, name in ((True, "train.csv"), (False, "test.csv")):
        found = find_folder(tmp_path, needs_labels)
        assert found
        assert found.files == [tmp_path / name]


def test_table_beside_folders_of_classes_is_not_the_data_set(tmp_path: Path) -> None:
    write_classes(tmp_path)
    (tmp_path / "metadata.csv").write_text("name,licence\na,CC0\n")
    found = find_folder(tmp_path)
    assert found
    assert found.format == "folders of pictures"


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("training", "Testing")])
def test_names_of_the_folders_of_parts(train: str, test: str, tmp_path: Path) -> None:
    write_classes(tmp_path / train)
    write_classes(tmp_path / test)
    loaded = load(tmp_path)
    assert (len(loaded.train.label), len(loaded.test.label)) == (2, 2)

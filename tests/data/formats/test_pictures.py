"""Tests of picture files, in folders for the classes or named in a CSV file."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnn_jax import data
from cnn_jax.data import Examples
from cnn_jax.data.formats import pictures
from tests.data.formats.making import check, error_of, examples, load

NAMES = ("a cat, big", "イヌ", "bird")
ALL = examples(30, shape=(6, 5, 3))


def write_folders(folder: Path, shown: Examples = ALL, suffix: str = "png") -> Path:
    """Writes each picture into the folder of its class; returns the folder."""
    for row, (image, label) in enumerate(zip(shown.image, shown.label, strict=True)):
        path = folder / NAMES[label] / f"{row:02}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze()).save(path)
    return folder


def by_path(shown: Examples) -> Examples:
    """Returns examples in the order of their paths: `a cat, big`, `bird`, `イヌ`."""
    order = np.argsort(np.array([0, 2, 1])[shown.label], kind="stable")
    return Examples(shown.image[order], np.array([0, 2, 1], np.int32)[shown.label[order]])


def test_train_and_test_folders(tmp_path: Path) -> None:
    write_folders(tmp_path / "train")
    write_folders(tmp_path / "test", Examples(ALL.image[::-1], ALL.label[::-1]))
    (tmp_path / "train" / NAMES[0] / ".hidden.png").write_bytes(b"")
    (tmp_path / "train" / NAMES[0] / "notes.txt").write_text("no picture")
    loaded = load(tmp_path)
    check(loaded.train, by_path(ALL))
    assert data.describe("files", path=str(tmp_path)).class_names == ("a cat, big", "bird", "イヌ")


def test_folders_alone_have_a_tenth_for_the_test(tmp_path: Path) -> None:
    loaded = load(write_folders(tmp_path / "my pictures, 2"), train_split="train+test")
    images = map(bytes, loaded.train.image)
    assert sorted(images) == sorted(map(bytes, ALL.image))
    assert 0 < len(loaded.test.label) < 10


def test_train_may_be_a_class(tmp_path: Path) -> None:
    for name in ("train", "car"):
        (tmp_path / name).mkdir()
        for row in range(5):
            Image.fromarray(ALL.image[row]).save(tmp_path / name / f"{row}.bmp")
    assert data.describe("files", path=str(tmp_path)).class_names == ("car", "train")


def test_other_processes_decode_many_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_CHUNK_SIZE", 7)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    loaded = load(write_folders(tmp_path), test_path=str(tmp_path))
    check(loaded.train, by_path(ALL))


def test_a_source_decodes_at_random(tmp_path: Path) -> None:
    path = str(write_folders(tmp_path))
    source = data.open_source("files", path=path, test_path=path)
    rows = np.array([29, 3, 3])
    expected = by_path(ALL)
    check(source.read(rows), Examples(expected.image[rows], expected.label[rows]))


def decoded(tmp_path: Path, picture: Image.Image, suffix: str = "png", **options: Any) -> Any:
    """Returns the image, uint8 [H, W, C], of a picture in two classes of a data set."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir(exist_ok=True)
        for row in range(2):
            picture.save(tmp_path / name / f"{row}.{suffix}", **options)
    return load(tmp_path).train.image[0]


def test_grey_pictures_of_all_kinds(tmp_path: Path) -> None:
    grey = examples(1).image[0]
    np.testing.assert_array_equal(decoded(tmp_path, Image.fromarray(grey[..., 0])), grey)
    # 16 bits, of which the range in use becomes 0..255.
    deep = Image.fromarray(np.array([[1000, 1100], [1200, 1510]], np.uint16))
    np.testing.assert_array_equal(decoded(tmp_path, deep)[..., 0], [[0, 50], [100, 255]])
    # Half transparent grey 100, light or dark on black or white: 127.5 is the middle.
    clear = Image.fromarray(np.full((2, 2, 2), (100, 0), np.uint8))
    assert (decoded(tmp_path, clear) == 255).all()


def test_colours_of_all_kinds(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert decoded(tmp_path, palette).tolist() == [[[10, 20, 30]] * 2] * 2
    exif = Image.Exif()
    exif[0x0112] = 6  # The camera was turned: the first row is the right side.
    wide = Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8))
    turned = decoded(tmp_path, wide, exif=exif)
    assert turned.tolist() == [[[255, 0, 0]], [[0, 0, 255]]]


def test_squares_of_one_colour_stay_large(tmp_path: Path) -> None:
    squares = np.kron(examples(1).image[0, ..., 0], np.ones((3, 3), np.uint8))
    np.testing.assert_array_equal(decoded(tmp_path, Image.fromarray(squares))[..., 0], squares)


def test_channels_and_size(tmp_path: Path) -> None:
    write_folders(tmp_path)
    Image.new("L", (50, 60), 200).save(tmp_path / NAMES[0] / "00.png")
    message = error_of(tmp_path, test_path=str(tmp_path))
    assert (
        "03.png (it is 6x5 and has colours): it must be as the first picture, which is" in message
    )
    image = load(tmp_path, test_path=str(tmp_path), channels=3, image_size=(4, 8)).train.image
    assert image.shape == (30, 4, 8, 3)
    assert (image[0] == 200).all()


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (Image.new("L", (5, 6)), "(it is 6x5 and grey): it must be as the first picture, which is"),
        (Image.new("RGB", (6, 5)), "(it is 5x6 and has colours): it must be as the first picture"),
        (b"", "(it is empty): it must be a picture."),
        (b"text", "(it has no format that Pillow decodes: save it as JPEG or PNG): it must be"),
    ],
)
def test_pictures_of_another_kind_are_named(tmp_path: Path, picture: Any, words: str) -> None:
    path = write_folders(tmp_path) / NAMES[1] / "28.png"
    if isinstance(picture, bytes):
        path.write_bytes(picture)
    else:
        picture.save(path)
    message = error_of(tmp_path, test_path=str(tmp_path))
    assert f"cannot use {path} {words}" in message


def test_a_truncated_picture_is_named(tmp_path: Path) -> None:
    path = write_folders(tmp_path, suffix="jpg") / NAMES[2] / "29.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    assert f"cannot use {path} (it is truncated)" in error_of(tmp_path, test_path=str(tmp_path))


def test_invalid_folders_are_refused(tmp_path: Path) -> None:
    write_folders(tmp_path / "one", Examples(ALL.image, ALL.label * 0))
    assert "all examples are of the class a cat, big" in error_of(tmp_path / "one")
    (write_folders(tmp_path / "two") / "none").mkdir()
    assert f"cannot use {tmp_path}/two/none (it has no pictures)" in error_of(tmp_path / "two")
    write_folders(tmp_path / "three" / "train", Examples(ALL.image[::3], ALL.label[::3]))
    write_folders(tmp_path / "three" / "train", Examples(ALL.image[1::3], ALL.label[1::3]))
    write_folders(tmp_path / "three" / "test")
    words = f"test/{NAMES[2]}/02.png (its class is 'bird'): it must be one of the classes"
    assert words in error_of(tmp_path / "three")
    (tmp_path / "four").mkdir()
    assert "four (its format is not known)" in error_of(tmp_path / "four")


# --- CSV files of names


def write_names(folder: Path, lines: list[str], name: str = "labels.csv") -> Path:
    (folder / "x, y").mkdir(parents=True, exist_ok=True)
    for row, image in enumerate(ALL.image):
        Image.fromarray(image).save(folder / "x, y" / f"{row} 数.png")
    (folder / name).write_text("\n".join(lines) + "\n", "utf-8")
    return folder / name


def lines_of(labels: Any, *, last: bool = True) -> list[str]:
    files = [f'"x, y/{row} 数.png"' for row in range(30)]
    pairs = zip(files, labels, strict=True)
    return [f"{file},{label}" if last else f"{label},{file}" for file, label in pairs]


@pytest.mark.parametrize("header", ["", "filename,label", "image_path,class", "what,ever"])
def test_the_rows_are_in_the_order_of_the_file(tmp_path: Path, header: str) -> None:
    path = write_names(tmp_path, [header] * bool(header) + lines_of(ALL.label))
    check(load(path, test_path=str(path)).train, ALL)


def test_names_of_classes_and_other_columns(tmp_path: Path) -> None:
    labels = [NAMES[label] for label in ALL.label]
    quoted = [f'1,2,"{label}",4,5' for label in labels]
    path = write_names(tmp_path, ["Path,width,height,Label,x,y", *lines_of(quoted)])
    info = data.describe("files", path=str(tmp_path))
    assert info.class_names == ("a cat, big", "bird", "イヌ")
    check(load(path, test_path=str(path)).train, Examples(ALL.image, by_name(ALL.label)))


def by_name(label: Any) -> Any:
    """Returns the indices of `NAMES` as those of the sorted names."""
    return np.array([0, 2, 1], np.int32)[label]


@pytest.mark.parametrize(
    ("number", "line", "words"),
    [
        (3, "none.png,1", ", line 3 (there is no file 'none.png'): it must be in the folder of"),
        (3, "1", ", line 3 (it has 1 column): it must have 2, as line 1."),
        (3, "", ", line 3 (it has nothing)"),
        (3, '"x, y/2 数.png",', ", line 3 (its label is empty): it must have one."),
        (3, '"x, y/2 数.png",1.5', ", line 3 (its label is '1.5'): it must be a whole number."),
        (3, '"x, y/2 数.png",nan', ", line 3 (its label is 'nan'): it must be a whole number."),
    ],
)
def test_invalid_lines_are_named(tmp_path: Path, number: int, line: str, words: str) -> None:
    lines = ["file,label", *lines_of(ALL.label)]
    lines[number - 1] = line
    path = write_names(tmp_path, lines)
    message = error_of(path)
    assert words in message
    assert str(path) in message


def test_columns_that_name_no_files_are_refused(tmp_path: Path) -> None:
    path = write_names(tmp_path, ["a,b", "c,1"])
    words = "(its first line is 'a,b'): it must have the columns file and label, beside the"
    assert words in error_of(path)


def test_absolute_names_beside_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line.replace('"x, y', f'"{tmp_path}/x, y') for line in lines_of(ALL.label)]
    write_names(tmp_path, lines)
    monkeypatch.chdir(tmp_path)
    check(load(Path("labels.csv"), test_path="labels.csv").train, ALL)

"""Tests of CSV files of labels and pixels."""

import gzip
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_jax.data import Examples
from tests.data.formats.making import check, check_one_line, error_of, examples, load
from tests.support.hostile import damaged_bytes, hostile

ALL = examples(20)
ALL.image[:, [0, -1], [0, -1]] = 0  # Corners, as those of most images.
HEADER = ",".join(["label", *(f"pixel{index}" for index in range(16))])


def rows(shown: Examples = ALL, *, last: bool = False) -> list[str]:
    """Returns a line for each example, with the label first or last."""
    pixels = shown.image.reshape(len(shown.image), -1)
    parts = (pixels, shown.label[:, None]) if last else (shown.label[:, None], pixels)
    return [",".join(map(str, row)) for row in np.concatenate(parts, axis=1).tolist()]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def read_all(path: Path) -> Examples:
    """Reads all examples; the sizes of both parts show that none is lost."""
    return load(path, test_path=str(path)).train


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("header", [False, True])
def test_labels_are_first_or_last(tmp_path: Path, last: bool, header: bool) -> None:
    names = HEADER.split(",")
    lines = [",".join(names[1:] + names[:1]) if last else HEADER] if header else []
    check(read_all(write(tmp_path / "a.csv", lines + rows(last=last))), ALL)


def test_quotes_and_empty_lines_at_the_end(tmp_path: Path) -> None:
    lines = [",".join(f'"{cell}"' for cell in line.split(",")) for line in [HEADER, *rows()]]
    check(read_all(write(tmp_path / "a.csv", [*lines, "", ""])), ALL)


def test_colours_follow_each_other_in_a_pixel(tmp_path: Path) -> None:
    coloured = examples(20, shape=(5, 5, 3))
    check(read_all(write(tmp_path / "a.csv", rows(coloured))), coloured)


def test_packed_files(tmp_path: Path) -> None:
    text = "\n".join([HEADER, *rows()]).encode()
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text))
    check(read_all(tmp_path / "a.csv.gz"), ALL)
    with zipfile.ZipFile(tmp_path / "数字 , all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("digits/train.csv", text)
        archive.writestr("digits/test.csv", "pixel0\n1")
    check(read_all(tmp_path / "数字 , all.zip"), ALL)


def test_a_tenth_is_the_test_part_and_stays_it_when_rows_are_added(tmp_path: Path) -> None:
    many = examples(1000)
    before = load(write(tmp_path / "a.csv", rows(many))).test.image
    assert 70 <= len(before) <= 130  # 100, plus or minus three times the root of 1000 * .1 * .9.
    more = load(write(tmp_path / "b.csv", rows(many) + rows(ALL))).test.image
    np.testing.assert_array_equal(more[: len(before)], before)


def changed(number: int, line: str) -> list[str]:
    """Returns the lines of the file with one of them, from 1, replaced."""
    lines = [HEADER, *rows()]
    lines[number - 1] = line
    return lines


PIXELS = ",0" * 16


@pytest.mark.parametrize(
    ("number", "line", "words"),
    [
        (4, "1,2", ", line 4 (it has 2 columns): it must have 17 columns, as line 1."),
        (4, "1" + PIXELS + ",0", ", line 4 (it has 18 columns)"),
        (5, "", ", line 5 (it has nothing)"),
        (5, "nan" + PIXELS, ", line 5 (its label is 'nan'): it must be a whole number."),
        (5, "1.5" + PIXELS, ", line 5 (its label is '1.5')"),
        (5, "1e300" + PIXELS, ", line 5 (its label is '1e+300')"),
        (5, "-1" + PIXELS, ", line 5 (its label is -1)"),
        (5, "7" + PIXELS, "(the class 3 has no training examples)"),
        (6, "1" + PIXELS[2:] + ",256", ", line 6 (it has the pixel 256)"),
        (6, "1,0,nan" + PIXELS[4:], ", line 6 (it has the pixel nan): it must have whole numbers"),
        (6, "1,0,-3" + PIXELS[4:], ", line 6 (it has the pixel -3)"),
        (6, "1,0,0.5" + PIXELS[4:], ", line 6 (it has the pixel 0.5)"),
        (6, "1,0," + PIXELS[4:], ", line 6 (column 3 has '')"),
        (6, "1,0,x" + PIXELS[4:], ", line 6 (column 3 has 'x'): it must have whole numbers alone."),
        (1, "pixel0,label" + ",p" * 15, "(its header names column 2): it must have one column"),
        (1, HEADER + ",more", "(its first line has 18 columns): it must have a label and"),
    ],
)
def test_invalid_lines_are_named(tmp_path: Path, number: int, line: str, words: str) -> None:
    path = write(tmp_path / "my rows.csv", changed(number, line))
    message = error_of(path)
    assert words in message
    assert str(path) in message


def test_lines_are_counted_over_all_chunks(tmp_path: Path) -> None:
    lines = [HEADER, *rows(examples(2500)), "1,2"]
    assert ", line 2502 (it has 2 columns)" in error_of(write(tmp_path / "a.csv", lines))


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    assert "(it has no rows)" in error_of(write(tmp_path / "a.csv", [HEADER]))
    (tmp_path / "b.csv").write_bytes(b"")
    assert "(it is empty)" in error_of(tmp_path / "b.csv")


def test_archives_with_other_contents_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    text = "\n".join(rows())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../a.csv", text)
    assert "(it unpacks '../a.csv', which is outside of its folder)" in error_of(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", text)
        archive.writestr("b.csv", text)
    assert "(it holds a.csv, b.csv): it must hold one CSV file" in error_of(path)


@pytest.mark.parametrize("offset", [22, 24])
def test_an_archive_that_declares_another_size_is_refused(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", "\n".join(rows()))
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\1\2")
    # The size that it unpacks to: a hundred bytes, of the 600 that there are; or four gigabytes.
    size = 100 if offset == 22 else 2**32 - 2
    content[directory + 24 : directory + 28] = size.to_bytes(4, "little")
    path.write_bytes(content)
    words = "Bad CRC-32" if offset == 22 else "it declares 4,294,967,294 bytes in"
    assert words in error_of(path)


def test_truncated_gzip_files_and_other_encodings_are_refused(tmp_path: Path) -> None:
    packed = gzip.compress("\n".join(rows()).encode())
    (tmp_path / "a.csv.gz").write_bytes(packed[:-20])
    assert "it is damaged" in error_of(tmp_path / "a.csv.gz")
    (tmp_path / "b.csv").write_bytes("label,b\n1,2".encode("utf-16"))
    assert "it must be a whole CSV file" in error_of(tmp_path / "b.csv")


@hostile
@given(content=st.data())
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, content: st.DataObject) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(content.draw(damaged_bytes(gzip.compress("\n".join(rows()).encode()))))
    check_one_line(path)


def test_text_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 5,000 lines of 35 characters, where memory for 100,000 bytes is free.
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress("\n".join(["1" + PIXELS] * 5000).encode()))
    memory = type("Memory", (), {"available": 100_000})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    message = error_of(path)
    assert f"cannot use {path} (it needs " in message
    assert "it must fit in the free memory, 100,000 bytes." in message
    path.write_bytes(gzip.compress(b"0," * 2**24))
    assert "(line 1 has 16,777,216 characters or more)" in error_of(path)

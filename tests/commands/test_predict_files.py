"""`--mode=predict` on files of images, which are not searched for ink, and its file of answers."""

import csv
import gzip
import io
import itertools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from cnn_jax import data
from cnn_jax.commands.predict import Options, predict
from cnn_jax.errors import UserError
from cnn_jax.evaluation.loading import load
from cnn_jax.io.console import Console
from cnn_jax.reporting.result import Result
from tests.support.small import run

COUNT = 12


@pytest.fixture(scope="module")
def shown() -> data.Examples:
    """Returns some test images, and their labels."""
    test = data.load("digits").test
    return data.Examples(test.image[:COUNT], test.label[:COUNT])


@pytest.fixture(scope="module")
def expected(straight_run: tuple[Path, Result], shown: data.Examples) -> list[str]:
    """Returns the class that the model says each image, as it is, has."""
    probabilities = load(straight_run[0]).probabilities(shown.image)
    return [str(k) for k in probabilities.argmax(axis=1)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answers(workdir: Path, images: str, **options: str) -> tuple[list[list[str]], list[str]]:
    """Returns the rows of the file of answers, and what was printed."""
    out = io.StringIO()
    chosen = Options(output="answers.csv", **options)  # type: ignore[arg-type]
    predict(str(workdir), [images], options=chosen, console=Console(out, io.StringIO()))
    with Path("answers.csv").open(newline="") as file:
        return list(csv.reader(file)), out.getvalue().splitlines()


def write_csv(path: Path, shown: data.Examples, columns: tuple[str, ...] = ()) -> None:
    """Writes lines of pixels, after columns such as `label`."""
    pixels = shown.image.reshape(len(shown.image), -1).tolist()
    values = {"label": shown.label.tolist(), "id": range(7, 7 + len(pixels))}
    header = [*columns, *(f"pixel{index}" for index in range(784))]
    first = zip(*(values[name] for name in columns), strict=True) if columns else [()] * COUNT
    rows = [[*start, *row] for start, row in zip(first, pixels, strict=True)]
    path.write_text("\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n")


def png(image_u8: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image_u8[..., 0]).save(content, "PNG")
    return content.getvalue()


def write_table(path: Path, shown: data.Examples) -> None:
    column = [{"bytes": png(image), "path": None} for image in shown.image]
    pa.parquet.write_table(pa.table({"image": column}), path)


def write_idx(path: Path, shown: data.Examples) -> None:
    content = struct.pack(">4B3I", 0, 0, 8, 3, COUNT, 28, 28) + shown.image.tobytes()
    path.write_bytes(gzip.compress(content))


def write_zip(path: Path, shown: data.Examples) -> None:
    write_csv(Path("inner.csv"), shown)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write("inner.csv", "test.csv")
        archive.writestr("train.csv", "label,pixel0\n")
        archive.writestr("sample_submission.csv", "ImageId,Label\n1,0\n")


UNLABELLED: dict[str, Callable[[Path, data.Examples], None]] = {
    "test.csv": write_csv,
    "competition.zip": write_zip,
    "test.npz": lambda path, shown: np.savez(path, x_test=shown.image[..., 0]),
    "any name.npy": lambda path, shown: np.save(path, shown.image),
    "test.parquet": write_table,
    "images-idx3-ubyte.gz": write_idx,
}


@pytest.mark.parametrize("name", UNLABELLED)
def test_images_of_a_file_reach_the_model_as_they_are(
    name: str,
    folder: Path,
    straight_run: tuple[Path, Result],
    shown: data.Examples,
    expected: list[str],
) -> None:
    UNLABELLED[name](folder / name, shown)
    rows, lines = answers(straight_run[0], name)
    assert rows == [["id", "label"], *([str(k), label] for k, label in enumerate(expected))]
    assert lines[0].startswith("Data: ")
    assert lines[0].endswith(f": {COUNT} images; prepare: plain")
    assert lines[1:] == [f"Answers: answers.csv, {COUNT} rows"]  # No accuracy without labels.


def test_kaggle_counts_from_1(
    folder: Path, straight_run: tuple[Path, Result], shown: data.Examples, expected: list[str]
) -> None:
    write_csv(folder / "test.csv", shown)
    rows, _ = answers(straight_run[0], "test.csv", output_format="kaggle")
    assert rows == [["ImageId", "Label"], *([str(k), v] for k, v in enumerate(expected, 1))]


def test_column_of_ids_names_the_rows(
    folder: Path, straight_run: tuple[Path, Result], shown: data.Examples, expected: list[str]
) -> None:
    write_csv(folder / "test.csv", shown, ("id",))
    rows, _ = answers(straight_run[0], "test.csv")
    assert rows[1:] == [[str(k), label] for k, label in enumerate(expected, 7)]


def test_labels_of_a_file_give_the_accuracy(
    folder: Path, straight_run: tuple[Path, Result], shown: data.Examples, expected: list[str]
) -> None:
    write_csv(folder / "labelled.csv", shown, ("label",))
    _, lines = answers(straight_run[0], "labelled.csv")
    right = sum(label == str(truth) for label, truth in zip(expected, shown.label, strict=True))
    assert lines[-1].startswith("Accuracy: ")
    assert f"({right} of {COUNT} pictures)" in lines[-1]


def test_printed_lines_name_the_row(
    folder: Path, straight_run: tuple[Path, Result], shown: data.Examples, expected: list[str]
) -> None:
    write_csv(folder / "test.csv", shown)
    out = io.StringIO()
    predict(str(straight_run[0]), ["test.csv"], console=Console(out, io.StringIO()))
    _, *lines = out.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == [f"test.csv row {k}" for k in range(COUNT)]
    labels = [line.split()[3] for line in lines]
    assert labels == expected


def test_folder_of_the_training_sets_own_form(
    folder: Path, straight_run: tuple[Path, Result], shown: data.Examples, expected: list[str]
) -> None:
    # Without labels of their own the 12 images of the second file are those of no other file.
    (folder / "set").mkdir()
    write_idx(folder / "set" / "t10k-images-idx3-ubyte.gz", shown)
    rows, _ = answers(straight_run[0], "set")
    assert [label for _, label in rows[1:]] == expected


def test_pictures_are_taken_as_they_are_where_the_flag_or_the_training_set_says_so(
    folder: Path, shown: data.Examples, straight_run: tuple[Path, Result]
) -> None:
    for split, label in itertools.product(("train", "test"), range(2)):
        (folder / "set" / split / str(label)).mkdir(parents=True)
    for index, image in enumerate(shown.image):
        split, label = ("train", "test")[index >= 8], index % 2
        (folder / "set" / split / str(label) / f"{index}.png").write_bytes(png(image))
    run(
        folder / "w",
        **{
            "dataset.name": "files",
            "dataset.path": str(folder / "set"),
            "dataset.train_split": "train",
            "dataset.test_split": "test",
            "batch_size": 4,
        },
    )
    expected = load(folder / "w").probabilities(shown.image[8:]).argmax(axis=1)
    rows, lines = answers(folder / "w", "set/test")
    order = [8, 10, 9, 11]  # By class, then by name as text: 10 before 8.
    names = sorted((str(index % 2), f"{index}.png") for index in order)
    assert rows[1:] == [[name, str(expected[int(name[:-4]) - 8])] for _, name in names]
    assert lines[0] == (
        "Prepare: plain, since all pictures are 28x28, as those of the training set (auto)"
    )
    # A larger picture is none of those, so its ink is searched for.
    Image.fromarray(shown.image[0, :, :, 0]).resize((90, 90)).save("set/test/0/large.png")
    _, lines = answers(folder / "w", "set/test")
    assert lines[0].startswith("Prepare: ink, since not all pictures are 28x28, ")
    # A model of another data set takes pictures as they are only where the flag says so. Ink on
    # white is not turned over then.
    dark = 255 - shown.image[:1]
    (folder / "dark.png").write_bytes(png(dark[0]))
    model = load(straight_run[0])
    for prepare, image in (("plain", dark), ("auto", shown.image[:1])):
        rows, _ = answers(straight_run[0], "dark.png", prepare=prepare)
        assert rows[1:] == [["dark.png", str(model.probabilities(image).argmax())]]


def test_pictures_of_one_name_are_told_apart_by_their_folders(
    folder: Path, shown: data.Examples, straight_run: tuple[Path, Result]
) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "x.png").write_bytes(png(shown.image[0]))
    Path("a/torn.png").write_bytes(png(shown.image[0])[:60])
    with pytest.raises(UserError, match=r"^cannot read 1 of 3 pictures \(a/torn\.png "):
        answers(straight_run[0], "[ab]/*.png")
    with Path("answers.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert [Path(name) for name, _ in rows[1:]] == [
        *(Path("a", "torn.png"), Path("a", "x.png")),
        Path("b", "x.png"),
    ]
    assert rows[1][1] == ""  # It could not be read.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prepare": "ink"}, r"^--prepare=ink has no effect with --images=test\.csv: "),
        ({"labels": "l.csv"}, r"^--labels=l\.csv has no effect with --images=test\.csv: "),
        ({"output": "test.csv"}, r"^--output=test\.csv is invalid: it must be a file, none of "),
        ({"output": "."}, r"^--output=\. is invalid: "),
        ({"output": "gone/a.csv"}, r"^--output=gone/a\.csv is invalid: .* in a writable folder"),
    ],
)
def test_flags_that_exclude_each_other_are_refused(
    options: dict[str, str],
    message: str,
    folder: Path,
    straight_run: tuple[Path, Result],
    shown: data.Examples,
) -> None:
    write_csv(folder / "test.csv", shown)
    before = Path("test.csv").read_bytes()
    chosen = Options(**options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        predict(str(straight_run[0]), ["test.csv"], options=chosen)
    assert Path("test.csv").read_bytes() == before


def test_file_of_images_must_be_the_only_one(
    folder: Path, straight_run: tuple[Path, Result], shown: data.Examples
) -> None:
    write_csv(folder / "test.csv", shown)
    (folder / "a.png").write_bytes(png(shown.image[0]))
    message = r"^--images names test\.csv and other files: a file of images must be the only one"
    with pytest.raises(UserError, match=message):
        predict(str(straight_run[0]), ["a.png", "test.csv"])


def test_bad_line_is_named(
    folder: Path, straight_run: tuple[Path, Result], shown: data.Examples
) -> None:
    write_csv(folder / "test.csv", shown)
    lines = Path("test.csv").read_text().splitlines()
    Path("test.csv").write_text("\n".join([*lines[:5], lines[5] + ",1", *lines[6:]]))
    with pytest.raises(UserError, match=r"test\.csv, line 6 \(it has 785 columns\)"):
        predict(str(straight_run[0]), ["test.csv"])
    Path("broken.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(UserError, match=r"broken\.npz \(it is damaged: "):
        predict(str(straight_run[0]), ["broken.npz"])

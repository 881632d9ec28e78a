"""Pictures of known class: where their truth is found, and the accuracy that follows from it."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnn_jax.commands.predict import Options, predict
from cnn_jax.commands.truth import Score, find_truth
from cnn_jax.errors import UserError
from cnn_jax.evaluation import trained
from cnn_jax.io.console import Console
from cnn_jax.preprocessing.image_files import find_pictures
from cnn_jax.reporting.result import Result

DIGITS = [str(digit) for digit in range(10)]
CLOTHES = ["T-shirt", "bag", "coat"]


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def draw(*names: str) -> None:
    """Writes pictures of a dark bar on light paper."""
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        picture = Image.new("L", (60, 60), 255)
        picture.paste(0, (25, 10, 33, 50))
        picture.save(name)


def truth_of(
    *images: str, labels: str | None = None, class_names: Sequence[str] = DIGITS
) -> dict[str, str]:
    pictures = find_pictures(images).pictures
    truth = find_truth(images, labels, pictures, class_names, pytest.fail)
    return {path.as_posix(): label for path, label in truth.items()}


def test_folder_whose_subfolders_are_classes_gives_the_truth() -> None:
    draw("set/7/a.png", "set/7/deep/3.png", "set/0/b.png", "set/loose_5.png")
    Path("set/.hidden").mkdir()
    expected = {"set/7/a.png": "7", "set/7/deep/3.png": "7", "set/0/b.png": "0"}
    assert truth_of("set") == expected
    # Such a folder may lie in the one that is named.
    draw("outer/test/4/c.png")
    assert truth_of("outer") == {"outer/test/4/c.png": "4"}
    # The folder of one class is not such a folder, nor is one with other subfolders, nor a file.
    assert truth_of("set/7") == truth_of("set/7/a.png") == {}
    draw("set/other/d.png")
    assert truth_of("set") == {}


def test_names_of_files_and_of_the_folders_above_give_no_truth() -> None:
    draw("7/scans/3.png", "label_5.png")
    assert truth_of("7", "label_5.png", "7/scans") == {}


def test_classes_of_any_name_give_the_truth() -> None:
    draw("wardrobe/T-shirt/a.png", "wardrobe/bag/7.png")
    truth = truth_of("wardrobe", class_names=CLOTHES)
    assert truth == {"wardrobe/T-shirt/a.png": "T-shirt", "wardrobe/bag/7.png": "bag"}


@pytest.mark.parametrize("header", ["", "file,label\n", "name of the picture,digit\n"])
def test_labels_are_relative_to_their_file(header: str) -> None:
    draw("set/7/a.png", "set/b.png", "c.png")
    # An empty line, spaces, a byte order mark, and a number of several digits.
    rows = f"7/a.png,1\n\nb.png, 42\n{Path('c.png').resolve()},3\nb.png,42\n"
    Path("set/labels.csv").write_text(header + rows, "utf-8-sig")
    truth = truth_of("set", "c.png", labels="set/labels.csv")
    assert truth == {"set/7/a.png": "1", "set/b.png": "42", "c.png": "3"}


def test_labels_of_other_files_are_counted() -> None:
    draw("a.png")
    Path("l.csv").write_text("a.png,1\nb.png,2\nsub/c.png,3\n")
    warnings: list[str] = []
    truth = find_truth(["a.png"], "l.csv", [Path("a.png")], DIGITS, warnings.append)
    assert truth == {Path("a.png"): "1"}
    assert warnings == ["--labels=l.csv also labels 2 files not among the pictures: b.png, c.png"]


@pytest.mark.parametrize(
    ("content", "class_names", "message"),
    [
        (b"a.png,1,x\n", DIGITS, r"--labels=l\.csv has 3 columns in line 1: it must have the two "),
        (b"file,label\na.png;1\n", DIGITS, r"--labels=l\.csv has 1 column in line 2: it must"),
        (b"a.png,x\n", DIGITS, r"has the label 'x' in line 1: it must be .*\(0, 1, .*, 9\)\. Corr"),
        (b"a.png,\n", DIGITS, r"--labels=l\.csv has the label '' in line 1: it must be a class"),
        (b"a.png,4\n", CLOTHES, r"has the label '4' in line 1: .* \(T-shirt, bag, coat\)\. Corr"),
        (b"a.png,bags\n", ["bag"] * 11, r"the label 'bags' .* \((bag, ){10}\.\.\.\)\. Correct"),
        (b"a.png,1\n./a.png,2\n", DIGITS, r"labels \./a\.png 2 in line 2, and 1 before: a file m"),
        (b"file,label\n", DIGITS, r"--labels=l\.csv labels none of the pictures: its first col"),
        (b"", DIGITS, r"--labels=l\.csv labels none of the pictures: its first column must name"),
        (b"b.png,1\n", DIGITS, r"--labels=l\.csv labels none of the pictures: its first column"),
        (b"\xff\xfe\n", DIGITS, r"cannot read --labels=l\.csv \(.*decode.*\): it must be a CSV fi"),
        (b'a.png,"1\n', DIGITS, r"cannot read --labels=l\.csv \(unexpected end of data\): it must"),
        (
            b"a\0.png,1\n",
            DIGITS,
            r"cannot read --labels=l\.csv \(it contains a null byte\): it must",
        ),
        (None, DIGITS, r"cannot read --labels=l\.csv \(No such file or directory\): it must be a"),
    ],
)
def test_invalid_labels_are_refused(
    content: bytes | None, class_names: Sequence[str], message: str
) -> None:
    draw("a.png")
    if content is not None:
        Path("l.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        truth_of("a.png", labels="l.csv", class_names=class_names)


def test_score_counts_what_it_leaves_out() -> None:
    score = Score()
    for truth, prediction in [("1", "1"), ("1", "2"), ("42", "4"), ("2", "2"), ("2", None)]:
        score.add(truth, prediction)
    score.add(None, "3")
    score.add(None, None)
    # Of 4 pictures 2 are right. Wilson, with z = 1.96: the middle is 1/2, the half width
    # z / (1 + z²/n) * sqrt(1/4 / n + z² / (4 n²)) = 1.96 / 1.9604 * sqrt(0.0625 + 0.0600) = 0.35.
    assert score.text() == (
        "Accuracy: 50.00 % (2 of 4 pictures), 95 % confidence interval 15.00 % to 85.00 % "
        "(Wilson); left out: 2 of unknown class, 1 not read"
    )
    # 42 is no class: its row would be missing.
    np.testing.assert_array_equal(
        score.confusion(["0", "1", "2", "4"]),
        [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]],
    )


def test_score_without_a_picture_that_was_read_has_no_accuracy() -> None:
    score = Score()
    score.add("1", None)
    assert score.text() == (
        "Accuracy: unknown, no picture of known class was read; left out: 1 not read"
    )


@pytest.fixture
def always_seven(
    straight_run: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Returns a workdir whose model predicts 7 for every picture."""
    row = np.full(10, 0.01)
    row[7] = 0.91
    monkeypatch.setattr(
        trained.TrainedModel, "probabilities", lambda self, image: np.tile(row, (len(image), 1))
    )
    # Its pictures go into a folder of this test.
    workdir = tmp_path / "workdir"
    workdir.mkdir()
    for path in straight_run[0].iterdir():
        if path.name != "pictures":
            (workdir / path.name).symlink_to(path)
    return str(workdir)


def test_each_line_is_right_or_wrong_and_the_end_gives_the_accuracy(always_seven: str) -> None:
    draw("set/3/a.png", "set/7/b.png", "set/c.png")
    Path("set/notes.txt").touch()
    out, err = io.StringIO(), io.StringIO()
    predict(always_seven, ["set"], options=Options(show=True), console=Console(out, err))
    *lines, sheets, accuracy = out.getvalue().splitlines()
    assert [line.split("dark on light")[1] for line in lines] == ["; wrong: it is 3", "; right", ""]
    assert accuracy.startswith("Accuracy: 50.00 % (1 of 2 pictures), 95 % confidence interval ")
    assert accuracy.endswith("; left out: 1 of unknown class")
    assert sheets.startswith("What the model saw: ")
    names = [path.name for path in sorted(Path(always_seven, "pictures").iterdir())]
    assert names == ["predicted_001.png", "predicted_confusion.png"]
    assert err.getvalue() == (
        "warning: passed over 1 file that is not known as a picture: set/notes.txt\n"
    )
    # A later call without known classes removes the matrix, which is of other pictures.
    predict(
        always_seven, ["set/c.png"], options=Options(show=True), console=Console(io.StringIO(), err)
    )
    (sheet,) = Path(always_seven, "pictures").iterdir()
    assert sheet.name == "predicted_001.png"


def test_json_has_the_truth_and_the_accuracy_on_standard_error(always_seven: str) -> None:
    draw("set/7/a.png", "set/b.png")
    Path("set/labels.csv").write_text("b.png,2\n")
    Path("set/empty.png").touch()
    out, err = io.StringIO(), io.StringIO()
    options = Options(labels="set/labels.csv", as_json=True)
    with pytest.raises(UserError, match=r"^cannot read 1 of 3 pictures"):
        predict(always_seven, ["set"], options=options, console=Console(out, err))
    objects = {content["path"]: content for content in map(json.loads, out.getvalue().splitlines())}
    assert objects["set/b.png"]["truth"] == "2"
    assert "truth" not in objects["set/7/a.png"]  # With labels the folders say nothing.
    # The file of labels is not counted among those passed over.
    (line,) = err.getvalue().splitlines()
    assert line.startswith("Accuracy: 0.00 % (0 of 1 picture), ")
    assert line.endswith("; left out: 2 of unknown class")


def test_pages_have_their_number_and_the_truth_of_their_file(always_seven: str) -> None:
    draw("set/7/a.png", "set/1/b.png")
    with Image.open("set/7/a.png") as picture:
        picture.save("set/7/p.tif", save_all=True, append_images=[picture.rotate(90)])
    out = io.StringIO()
    predict(always_seven, ["set/7/p.tif", "set"], console=Console(out, io.StringIO()))
    starts = [line.split("  ")[0] for line in out.getvalue().splitlines()[:-1]]
    assert starts == ["set/7/p.tif page 1", "set/7/p.tif page 2", "set/1/b.png", "set/7/a.png"]
    assert "Accuracy: 75.00 % (3 of 4 pictures)" in out.getvalue()
    out = io.StringIO()
    predict(
        always_seven, ["set"], options=Options(as_json=True), console=Console(out, io.StringIO())
    )
    objects = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [content.get("page") for content in objects] == [None, None, 1, 2]
    assert [content["truth"] for content in objects] == ["1", "7", "7", "7"]

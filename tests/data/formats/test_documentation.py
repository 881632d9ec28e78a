"""Each command of `docs/data.md` for people's own files runs, and prints what the page says."""

import dataclasses
import gzip
import io
import re
import shlex
import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from absl import logging
from absl.testing import flagsaver
from ml_collections import ConfigDict
from PIL import Image

from cnn_jax import experiment
from cnn_jax.config import flags
from cnn_jax.data import Examples
from tests.data.formats import test_cifar, test_csv_pixels, test_idx_files, test_tables
from tests.data.formats.making import examples
from tests.support.command_line import ROOT

# A training of few steps, whose programs are compiled fast.
SMALL = ("--config.num_epochs=1", "--config.batch_size=50", "--config.model.features=2,")
COUNT = re.compile(r"([\d,]+) (train|test|val)\b")
CLASSES = ("airplane", "bird", "cat")  # Of `making.examples`.

Parts = Mapping[str, Examples]


@dataclasses.dataclass(frozen=True)
class Example:
    """An example of the page.

    Attributes:
      files: what stands above the command.
      command: the arguments of `main.py`.
      line: the line below it.
    """

    files: str
    command: str
    line: str

    @property
    def path(self) -> str:
        """The value of `dataset.path`, or the command where it has none."""
        found = re.search(r"--config\.dataset\.path=(\S+)", self.command)
        return found[1] if found else self.command


def read_examples() -> list[Example]:
    """Returns the examples of the page, in their order."""
    page = (ROOT / "docs" / "data.md").read_text("utf-8")
    section = page.partition("\n## Your own files\n")[2].partition("\n## ")[0]
    shown = []
    for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", section, re.MULTILINE):
        for text, line in re.findall(r"((?:.*\n)*?)    (Data: .*)\n", block):
            files, _, command = text.partition("    python main.py ")
            shown.append(Example(files, command.replace("\\\n", ""), line))
    assert len(shown) == section.count("main.py"), "a command lacks its line of output"
    return shown


# --- The files of the examples, in the working directory


def write_pictures(names: Iterable[str], shown: Examples) -> None:
    for name, image in zip(names, shown.image, strict=True):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze()).save(name)


def write_pets(parts: Parts) -> None:
    rows = range(len(parts["train"].label))
    names = [f"pets/{('cat', 'dog')[row % 2]}/{row // 2 + 1:03}.jpg" for row in rows]
    write_pictures(names, parts["train"])
    Image.new("RGB", (60, 40)).save(names[-1])  # Of another size.


def write_cifar_pictures(parts: Parts) -> None:
    for part, shown in parts.items():
        names = [f"{CLASSES[label]}/{row}.png" for row, label in enumerate(shown.label, 1)]
        write_pictures([f"cifar10/{part}/{name}" for name in names], shown)


def kaggle_lines(shown: Examples) -> list[str]:
    return [test_csv_pixels.HEADER, *test_csv_pixels.rows(shown)]


def write_csv(parts: Parts) -> None:
    test_csv_pixels.write(Path("train.csv"), kaggle_lines(parts["train"]))


def write_zip(parts: Parts) -> None:
    with zipfile.ZipFile("digit-recognizer.zip", "w") as archive:
        archive.writestr("sample_submission.csv", "ImageId,Label\n1,0\n")
        archive.writestr("test.csv", "pixel0\n0\n")
        archive.writestr("train.csv", "\n".join(kaggle_lines(parts["train"])))


def write_gzipped_csv(parts: Parts) -> None:
    for part, shown in parts.items():
        content = "\n".join(kaggle_lines(shown)).encode()
        Path(f"fashion-mnist_{part}.csv.gz").write_bytes(gzip.compress(content))


def write_letters(parts: Parts) -> None:
    names = [f"{number:03}.png" for number in range(1, len(parts["train"].label) + 1)]
    write_pictures([f"letters/{name}" for name in names], parts["train"])
    pairs = zip(names, parts["train"].label, strict=True)
    lines = ["file,label", *(f"{name},{'abc'[label]}" for name, label in pairs)]
    Path("letters/labels.csv").write_text("\n".join(lines), "utf-8")


def write_keras(parts: Parts) -> None:
    train, test = parts["train"], parts["test"]
    np.savez(
        "mnist.npz",
        x_train=train.image[..., 0],
        y_train=train.label,
        x_test=test.image[..., 0],
        y_test=test.label,
    )


def write_medmnist(parts: Parts) -> None:
    arrays: dict[str, Any] = {}
    for part, shown in parts.items():
        arrays |= {f"{part}_images": shown.image, f"{part}_labels": shown.label[:, None]}
    np.savez("pathmnist.npz", **arrays)


def write_npy(parts: Parts) -> None:
    Path("drawings").mkdir()
    np.save("drawings/images.npy", parts["train"].image)
    np.save("drawings/labels.npy", parts["train"].label)


def write_parquet(parts: Parts) -> None:
    for part, shown in parts.items():
        name = f"ylecun-mnist/mnist/{part}-00000-of-00001.parquet"
        test_tables.write(Path(name), table_of(shown))


def write_arrow(parts: Parts) -> None:
    for part, shown in parts.items():
        path = Path(f"saved-mnist/{part}/data-00000-of-00001.arrow")
        path.parent.mkdir(parents=True)
        table = table_of(shown)
        with pa.ipc.new_stream(str(path), table.schema) as writer:
            writer.write_table(table)


def table_of(shown: Examples) -> pa.Table:
    squeezed = Examples(shown.image[..., 0], shown.label)
    return test_tables.table_of(squeezed, names=["0", "1", "2"])


def write_idx(name: str, array: npt.NDArray[np.generic], kind: int = 8) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_bytes(gzip.compress(test_idx_files.encode(array, kind)))


def write_emnist(parts: Parts) -> None:
    for name in ("balanced", "mnist"):  # Two of the sets in that folder.
        for part, shown in parts.items():
            start = f"gzip/emnist-{name}-{part}"
            write_idx(f"{start}-images-idx3-ubyte.gz", shown.image[..., 0])
            write_idx(f"{start}-labels-idx1-ubyte.gz", shown.label.astype(np.uint8))


def write_qmnist(parts: Parts) -> None:
    for part, shown in parts.items():
        write_idx(f"qmnist/qmnist-{part}-images-idx3-ubyte.gz", shown.image[..., 0])
        columns = np.zeros((len(shown.label), 8), ">i4")
        columns[:, 0] = shown.label
        write_idx(f"qmnist/qmnist-{part}-labels-idx2-int.gz", columns, 12)


def write_cifar_10(parts: Parts) -> None:
    folder = Path("cifar-10-batches-bin")
    folder.mkdir()
    content, size = test_cifar.encode(parts["train"]), 3073 * len(parts["train"].label) // 5
    for batch in range(5):
        path = folder / f"data_batch_{batch + 1}.bin"
        path.write_bytes(content[batch * size : (batch + 1) * size])
    (folder / "test_batch.bin").write_bytes(test_cifar.encode(parts["test"]))
    (folder / "batches.meta.txt").write_text("\n".join(CLASSES))


def write_cifar_100(parts: Parts) -> None:
    folder = Path("cifar-100-binary")
    folder.mkdir()
    for part, shown in parts.items():
        (folder / f"{part}.bin").write_bytes(test_cifar.encode(shown, fine=True))
    (folder / "fine_label_names.txt").write_text("\n".join(CLASSES))


GREY, RGB, CIFAR = (4, 4, 1), (4, 4, 3), (32, 32, 3)
# By the value of `dataset.path`: the shape of an image, and the function that writes the files.
MAKERS: dict[str, tuple[tuple[int, int, int], Callable[[Parts], None]]] = {
    "pets": (RGB, write_pets),
    "cifar10": (RGB, write_cifar_pictures),
    "train.csv": (GREY, write_csv),
    "digit-recognizer.zip": (GREY, write_zip),
    "fashion-mnist_train.csv.gz": (GREY, write_gzipped_csv),
    "letters/labels.csv": (GREY, write_letters),
    "mnist.npz": (GREY, write_keras),
    "pathmnist.npz": (RGB, write_medmnist),
    "drawings": (GREY, write_npy),
    "ylecun-mnist": (GREY, write_parquet),
    "saved-mnist": (GREY, write_arrow),
    "gzip/emnist-balanced-train-images-idx3-ubyte.gz": (GREY, write_emnist),
    "qmnist": (GREY, write_qmnist),
    "cifar-10-batches-bin": (CIFAR, write_cifar_10),
    "cifar-100-binary": (CIFAR, write_cifar_100),
}


# --- The tests


def write_files(example: Example) -> str:
    """Writes the files of an example, and returns the line that its command must print.

    Where the test part is chosen by a hash, there are as many examples as the page says, since each
    of them counts. Elsewhere there is one for each thousand.
    """
    divisor = 1 if "a tenth" in example.line else 1000
    counts = {
        part: int(count.replace(",", "")) // divisor for count, part in COUNT.findall(example.line)
    }
    shape, write = MAKERS[example.path]
    shown = examples(sum(counts.values()), shape=shape)
    if divisor == 1:
        write({"train": shown})
        return example.line
    parts, start = {}, 0
    for part, count in counts.items():
        rows = slice(start, start + count)
        parts[part] = Examples(shown.image[rows], shown.label[rows])
        start += count
    write(parts)
    return COUNT.sub(lambda match: f"{counts[match[2]]:,} {match[2]}", example.line)


def parse(*arguments: str) -> ConfigDict:
    """Parses a command line of `main.py` for a training, and returns its config."""
    verbosity = logging.get_verbosity()
    try:
        with flagsaver.flagsaver():
            flags.parse(["main.py", *arguments])
            assert flags.MODE.value == "train"
            return flags.CONFIG.value
    finally:
        logging.set_verbosity(verbosity)


def test_every_example_has_files_and_every_format_an_example() -> None:
    assert [example.path for example in read_examples()] == list(MAKERS)


@pytest.mark.parametrize("example", read_examples(), ids=lambda example: example.path)
def test_the_command_prints_what_the_page_says(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", "configs")
    line = write_files(example)
    for name in re.findall(r"\S+/\S+\.\w+", example.files):
        assert Path(name).is_file(), name
    config = parse(*shlex.split(example.command), *SMALL)
    out, err = io.StringIO(), io.StringIO()
    experiment.run(config, out=out, err=err)
    assert out.getvalue().splitlines()[0] == line
    assert err.getvalue() == ""

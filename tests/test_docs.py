"""The README and `docs/`: their Python runs, their links lead somewhere, and they stay short."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from cnn_jax import data
from tests.support.command_line import ROOT, run_main
from tests.support.small import run

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def python_blocks(page: str) -> list[str]:
    """Returns the blocks of Python in a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def run_python(code: str, folder: Path) -> str:
    """Runs code in a new process with `folder` as its working directory; returns its output."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.real_data
def test_the_training_of_the_readme_runs(tmp_path: Path) -> None:
    training, _ = python_blocks("README.md")
    lines = run_python(training, tmp_path).splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2", "epoch 3"]
    # Guessing reads a tenth of the digits; three epochs read most of them.
    assert float(lines[-1].split()[-2]) > 60


def test_the_reading_of_the_readme_runs(tmp_path: Path) -> None:
    run(tmp_path / "runs" / "mnist", num_epochs=1)
    picture = Image.new("L", (100, 120), 235)
    ImageDraw.Draw(picture).line([(25, 30), (75, 30), (45, 95)], fill=40, width=8)
    picture.save(tmp_path / "seven.jpg")
    _, reading = python_blocks("README.md")
    assert re.fullmatch(r"\d \d+\.\d %\n", run_python(reading, tmp_path))


@pytest.mark.real_data
@pytest.mark.parametrize(("example", "last"), [(0, "loss"), (1, "accuracy")])
def test_the_examples_of_a_layer_and_a_data_set_run(
    example: int, last: str, tmp_path: Path
) -> None:
    code = python_blocks("docs/extending.md")[example]
    assert last in run_python(code, tmp_path).splitlines()[-1]


def test_the_example_of_a_builder_prepares_a_data_set(tmp_path: Path) -> None:
    # TFDS refuses a class that is not defined in a file.
    path = tmp_path / "small_digits.py"
    path.write_text(python_blocks("docs/extending.md")[2])
    subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, check=True)
    dataset = data.load("small_digits", data_dir=str(tmp_path / "my_data"))
    assert dataset.train.image.shape == (1437, 8, 8, 1)
    assert len(dataset.test.label) == 360


def test_the_example_of_a_config_runs(tmp_path: Path) -> None:
    config = tmp_path / "my_config.py"
    config.write_text(python_blocks("docs/extending.md")[3])
    done = run_main(f"--config={config}", "--mode=describe")
    # Kernels of 5x5: 5 * 5 * 1 * 16 + 16 parameters.
    assert re.search(r"^conv_1 .* 416 ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings]
            assert anchor in slugs, link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_and_the_readme_are_short(page: Path) -> None:
    lines = page.read_text().splitlines()
    assert page.name != "README.md" or len(lines) <= 150
    tables = [line.replace("|", " ").split() for line in lines if line.startswith("|")]
    assert [words for words in tables if len(words) > 25] == []

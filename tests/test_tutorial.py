"""The tutorial runs from top to bottom, and is stored with its outputs."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import ROOT

nbformat = pytest.importorskip("nbformat", reason="install '.[tutorial]'")
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


def read_notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def count_pictures(notebook: Any) -> int:
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


# Its cells assert what the text says of their results. It takes half a minute.
@pytest.mark.tutorial
def test_tutorial_runs_and_its_assertions_hold(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    notebook, stored = read_notebook(), read_notebook()
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=200, resources=resources).execute()
    assert count_pictures(notebook) == count_pictures(stored) >= 10


def test_every_cell_of_the_tutorial_is_stored_as_it_was_executed() -> None:
    notebook = read_notebook()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert NOTEBOOK.stat().st_size < 700_000
    text = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for part in range(1, 11):
        assert f"## {part}. " in text
        assert f"**Exercise {part}.**" in text
    assert text.count("<summary>Answer</summary>") == 10


CELLS = (
    """
import asyncio, cnn_jax
from configs import digits
config = digits.get_config()
config.num_epochs = 1
config.dataset.train_split = "train[:64]"
result = cnn_jax.run(config, WORKDIR)
""",
    "result",
    # In another thread, and in a coroutine: an event loop runs in every notebook.
    "(await asyncio.to_thread(cnn_jax.run, config)).params_sha256 == result.params_sha256",
    """
async def train():
    return cnn_jax.run(config)
(await train()).params_sha256 == result.params_sha256
""",
)


# It starts a kernel.
@pytest.mark.tutorial
def test_notebook_shows_a_bar_and_a_table(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipywidgets")
    sources = [cell.replace("WORKDIR", repr(str(tmp_path / "w"))) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    nbclient.NotebookClient(
        notebook, timeout=200, resources={"metadata": {"path": str(ROOT)}}
    ).execute()
    trained, shown, *same = [cell.outputs for cell in notebook.cells]
    streams = [output.name for output in trained if output.output_type == "stream"]
    assert set(streams) == {"stdout"}
    (bar,) = [output.data for output in trained if output.output_type == "display_data"]
    assert "application/vnd.jupyter.widget-view+json" in bar
    assert shown[0].data["text/html"].startswith("<table><tr><th>Test accuracy</th>")
    assert [outputs[-1].data["text/plain"] for outputs in same] == ["True", "True"]

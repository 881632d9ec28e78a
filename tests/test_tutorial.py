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

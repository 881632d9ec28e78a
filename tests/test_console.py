import io

import pytest

from cnn_jax.console import Console


def test_lines_and_warnings_go_to_streams_of_their_own() -> None:
    out, err = io.StringIO(), io.StringIO()
    console = Console(out, err)
    console.line("97 %")
    console.warn("look")
    assert (out.getvalue(), err.getvalue()) == ("97 %\n", "warning: look\n")


def test_a_closed_standard_output_takes_lines_to_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    Console().line("97 %")

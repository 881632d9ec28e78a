import io

import pytest

from cnn_jax.io.console import Console, printable


def test_lines_and_warnings_go_to_streams_of_their_own() -> None:
    out, err = io.StringIO(), io.StringIO()
    console = Console(out, err)
    console.line("97 %")
    console.warn("look")
    assert (out.getvalue(), err.getvalue()) == ("97 %\n", "warning: look\n")


def test_what_a_stream_cannot_show_is_escaped() -> None:
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    Console(out, io.StringIO()).line("ümlaut \udcff")
    assert out.buffer.getvalue() == b"\\xfcmlaut \\udcff\n"


def test_printable_text_is_on_one_line_and_commands_no_terminal() -> None:
    assert printable("a\nb\x1b[2J 数 $x$") == "a\\nb\\x1b[2J 数 $x$"


def test_a_closed_standard_output_takes_lines_to_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    Console().line("97 %")

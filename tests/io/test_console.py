import io

import pytest

from cnn_jax.io.console import Console, printable


def test_lines_and_warnings_go_to_separate_streams() -> None:
    out, err = io.StringIO(), io.StringIO()
    console = Console(out, err)
    console.line("97 %")
    console.warn("look")
    assert (out.getvalue(), err.getvalue()) == ("97 %\n", "warning: look\n")


def test_characters_that_a_stream_cannot_encode_are_escaped() -> None:
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    Console(out, io.StringIO()).line("ümlaut \udcff")
    assert out.buffer.getvalue() == b"\\xfcmlaut \\udcff\n"


def test_printable_text_is_one_line_without_terminal_control_sequences() -> None:
    assert printable("a\nb\x1b[2J 数 $x$") == "a\\nb\\x1b[2J 数 $x$"


def test_lines_for_a_closed_standard_output_are_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    Console().line("97 %")

import errno
import io
import signal

import pytest

from cnn_jax.errors import UserError
from cnn_jax.io.console import Console, format_table, printable


def test_lines_and_warnings_go_to_separate_streams() -> None:
    out, err = io.StringIO(), io.StringIO()
    console = Console(out, err)
    console.line("97 %")
    console.warn("look at a\nb")
    assert (out.getvalue(), err.getvalue()) == ("97 %\n", "warning: look at a\\nb\n")


def test_characters_that_a_stream_cannot_encode_are_escaped() -> None:
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    Console(out, out).line("ümlaut \udcff")
    Console(out, out).warn("数")
    assert out.buffer.getvalue() == b"\\xfcmlaut \\udcff\nwarning: \\u6570\n"


def test_closed_pipe_of_windows_is_a_broken_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    class ClosedPipe(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.EINVAL, "Invalid argument")

    with pytest.raises(UserError, match=r"cannot write to standard output \(Invalid argument\)"):
        Console(ClosedPipe()).line("97 %")
    monkeypatch.delattr(signal, "SIGPIPE")
    with pytest.raises(BrokenPipeError):
        Console(ClosedPipe()).line("97 %")


def test_printable_text_is_one_line_without_terminal_control_sequences() -> None:
    assert printable("a\nb\x1b[2J 数 $x$") == "a\\nb\\x1b[2J 数 $x$"


def test_tables_are_aligned_in_any_script() -> None:
    # イヌ takes four columns; the dot below q is a character of no width.
    table = format_table(("class", "images"), [("イヌ", "5"), ("q\u0323q", "12")])
    assert table.splitlines() == [
        "class  images",
        "-------------",
        "イヌ        5",
        "q\u0323q         12",
    ]


def test_lines_for_a_closed_standard_output_are_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    Console().line("97 %")

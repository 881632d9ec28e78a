"""The two streams that a person reads: lines on the one, warnings and progress on the other."""

import io
import sys
from collections.abc import Sequence
from typing import TextIO

from cnn_jax.errors import UserError


def printable(text: str) -> str:
    """The text on one line, in which nothing commands a terminal: names of files may hold both."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Console:
    """Where lines and warnings go.

    Attributes:
      out: takes the lines.
      err: takes warnings and, where it is a terminal, progress bars.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        """`out` and `err`: standard output and standard error, where they are not given."""
        # Both are None where a shell has closed them.
        self.out = out or sys.stdout or io.StringIO()
        self.err = err or sys.stderr or io.StringIO()

    def line(self, text: str) -> None:
        """Prints a line, at once even into a pipe.

        Raises:
          UserError: when there is no room for it.
          BrokenPipeError: when the reader went away, which is no error.
        """
        # A file's name may hold what the stream cannot show.
        encoding = getattr(self.out, "encoding", None) or "utf-8"
        shown = text.encode(encoding, "backslashreplace").decode(encoding)
        try:
            print(shown, file=self.out, flush=True)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UserError(
                f"the console's lines cannot be written ({error.strerror}): allowed is an output "
                "with room. Send them elsewhere; a training with a --workdir goes on from there."
            ) from error

    def warn(self, text: str) -> None:
        """Prints a warning."""
        print("warning:", text, file=self.err, flush=True)


def format_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)
) -> str:
    """One line a row, and a rule below the header.

    Args:
      header: a word for each column.
      rows: a text for each column.
      left: numbers of the columns that are words; the others are numbers, and end at one place.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)

"""Lines of CSV files: plain, gzipped, or in a zip archive, read without unpacking them to disk."""

import contextlib
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from cnn_jax.data.formats.split import check_memory, check_packed_size, read_error

_MAX_LINE = 2**24  # Characters: 1,000 x 1,000 pixels with colours need 12 million.
_MUST = "be a whole CSV file"
_AGAIN = "Get the file again from where you have it."


def read_lines(path: Path, needs_labels: bool = True) -> Iterator[str]:
    """Yields the lines of a CSV file, without their ends.

    Args:
      path: the file, in UTF-8: plain, gzipped, or the only CSV file of a zip archive.
      needs_labels: whether the `train.csv` of an archive with several is read, or its `test.csv`.

    Raises:
      UserError: for a damaged file, another encoding, a line that is too long, an archive with
        other contents.
    """
    try:
        with _open_text(path, "train.csv" if needs_labels else "test.csv") as file:
            number = size = 0
            while line := file.readline(_MAX_LINE):
                number, size = number + 1, size + len(line)
                if number % 1000 == 0:
                    check_memory(path, size)  # A small packed file may have lines without end.
                if len(line) == _MAX_LINE:
                    reason = f"line {number} has {_MAX_LINE:,} characters or more"
                    raise read_error(path, reason, _MUST, "Name a CSV file.")
                if "\0" in line:
                    reason = f"line {number} has a zero byte"
                    raise read_error(path, reason, _MUST, "Name a CSV file.")
                yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        must = f"{_MUST} in UTF-8"
        raise read_error(path, "it has other characters", must, "Save it as UTF-8.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise read_error(path, f"it is damaged: {error}", _MUST, _AGAIN) from error
    except OSError as error:  # gzip.BadGzipFile is one.
        raise read_error(path, str(error.strerror or error), _MUST, _AGAIN) from error


@contextlib.contextmanager
def _open_text(path: Path, preferred: str) -> Iterator[IO[str]]:
    with path.open("rb") as file, contextlib.ExitStack() as stack:
        magic = file.read(2)
        file.seek(0)
        unpacked: Any = file
        if magic == b"\x1f\x8b":
            unpacked = stack.enter_context(gzip.open(file))
        elif magic == b"PK":
            archive = stack.enter_context(zipfile.ZipFile(file))
            # It gives no more bytes than the member declares, and checks their CRC.
            unpacked = stack.enter_context(archive.open(_choose_member(path, archive, preferred)))
        yield stack.enter_context(io.TextIOWrapper(unpacked, "utf-8-sig", newline=None))


def _choose_member(path: Path, archive: zipfile.ZipFile, preferred: str) -> zipfile.ZipInfo:
    """Returns the CSV file in an archive, after checking the names and sizes of all its files."""
    members = [member for member in archive.infolist() if not member.is_dir()]
    for member in members:
        parts = member.filename.replace("\\", "/").split("/")
        if ".." in parts or "" in parts or ":" in parts[0]:
            reason = f"it unpacks {member.filename!r}, which is outside of its folder"
            raise read_error(path, reason, "be an archive without such names", _AGAIN)
        check_packed_size(path, member.file_size, member.compress_size)
    tables = [member for member in members if member.filename.lower().endswith(".csv")]
    chosen = [member for member in tables if Path(member.filename).name.lower() == preferred]
    chosen = tables if len(tables) == 1 else chosen
    if len(chosen) != 1:
        held = ", ".join(member.filename for member in members[:3]) or "nothing"
        raise read_error(
            path,
            f"it holds {held}{', ...' if len(members) > 3 else ''}",
            f"hold one CSV file, or one called {preferred}",
            "Unpack it, and name the file or folder that you want.",
        )
    return chosen[0]

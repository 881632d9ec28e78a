"""Tests that files of no known format are refused."""

from pathlib import Path

from tests.data.formats.making import error_of


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.doc"
    path.write_bytes(b"notes")
    assert "(its format is not known): it must be one of those in docs/data.md" in error_of(path)

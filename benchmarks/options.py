"""The flags that several programs here have."""

from pathlib import Path

from absl import flags

DATA = flags.DEFINE_string("data", "", "The folder with the four original files; empty: download.")


def define_dataset() -> flags.FlagHolder[str]:
    """A flag, for programs that leave the choice of the data set."""
    return flags.DEFINE_enum("dataset", "mnist", ["mnist", "digits"], "digits needs no files.")


def manual_dir() -> str:
    """The value of `DATA`, for a process in whatever folder."""
    return str(Path(DATA.value).expanduser().resolve()) if DATA.value else ""

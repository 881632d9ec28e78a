"""Flags that several benchmarks share."""

from pathlib import Path

from absl import flags

DATA = flags.DEFINE_string(
    "data", "", "Folder with the four original MNIST files. Empty: they are downloaded."
)


def define_dataset() -> flags.FlagHolder[str]:
    """Defines `--dataset`, for benchmarks that run on more than one data set."""
    return flags.DEFINE_enum(
        "dataset", "mnist", ["mnist", "digits"], "Data set; digits needs no files."
    )


def manual_dir() -> str:
    """Returns the absolute path of `--data`, or an empty string where the flag is not set."""
    return str(Path(DATA.value).expanduser().resolve()) if DATA.value else ""

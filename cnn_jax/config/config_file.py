"""Loads what `--config` names: a Python file with a function `get_config`, or a run's config.json.

An error in a Python file is reported with the line that failed.
"""

import itertools
import json
import os
import re
import runpy
import sysconfig
from pathlib import Path
from traceback import format_exception

from absl import flags
from ml_collections import ConfigDict

from cnn_jax.config import schema
from cnn_jax.errors import UserError

_PROJECT = Path(__file__).parents[2]  # Where `configs` lies in a clone.


class ConfigParser(flags.ArgumentParser):  # type: ignore[misc]
    """Parser of the flag `--config`."""

    def parse(self, path: str) -> ConfigDict:
        """Loads a config.

        Args:
          path: a Python file, or the `config.json` in the workdir of a run. `configs/...` is looked
            up in the project's folder where the working directory does not have it.

        Returns:
          The locked config; only that of a run has been checked.

        Raises:
          UserError: if the file does not exist, or holds no config.
          Exception: any that the Python file raises; `translate_config_error` names the line.
        """
        existing = _find(path)
        if existing.suffix == ".json":
            return _read_saved(existing)
        # Not by ml_collections, which takes what follows a colon for an argument, and keeps an
        # OSError of the file for later.
        try:
            get_config = runpy.run_path(str(existing)).get("get_config")
            config = get_config() if callable(get_config) else None
        except (TypeError, ValueError) as error:
            # absl would take it for an invalid flag, and drop the line that failed.
            raise translate_config_error(error) from error
        if not callable(get_config):
            raise _not_a_config(path, "it has no function get_config")
        if not isinstance(config, ConfigDict):
            raise _not_a_config(path, f"it returned {type(config).__name__}")
        return config.lock()

    def flag_type(self) -> str:
        """Returns the type for `--help`."""
        return "config file"


def _find(path: str) -> Path:
    """Returns the existing file that a path names.

    Raises:
      UserError: if there is none; names where it was looked for.
    """
    candidates = [Path(os.path.expanduser(path))]
    if Path(path).parts[:1] == ("configs",):
        candidates.append(_PROJECT / path)
    for candidate in candidates:
        if os.path.isfile(candidate):
            return candidate
    places = " or ".join(dict.fromkeys(os.path.abspath(p) for p in candidates))  # noqa: PTH100
    raise _not_a_config(path, f"there is no file {places}")


def _read_saved(path: Path) -> ConfigDict:
    """Returns the config in a `config.json` of a run."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise _not_a_config(str(path), f"it is not the config.json of a run: {error!r}") from error
    try:
        return schema.from_json(content)
    except UserError as error:
        raise UserError(f"--config={path} is invalid: {error}") from error


def _not_a_config(path: str, problem: str) -> UserError:
    return UserError(
        f"--config={path} is invalid ({problem}): it must be an existing Python file whose "
        "get_config() returns a ConfigDict, or the config.json of a run. Use "
        "--config=configs/mnist.py, or a file that is like it."
    )


def translate_config_error(error: Exception) -> UserError:
    """Translates an exception that a Python file raised while its config was loaded.

    Args:
      error: the exception.

    Returns:
      The error to raise, with the line that failed.
    """
    trace = "".join(format_exception(error))
    problem = trace.strip().splitlines()[-1].rstrip(".")
    if frame := _last_user_frame(trace):
        return UserError(
            f"cannot load config {frame[0]}, line {frame[1]}: {problem}. Fix that line."
        )
    return UserError(f"cannot load the config: {problem}. Fix the config file.")


def _last_user_frame(trace: str) -> tuple[Path, int] | None:
    """Returns file and line of the innermost frame of a traceback that is in a user's file.

    Args:
      trace: text of a traceback. The frames up to the first one of a library or of this file are
        of this program, the later ones of libraries and of the config file, or one that it imports.

    Returns:
      The file, relative to the working directory if it is below it, and the line; None if only
      this program and libraries are in the traceback.
    """
    libraries = (
        str(Path(flags.__file__).parents[2]),
        sysconfig.get_path("stdlib"),
        "<frozen ",
        __file__,
    )
    frames: list[tuple[str, str]] = re.findall(r'File "(.+?)", line (\d+)', trace)
    called = itertools.dropwhile(lambda frame: not frame[0].startswith(libraries), frames)
    users = [frame for frame in called if not frame[0].startswith(libraries)]
    if not users:
        return None
    file, line = Path(users[-1][0]), int(users[-1][1])
    return (file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file), line

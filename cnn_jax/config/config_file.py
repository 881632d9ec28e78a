"""Loads what `--config` names: a Python file with a function `get_config`, or a run's config.json.

A Python file is loaded by ml_collections. An error in it is reported with the line that failed.
"""

import itertools
import json
import os
import re
import sysconfig
from pathlib import Path
from traceback import format_exception

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from cnn_jax.config import schema
from cnn_jax.errors import UserError

_PROJECT = Path(__file__).parents[2]  # Where `configs` lies in a clone.


class ConfigParser(ConfigFileFlagParser):  # type: ignore[misc]
    """Parser of the flag `--config`."""

    def parse(self, path: str) -> ConfigDict:
        """Loads a config.

        Args:
          path: a Python file, or the `config.json` in the workdir of a run. A relative path that
            does not exist in the working directory is looked up in the project's folder, so that
            `configs/mnist.py` is found from anywhere.

        Returns:
          The locked config; only that of a run has been checked.

        Raises:
          UserError: if the file does not exist, or holds no config.
          Exception: any that the Python file raises; `translate_config_error` names the line.
        """
        existing = _find(path)
        if existing.suffix == ".json":
            return _read_saved(existing)
        if existing.drive:  # ml_collections takes what follows a colon for an argument.
            existing = Path(os.path.relpath(existing))
        try:
            config = super().parse(str(existing))
        except AttributeError as error:
            if error.name == "get_config":
                raise _not_a_config(path, "it has no function get_config") from error
            raise
        if not isinstance(config, ConfigDict):
            raise _not_a_config(path, _describe(config))
        return config


def _describe(value: object) -> str:
    """Returns what a file gave instead of a config, in a few words."""
    try:
        getattr(value, "lock", None)
    except OSError as error:  # ml_collections keeps an OSError until its config is used.
        return str(error.__cause__ or error)
    return f"it returned {type(value).__name__}"


def _find(path: str) -> Path:
    """Returns the existing file that a path names.

    Raises:
      UserError: if there is none; names where it was looked for.
    """
    candidates = [Path(os.path.expanduser(path)), _PROJECT / path]
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
    return schema.from_json(content)


def _not_a_config(path: str, problem: str) -> UserError:
    return UserError(
        f"--config={path} is invalid ({problem}): it must be an existing Python file whose "
        "get_config() returns a ConfigDict, or the config.json of a run. Use "
        "--config=configs/mnist.py, or a file that is like it."
    )


def translate_config_error(error: Exception) -> UserError:
    """Translates an exception that a Python file raised while its config was loaded.

    Args:
      error: the exception, or the one of absl that ml_collections made of it.

    Returns:
      The error to raise, with the line that failed.
    """
    # If the config file raises a TypeError or ValueError, ml_collections raises a new error that
    # contains the traceback as text.
    message = str(error)
    trace = message if isinstance(error, flags.Error) else "".join(format_exception(error))
    problem = trace.strip().splitlines()[-1].rstrip(".")
    if frame := _last_user_frame(trace):
        return UserError(
            f"cannot load config {frame[0]}, line {frame[1]}: {problem}. Fix that line."
        )
    return UserError(f"cannot load the config: {problem}. Fix the config file.")


def _last_user_frame(trace: str) -> tuple[Path, int] | None:
    """Returns file and line of the innermost frame of a traceback that is in a user's file.

    Args:
      trace: text of a traceback. The frames up to the first library frame are of this program, the
        later ones of libraries and of the config file, or a file that it imports.

    Returns:
      The file, relative to the working directory if it is below it, and the line; None if only
      this program and libraries are in the traceback.
    """
    libraries = (
        str(Path(flags.__file__).parents[2]),
        sysconfig.get_path("stdlib"),
        "<frozen ",
    )
    frames: list[tuple[str, str]] = re.findall(r'File "(.+?)", line (\d+)', trace)
    called = itertools.dropwhile(lambda frame: not frame[0].startswith(libraries), frames)
    users = [frame for frame in called if not frame[0].startswith((*libraries, __file__))]
    if not users:
        return None
    file, line = Path(users[-1][0]), int(users[-1][1])
    return (file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file), line

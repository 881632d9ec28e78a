"""Errors of the command line: what absl and ml_collections would say less well, or not at all."""

import re
from collections.abc import Sequence

from absl import flags

from cnn_jax.config.config_file import translate_config_error
from cnn_jax.config.fields import FIELDS, invalid_value_error, unknown_key_error
from cnn_jax.errors import UserError


def check_config_arguments(arguments: Sequence[str]) -> None:
    """Checks `--config` and the keys in `--config.KEY=VALUE`, before the flags are parsed.

    Of two configs absl would use the last one. For an unknown key, `config_flags` would raise an
    AttributeError whose message contains neither the complete key nor the value.

    Args:
      arguments: the command line.

    Raises:
      UserError: for a second config, for the first unknown key, or if there is no config to
        override.
    """
    if "--" in arguments:  # After it there are only names.
        arguments = arguments[: arguments.index("--")]
    configs = [i for i, a in enumerate(arguments) if re.match(r"--?config(=|$)", a)]
    if len(configs) > 1:
        given = (" ".join(arguments[i : i + 1 + ("=" not in arguments[i])]) for i in configs)
        raise UserError(
            f"{' and '.join(given)} are given: there must be one config. Remove all but one."
        )
    for argument in arguments:
        match = re.fullmatch(r"--?(?:no)?config\.([^=]+)(?:=(.*))?", argument, re.DOTALL)
        if match and match[1] not in FIELDS:
            raise unknown_key_error(match[1], match[2] or "")
        if match and not configs:
            raise UserError(
                f"{argument} is invalid without --config: there must be a config to override. Add "
                "--config=configs/mnist.py, or remove it."
            )


def translate_flag_error(error: Exception) -> UserError:
    """Translates an exception that was raised while the flags were parsed.

    Args:
      error: an error of absl, or any exception of a config file, which absl runs while it parses.

    Returns:
      The error to raise: for an override, with the field's requirement; for a config file, with
      the line that failed.
    """
    message = str(error)
    if match := re.match(r"flag --config\.([\w.]+)=(.*?): ", message, re.DOTALL):
        key, value = match.groups()
        if key in FIELDS:
            return invalid_value_error(key, value)
    if isinstance(error, flags.CantOpenFlagFileError):
        cause = error.__context__
        assert isinstance(cause, OSError)
        return UserError(
            f"cannot read --flagfile={cause.filename} ({cause.strerror}): it must be a text file "
            "with one flag per line. Name another one."
        )
    if isinstance(error, flags.Error):
        return UserError(f"{message.rstrip('.')}. Run python main.py --help for all flags.")
    return translate_config_error(error)

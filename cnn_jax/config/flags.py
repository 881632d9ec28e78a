"""The flags of `main.py`: what they may be, alone and together."""

import re
import sys
from collections.abc import Sequence
from traceback import format_exception

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from cnn_jax.config.schema import FIELDS, invalid_value, unknown_key
from cnn_jax.errors import UserError

TRAINED_MODEL_MODES = (
    "evaluate",
    "predict",
    "inspect",
    "export",
)  # Modes that take a trained network.

CONFIG = config_flags.DEFINE_config_file("config", None, "A recipe, such as configs/mnist.py.")
WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "A folder for checkpoints and results; a run that stands there goes on. Without it no result "
    "is written.",
)
MODE = flags.DEFINE_enum(
    "mode", "train", ["train", *TRAINED_MODEL_MODES, "describe"], "What to do."
)
STEP = flags.DEFINE_integer(
    "step", None, "The checkpoint to take; the newest without it.", lower_bound=0
)
MODEL = flags.DEFINE_integer(
    "network", None, "Which one of those that were trained at once, from 0.", lower_bound=0
)
IMAGES = flags.DEFINE_list(
    "images",
    None,
    "Your own pictures: files, folders, patterns such as '*.jpg'. A name with a comma goes into "
    """double quotes of its own, as in '"a,b.png"'.""",
)
JSON = flags.DEFINE_boolean("json", False, "Print an object a line, for machines.")
SHOW = flags.DEFINE_boolean("show", False, "Write what the network saw, beside the originals.")
PROFILE = flags.DEFINE_boolean("profile", False, "Write a trace of some steps into the workdir.")
COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "HOST:PORT where process 0 of a training by many processes listens. SLURM, Kubernetes, Open "
    "MPI and TPU pods say it themselves, and the next two as well.",
)
NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "Processes that train together; 1: this one alone.", lower_bound=1
)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is.", lower_bound=0)

_MODES_OF = {  # Elsewhere they would be ignored without a word.
    "step": TRAINED_MODEL_MODES,
    "network": TRAINED_MODEL_MODES,
    "images": ("predict", "inspect"),
    "json": ("predict",),
    "show": ("predict",),
    "profile": ("train",),
    "coordinator": ("train",),
    "num_processes": ("train",),
    "process_id": ("train",),
}


def parse(argv: Sequence[str]) -> list[str]:
    """Parses the flags, and checks them before anything else is done.

    Raises:
      UserError: naming the flag, its value and what is allowed.
      SystemExit: after `--help`.
    """
    check_overrides(argv)
    try:
        rest: list[str] = flags.FLAGS(argv)
    except SystemExit as error:
        if any(argument.startswith(("--help", "-help", "-h", "-?")) for argument in argv[1:]):
            sys.exit(0)  # It has been printed, as asked; absl would call that a failure.
        raise UserError("the config file ends the program. Mend it.") from error
    except Exception as error:  # A config file is Python, and may raise anything.
        raise translate_flag_error(error) from error
    _check_together()
    _check_config()
    if rest[1:]:
        raise UserError(f"{rest[1]} is not a flag: allowed are flags only. Remove it.")
    if flags.FLAGS["verbosity"].using_default_value:
        # What goes wrong is said here, in words; libraries would show their chatter before it.
        logging.set_verbosity(logging.FATAL)
    return rest


def _check_together() -> None:
    mode = MODE.value
    if WORKDIR.value == "":
        raise UserError("--workdir is empty: allowed is a folder. Name one, or leave it out.")
    for name, modes in _MODES_OF.items():
        if flags.FLAGS[name].present and mode not in modes:
            value = flags.FLAGS[name].serialize()
            raise UserError(
                f"{value} has no effect with --mode={mode}: allowed is it with --mode="
                f"{' or '.join(modes)}. Remove it."
            )
    if WORKDIR.value is None and mode in TRAINED_MODEL_MODES:
        raise UserError("no --workdir given: allowed is that of a training run. Use --workdir=DIR.")
    if WORKDIR.value is None and PROFILE.value:
        raise UserError("--profile needs a place: allowed is it with a --workdir. Add one.")
    if not IMAGES.value and (mode == "predict" or flags.FLAGS["images"].present):
        raise UserError(
            "no --images given: allowed are files, folders and patterns. Use "
            "--images=FILE,FOLDER,'*.jpg'."
        )


def _check_config() -> None:
    if MODE.value in TRAINED_MODEL_MODES and not CONFIG.present:
        return  # The workdir has it.
    if CONFIG.value is None:
        raise UserError("no --config given: allowed is a recipe. Use --config=configs/mnist.py.")
    if not isinstance(CONFIG.value, ConfigDict):
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        raise UserError(
            f"--config={path} is not there, or its get_config() returns no ConfigDict: allowed is "
            "a recipe. Use --config=configs/mnist.py."
        )


def check_overrides(arguments: Sequence[str]) -> None:
    """Checks the names in `--config.KEY=VALUE` arguments, before the flags are parsed.

    `config_flags` would raise an AttributeError that names neither the whole key nor the value.

    Raises:
      UserError: for the first unknown key, or where there is no config to change.
    """
    has_config = any(re.match(r"--?config(=|$)", argument) for argument in arguments)
    for argument in arguments:
        match = re.fullmatch(r"--?(?:no)?config\.([^=]+)(?:=(.*))?", argument, re.DOTALL)
        if match and match[1] not in FIELDS:
            raise unknown_key(match[1], match[2] or "")
        if match and not has_config:
            raise UserError(
                f"{argument} changes a config, and none is given: allowed is it with a --config. "
                "Add --config=configs/mnist.py, or remove it."
            )


def translate_flag_error(error: Exception) -> UserError:
    """Says in the words of `FIELDS` what could not be parsed or, for a config file, run."""
    message = str(error)
    if match := re.match(r"flag --config\.([\w.]+)=(.*?): ", message, re.DOTALL):
        key, value = match.groups()
        if key in FIELDS:
            return invalid_value(key, value)
    if isinstance(error, flags.Error) and "Error whilst parsing config file" not in message:
        return UserError(f"{message.rstrip('.')}. See python main.py --help.")
    # What a config file raised; ml_collections puts some of it, as text, into an error of its own.
    text = message if isinstance(error, flags.Error) else "".join(format_exception(error))
    problem = text.strip().splitlines()[-1]
    file, line = re.findall(r'File "(.+?)", line (\d+)', text)[-1]
    return UserError(f"the config file cannot be run: {problem} ({file}:{line}). Mend that line.")

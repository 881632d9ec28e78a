"""The flags of `main.py`: definitions, parsing, and checks of each and of their combinations."""

import csv
import os
import sys
from collections.abc import Sequence

from absl import flags, logging
from ml_collections import config_flags

from cnn_jax.config.config_file import ConfigParser
from cnn_jax.config.flag_errors import check_config_arguments, translate_flag_error
from cnn_jax.errors import UserError

TRAINED_MODEL_MODES = ("evaluate", "predict", "inspect", "export", "demo")

# The command line, with the lines of flag files: filled by `parse`, and read by `config_flags`.
_arguments: list[str] = []

CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file, such as configs/mnist.py, which is a Python program and is run; or the "
    "config.json of a run.",
    sys_argv=_arguments,
)
flags.FLAGS["config"].parser = ConfigParser()
WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder for the checkpoints and results of a run. If it holds an unfinished run, training "
    "resumes it. Without this flag, no result is written.",
)
MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", *TRAINED_MODEL_MODES, "describe"],
    "Action: train or describe the model of a config, or use a trained model.",
)
STEP = flags.DEFINE_integer(
    "step", None, "Step of the checkpoint to use; default: the newest checkpoint.", lower_bound=0
)
MODEL = flags.DEFINE_integer(
    "model",
    None,
    "Index, from 0, of the trained model to use; required if the run trained several models. Only "
    "predict and demo can do without: models that differ only in their seed answer together.",
    lower_bound=0,
)
IMAGES = flags.DEFINE_multi_string(
    "images",
    None,
    "Your own pictures, separated by commas or by spaces: files, folders, or patterns such as "
    """'*.jpg'. Put double quotes around a name that contains a comma, as in '"a,b.png"'.""",
)
LABELS = flags.DEFINE_string(
    "labels",
    None,
    "CSV file with the columns file,label: the true classes of your own pictures. Without this "
    "flag, a folder all of whose subfolders are named like classes gives them.",
)
PREPARE = flags.DEFINE_enum(
    "prepare",
    "auto",
    ["auto", "ink", "plain"],
    "How pictures are prepared: ink finds what is drawn on them, plain takes all as it is. auto is "
    "plain for files of images, and for pictures like the training set's own; else ink.",
)
OUTPUT = flags.DEFINE_string(
    "output", None, "CSV file to write the predictions to, instead of printing them."
)
FORMAT = flags.DEFINE_enum(
    "format",
    "csv",
    ["csv", "kaggle"],
    "Form of --output: csv has the columns id,label; kaggle ImageId,Label, counted from 1.",
)
JSON = flags.DEFINE_boolean("json", False, "Print one JSON object per line.")
SHOW = flags.DEFINE_boolean(
    "show", False, "Draw the input of the model beside each of the original pictures."
)
SERVE = flags.DEFINE_boolean(
    "serve",
    False,
    "Serve the page to this machine, and prepare the pictures that a browser cannot.",
)
PORT = flags.DEFINE_integer(
    "port", 0, "Port on which --serve listens; 0: any that is free.", 0, 65535
)
PROFILE = flags.DEFINE_boolean(
    "profile", False, "Write a profiler trace of some training steps into the workdir."
)
DISTRIBUTED = flags.DEFINE_boolean(
    "distributed",
    False,
    "Train together with the other processes that SLURM, Open MPI, Kubernetes or a TPU pod has "
    "started. Elsewhere --coordinator, --num_processes and --process_id do the same.",
)
COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "HOST:PORT on which process 0 listens if several processes train together.",
)
NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "Number of processes that train together.", lower_bound=1
)
PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "Index, from 0, of this process.", lower_bound=0
)

# Modes in which each flag has an effect; in other modes the flag is refused, not ignored.
_MODES_OF = {
    "step": TRAINED_MODEL_MODES,
    "model": TRAINED_MODEL_MODES,
    "images": ("predict", "inspect"),
    "labels": ("predict",),
    "prepare": ("predict",),
    "output": ("predict",),
    "format": ("predict",),
    "json": ("predict",),
    "show": ("predict",),
    "serve": ("demo",),
    "port": ("demo",),
    "profile": ("train",),
    "distributed": ("train",),
    "coordinator": ("train",),
    "num_processes": ("train",),
    "process_id": ("train",),
}


def parse(argv: Sequence[str]) -> list[str]:
    """Parses the flags and checks them.

    Args:
      argv: the command line, starting with the program's name.

    Returns:
      The arguments that are not flags: the program's name alone.

    Raises:
      UserError: for an invalid flag, config override or config file, or flags that exclude each
        other.
      SystemExit: after `--help`.
    """
    # This program prints its own error messages; libraries would log theirs before them.
    logging.set_verbosity(logging.FATAL)
    # Arguments that are not flags may stand anywhere, as in `--images a.png b.png --json`.
    flags.FLAGS.set_gnu_getopt()
    try:
        _arguments[:] = flags.FLAGS.read_flags_from_files(argv)
        check_config_arguments(_arguments)
        rest: list[str] = flags.FLAGS(_arguments)
    except (UserError, BrokenPipeError):
        raise
    except UnicodeDecodeError as error:
        raise UserError(
            "cannot read the file of --flagfile: it must be a text file with one flag per line. "
            "Name another one."
        ) from error
    except SystemExit as error:
        if any(argument.startswith(("--help", "-help", "-h", "-?")) for argument in argv[1:]):
            sys.exit(0)  # absl would exit with status 1 after printing the help.
        raise UserError(
            "cannot load the config: it must not end the program, but raised SystemExit. Remove "
            "that statement."
        ) from error
    except Exception as error:  # A config file is Python, and may raise any exception.
        raise translate_flag_error(error) from error
    if flags.FLAGS["images"].present:
        names = [*IMAGES.value, *rest[1:]]
        IMAGES.value[:] = [part for name in names for part in split_images(name)]
    elif rest[1:]:
        raise UserError(f"argument {rest[1]} is invalid: it must be a flag. Remove it.")
    _check_together()
    _check_has_config()
    return rest[:1]


def split_images(argument: str) -> list[str]:
    """Splits an argument of `--images` at its commas, unless it is the name of a file.

    Args:
      argument: names separated by commas; double quotes around a name keep its commas.
    """
    if os.path.lexists(os.path.expanduser(argument)):
        return [argument]
    try:
        return [name.strip() for row in csv.reader([argument], strict=True) for name in row]
    except csv.Error:
        return [argument]


def _check_together() -> None:
    """Checks the combination of flags.

    Raises:
      UserError: for a flag without effect in the mode, or a missing flag.
    """
    mode = MODE.value
    if WORKDIR.value == "":
        raise UserError("--workdir= is invalid: it must be a folder. Name one, or omit the flag.")
    for name, modes in _MODES_OF.items():
        if flags.FLAGS[name].present and mode not in modes:
            flag = flags.FLAGS[name].serialize()
            raise UserError(
                f"{flag} has no effect with --mode={mode}: the mode must be {' or '.join(modes)}. "
                "Remove it, or change --mode."
            )
    if WORKDIR.value is None and mode in TRAINED_MODEL_MODES:
        raise UserError(
            f"--workdir is missing: with --mode={mode} it must be the folder of a training run. "
            "Use --workdir=DIR."
        )
    if WORKDIR.value is None and PROFILE.value:
        raise UserError(
            "--workdir is missing: with --profile it must be the folder for the trace. Use "
            "--workdir=DIR, or omit --profile."
        )
    if flags.FLAGS["port"].present and not SERVE.value:
        raise UserError(
            f"--port={PORT.value} has no effect without --serve: there must be a server that "
            "listens on it. Add --serve, or omit --port."
        )
    if OUTPUT.value == "":
        raise UserError("--output= is invalid: it must be a file. Name one, or omit the flag.")
    if flags.FLAGS["format"].present and OUTPUT.value is None:
        raise UserError(
            f"--format={FORMAT.value} has no effect without --output: it is the form of that file. "
            "Add --output=FILE.csv, or omit --format."
        )
    if JSON.value and OUTPUT.value is not None:
        raise UserError(
            f"--json has no effect with --output={OUTPUT.value}: the predictions are not printed. "
            "Omit one of the two."
        )
    if not IMAGES.value and (mode == "predict" or flags.FLAGS["images"].present):
        raise UserError(
            "--images is missing: it must name files, folders or patterns. Use "
            "--images=FILE,FOLDER,'*.jpg'."
        )


def _check_has_config() -> None:
    """Checks that the mode has a config.

    Raises:
      UserError: if it is missing.
    """
    if MODE.value in TRAINED_MODEL_MODES and not CONFIG.present:
        return  # The workdir holds the config of the run.
    if CONFIG.value is None:
        raise UserError(
            "--config is missing: it must be a config file. Use --config=configs/mnist.py."
        )

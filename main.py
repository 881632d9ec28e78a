"""Trains a small ConvNet, evaluates or describes one.

    python main.py --config=configs/mnist.py [--workdir=DIR] [--mode=MODE] [--config.KEY=VALUE ...]

MODE is `train` (default), `evaluate`, which needs a --workdir and no --config, or `describe`. Exit
status: 0; 2 for anything that you can mend, with one line that says how; 128 + n after signal n.
"""

import gc
import os
import signal
import sys
from collections.abc import Sequence

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from cnn_jax import config as config_module
from cnn_jax import signals
from cnn_jax.errors import Stopped, UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "A recipe, such as configs/mnist.py.")
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "A folder for checkpoints and results; a run that stands there goes on. Without it no result "
    "is written.",
)
_MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate", "describe"], "What to do.")
_STEP = flags.DEFINE_integer(
    "step", None, "The checkpoint that --mode=evaluate takes; the newest without it.", lower_bound=0
)


def _parse(argv: Sequence[str]) -> list[str]:
    config_module.check_overrides(argv)
    try:
        rest: list[str] = flags.FLAGS(argv)
    except SystemExit as error:
        if any(argument.startswith(("--help", "-help", "-h", "-?")) for argument in argv[1:]):
            sys.exit(0)  # It has been printed, as asked; absl would call that a failure.
        raise UserError("the config file ends the program. Mend it.") from error
    except Exception as error:  # A config file is Python, and may raise anything.
        raise config_module.explain_flag_error(error) from error
    if _WORKDIR.value == "":
        raise UserError("--workdir is empty: allowed is a folder. Name one, or leave it out.")
    if _MODE.value == "evaluate" and _WORKDIR.value is None:
        raise UserError("no --workdir given: allowed is that of a training run. Use --workdir=DIR.")
    if _MODE.value != "evaluate" and _STEP.value is not None:
        raise UserError(
            f"--step={_STEP.value} has no effect with --mode={_MODE.value}: allowed is it with "
            "--mode=evaluate. Remove it."
        )
    if _MODE.value == "evaluate" and not _CONFIG.present:
        pass  # The workdir has it.
    elif _CONFIG.value is None:
        raise UserError("no --config given: allowed is a recipe. Use --config=configs/mnist.py.")
    elif not isinstance(_CONFIG.value, ConfigDict):
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        raise UserError(
            f"--config={path} is not there, or its get_config() returns no ConfigDict: allowed is "
            "a recipe. Use --config=configs/mnist.py."
        )
    if rest[1:]:
        raise UserError(f"{rest[1]} is not a flag: allowed are flags only. Remove it.")
    if flags.FLAGS["verbosity"].using_default_value:
        # What goes wrong is said here, in words; libraries would show their chatter before it.
        logging.set_verbosity(logging.FATAL)
    return rest


def _main(argv: Sequence[str]) -> None:
    del argv
    if _MODE.value == "describe":
        from cnn_jax.describe import describe  # Without JAX: it starts in half a second.

        for text in describe(_CONFIG.value):
            print(text)
    else:
        # Imports and traces make a million objects that stay: to look for garbage among them as
        # often as Python would takes a twentieth of a short run.
        gc.set_threshold(100_000)
        from cnn_jax import experiment
        from cnn_jax.evaluate import evaluate

        if _MODE.value == "evaluate":
            evaluate(_WORKDIR.value, _CONFIG.value, _STEP.value)
        else:
            experiment.run(_CONFIG.value, _WORKDIR.value)
    signals.install(signal.SIG_DFL)  # The work is done; Python, as it ends, raises no more.


def _unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Where a checkpoint cannot be written, each array that was to follow would say so as well."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    sys.unraisablehook = _unraisable
    signals.install(signals.obey)
    try:
        app.run(_main, flags_parser=_parse)
    except UserError as user_error:
        print("error:", *str(user_error).split(), file=sys.stderr)  # On one line.
        sys.exit(2)
    except BrokenPipeError:  # The reader went away, as in `main.py | head`.
        # Only now, since Orbax's threads write to pipes that are closed already.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.raise_signal(signal.SIGPIPE)
    except Stopped as stopped:
        print(stopped, file=sys.stderr, flush=True)
        # XLA may be compiling in a thread, and would crash while Python takes itself down.
        os._exit(128 + stopped.number)

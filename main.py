"""Trains a small ConvNet, describes one, or uses a trained one.

    python main.py --config=configs/mnist.py [--workdir=DIR] [--mode=MODE] [--config.KEY=VALUE ...]

MODE is `train` (default) or `describe`, which need a --config, or one of `evaluate`, `predict`,
`inspect` and `export`, which need the --workdir of a training run instead, and `predict` your own
pictures as --images=FILE,FOLDER,'*.jpg'. Exit status: 0; 2 for anything that you can mend, with one
line that says how; 128 + n after signal n.
"""

import gc
import os
import signal
import sys
from collections.abc import Sequence

import absl.flags
from absl import app

from cnn_jax.config import flags
from cnn_jax.distributed import join
from cnn_jax.errors import Stopped, UserError
from cnn_jax.io import signals
from cnn_jax.io.console import printable


def _main(argv: Sequence[str]) -> None:
    """Imports what the mode needs, and no more: `describe` starts in half a second without JAX."""
    del argv
    mode, config = flags.MODE.value, flags.CONFIG.value
    workdir = flags.WORKDIR.value
    use = (config, flags.STEP.value, flags.MODEL.value)
    # Imports and traces make a million objects that stay: to look for garbage among them as often
    # as Python would takes a twentieth of a short run.
    gc.set_threshold(100_000)
    if mode == "describe":
        from cnn_jax.commands.describe import describe

        for text in describe(config):
            print(text)
    elif mode == "evaluate":
        from cnn_jax.commands.evaluate import evaluate

        evaluate(workdir, *use)
    elif mode == "predict":
        from cnn_jax.commands.predict import predict

        as_json, show = flags.JSON.value, flags.SHOW.value
        predict(workdir, flags.IMAGES.value, *use, as_json=as_json, show=show)
    elif mode == "inspect":
        from cnn_jax.commands.inspect import inspect

        inspect(workdir, flags.IMAGES.value, *use)
    elif mode == "export":
        from cnn_jax.commands.export import export

        export(workdir, *use)
    else:
        coordinator, count = flags.COORDINATOR.value, flags.NUM_PROCESSES.value
        with join.join(coordinator, count, flags.PROCESS_ID.value) as cluster:
            from cnn_jax.experiment import run

            run(config, workdir, profile=flags.PROFILE.value, cluster=cluster)
    signals.install(signal.SIG_DFL)  # The work is done; Python, as it ends, raises no more.


def _unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Where a checkpoint cannot be written, each array that was to follow would say so as well."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    absl.flags.adopt_module_key_flags(flags)  # Or --help would not name them.
    sys.unraisablehook = _unraisable
    signals.install(signals.raise_stopped)
    try:
        app.run(_main, flags_parser=flags.parse)
    except UserError as user_error:
        words = " ".join(str(user_error).split())  # On one line.
        print("error:", printable(words), file=sys.stderr)
        join.end_process(2)
    except BrokenPipeError:  # The reader went away, as in `main.py | head`.
        # Only now, since Orbax's threads write to pipes that are closed already.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.raise_signal(signal.SIGPIPE)
    except Stopped as stopped:
        print(stopped, file=sys.stderr, flush=True)
        # XLA may be compiling in a thread, and would crash while Python takes itself down.
        os._exit(128 + stopped.number)

"""Trains a small ConvNet on images, and describes or uses a trained one.

    python main.py --config=configs/mnist.py [--workdir=DIR] [--mode=MODE] [--config.KEY=VALUE ...]

Modes that require a --config:
    train (default)  trains the model of the config and writes checkpoints and results to --workdir
    describe         prints the layers of the model, without training it

Modes that require the --workdir of a training run:
    evaluate         reports the accuracy on the test set, overall and for each class
    predict          classifies your own pictures: --images=FILE,FOLDER,'*.jpg' [--labels=FILE.csv];
                     configs/handwriting.py trains a model for them; or the images of a file, as in
                     --images=test.csv [--output=FILE.csv [--format=kaggle]]
    inspect          draws filters, feature maps, receptive fields and saliency maps
    export           writes the model for other programs
    demo             writes a page that shows the network at work: draw on it, in a browser;
                     --serve [--port=N] serves it to this machine

Exit status: 0 on success; 2 on an error that you can fix, with one line that says how; 128 + n if
stopped by signal n.
"""

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Sequence

import absl.flags
from absl import app
from ml_collections import ConfigDict

from cnn_jax.config import flags
from cnn_jax.distributed import join
from cnn_jax.errors import Stopped, UserError
from cnn_jax.io import signals
from cnn_jax.io.console import Console, printable


def _main(argv: Sequence[str]) -> None:
    """Runs the mode.

    Imports only what the mode needs: `describe` starts in half a second because it needs no JAX.
    """
    del argv
    # Imports and traces create 200,000 to 300,000 objects, which are never freed. With Python's
    # default threshold, scanning them for garbage takes a twentieth of a short run.
    gc.set_threshold(1_000_000)
    mode, config, workdir = flags.MODE.value, flags.CONFIG.value, flags.WORKDIR.value
    if mode == "describe":
        from cnn_jax.commands.describe import describe

        console = Console()
        for text in describe(config):
            console.line(text)
    elif mode == "train":
        _train(config, workdir)
    else:
        _use_trained_model(mode, workdir, config)
    # At its end Python looks for garbage among a million objects, for a quarter of a second.
    gc.freeze()
    # All work is done: a signal during Python's shutdown must not raise an exception.
    signals.install(signal.SIG_DFL)
    join.exit_process(0)


def _train(config: ConfigDict, workdir: str | None) -> None:
    """Trains the model of a config, alone or with other processes."""
    # Joined before JAX is imported, whose messages this suppresses.
    with join.join(
        flags.COORDINATOR.value,
        flags.NUM_PROCESSES.value,
        flags.PROCESS_ID.value,
        distributed=flags.DISTRIBUTED.value,
    ) as cluster:
        _configure_jax()
        from cnn_jax.experiment import run

        run(config, workdir, profile=flags.PROFILE.value, cluster=cluster)


def _use_trained_model(mode: str, workdir: str, config: ConfigDict | None) -> None:
    """Runs a mode that needs a trained model."""
    _configure_jax()
    selection = (config, flags.STEP.value, flags.MODEL.value)
    if mode == "evaluate":
        from cnn_jax.commands.evaluate import evaluate

        evaluate(workdir, *selection)
    elif mode == "predict":
        from cnn_jax.commands.predict import Options, predict

        predict(
            workdir,
            flags.IMAGES.value,
            *selection,
            options=Options(
                flags.LABELS.value,
                flags.PREPARE.value,
                flags.JSON.value,
                flags.SHOW.value,
                flags.OUTPUT.value,
                flags.FORMAT.value,
            ),
        )
    elif mode == "inspect":
        from cnn_jax.commands.inspect import inspect

        inspect(workdir, flags.IMAGES.value, *selection)
    elif mode == "export":
        from cnn_jax.commands.export import export

        export(workdir, *selection)
    else:
        from cnn_jax.commands.demo import demo

        demo(workdir, *selection, serve=flags.SERVE.value, port=flags.PORT.value)


def _configure_jax() -> None:
    """Imports JAX, and makes it independent of the environment."""
    join.import_jax()
    from cnn_jax.engine import compilation_cache, jax_options

    jax_options.ignore_environment(Console().warn)
    compilation_cache.enable()


def _hide_closed_event_loop(unraisable: "sys.UnraisableHookArgs") -> None:
    """Hook for exceptions in destructors that hides those about a closed event loop.

    If Orbax cannot write a checkpoint, each of its pending arrays would print such an exception
    after the error message of this program.
    """
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    absl.flags.adopt_module_key_flags(flags)  # Makes --help list them.
    sys.unraisablehook = _hide_closed_event_loop
    signals.install(signals.raise_stopped)
    try:
        app.run(_main, flags_parser=flags.parse)
    except UserError as user_error:
        message = " ".join(str(user_error).split())  # One line.
        with contextlib.suppress(OSError):  # The exit status says it where nothing else can.
            print("error:", printable(message), file=sys.stderr, flush=True)
        join.exit_process(2)
    except BrokenPipeError:
        signals.exit_with_closed_pipe()
    except Stopped as stopped:
        print(stopped, file=sys.stderr, flush=True)
        # A thread may still be compiling; XLA would crash during Python's regular shutdown.
        os._exit(128 + stopped.signal_number)

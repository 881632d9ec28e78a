"""`--mode=evaluate`: how good a trained network is, where it errs, and how sure one can be of that."""

import time
from collections.abc import Callable
from typing import TextIO

from ml_collections import ConfigDict

from cnn_jax import config as config_module
from cnn_jax import data, resume
from cnn_jax.config_changes import check_same_model
from cnn_jax.console import Console
from cnn_jax.errors import UserError
from cnn_jax.trained import open_checkpoint
from cnn_jax.trainer import score_test


def evaluate(
    workdir: str,
    config: ConfigDict | None = None,
    step: int | None = None,
    *,
    out: TextIO | None = None,
    err: TextIO | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    console = Console(out, err)
    path, checkpoint = open_checkpoint(workdir, step, console.warn)
    saved = config_module.from_json(resume.saved_config(checkpoint))
    if config:
        config_module.check_fields(config)
        check_same_model(config, path, saved)
        saved.dataset = config.dataset
    info = config_module.check(saved)
    if array := resume.different_array(saved, info, checkpoint):
        raise UserError(
            f"checkpoint {checkpoint.step} of {path} is of another network: {array}. Choose "
            "another --workdir, or a --config with a data set of the same form."
        )
    state, _ = resume.restore(saved, info, checkpoint)
    values = score_test(saved, info, state, data.load(**saved.dataset), clock)
    console.line(f"Test accuracy: {100 * values['accuracy']:.2f}%")
    return values

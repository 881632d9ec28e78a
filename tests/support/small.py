"""A run that takes seconds."""

import io
from importlib import import_module
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from cnn_jax import experiment
from cnn_jax.reporting.result import Result


def small_config(**changes: Any) -> ConfigDict:
    """Two epochs of 70 digits in batches of 16: 5 steps each, the last of 6 images."""
    config: ConfigDict = import_module("configs.mnist").get_config()
    config.update_from_flattened_dict(
        {
            "dataset.name": "digits",
            "dataset.train_split": "train[:70]",
            "dataset.test_split": "test[:30]",
            "num_epochs": 2,
            "batch_size": 16,
            "log_every_steps": 2,
            "learning_rate": 0.1,
            "model.init_stddev": 0.1,
        }
        | changes
    )
    return config


def run(workdir: Path | None, *, err: Any = None, **changes: Any) -> Result:
    """Runs it, with changes, without a console."""
    folder = str(workdir) if workdir else None
    config = small_config(**changes)
    return experiment.run(config, folder, out=io.StringIO(), err=err or io.StringIO())

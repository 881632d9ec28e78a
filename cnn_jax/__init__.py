"""A small-image ConvNet trainer in JAX and Flax: the names that people use from Python.

They are imported at their first use, so that `import cnn_jax` costs nothing. To read the code,
start with `model.py` and `train.py`; `experiment.py` tells the story of a whole run.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # The same names, for type checkers.
    from cnn_jax.errors import Stopped as Stopped
    from cnn_jax.errors import UserError as UserError
    from cnn_jax.evaluation.interpret import feature_maps as feature_maps
    from cnn_jax.evaluation.interpret import saliency as saliency
    from cnn_jax.evaluation.loading import load as load
    from cnn_jax.evaluation.trained import TrainedModel as TrainedModel
    from cnn_jax.experiment import run as run
    from cnn_jax.model import ConvNet as ConvNet
    from cnn_jax.preprocessing.photo import read_picture as read_picture
    from cnn_jax.reporting.result import Result as Result
    from cnn_jax.train import create_train_state as create_train_state
    from cnn_jax.train import epoch_permutation as epoch_permutation
    from cnn_jax.train import eval_step as eval_step
    from cnn_jax.train import train_epoch as train_epoch
    from cnn_jax.train import train_step as train_step

__version__ = "0.1.0"

_MODULES = {
    "ConvNet": "model",
    "Result": "reporting.result",
    "Stopped": "errors",
    "TrainedModel": "evaluation.trained",
    "UserError": "errors",
    "create_train_state": "train",
    "epoch_permutation": "train",
    "eval_step": "train",
    "feature_maps": "evaluation.interpret",
    "load": "evaluation.loading",
    "read_picture": "preprocessing.photo",
    "run": "experiment",
    "saliency": "evaluation.interpret",
    "train_epoch": "train",
    "train_step": "train",
}


def __getattr__(name: str) -> Any:
    """Imports a public name from its module."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})

"""The initial state of one model of a sweep, whose optimizer keeps its hyperparameters as arrays.

So one compiled step serves all models of the sweep.
"""

import functools
from collections.abc import Mapping

import optax
from jax import Array
from ml_collections import ConfigDict

from cnn_jax.config import sweep
from cnn_jax.nn.optimizer import make_optimizer
from cnn_jax.train import TrainState, create_train_state, steps_per_epoch


def create_swept_state(
    config: ConfigDict,
    key: Array,
    image_shape: tuple[int, int, int],
    num_classes: int,
    num_examples: int,
    hyperparameters: Mapping[str, Array],
) -> TrainState:
    """Draws the initial parameters of one model, and sets up its optimizer.

    Args:
      config: config of all models, checked by `schema.check`.
      key: random key of this model.
      image_shape: (height, width, channels).
      num_classes: number of logits.
      num_examples: size of the training set.
      hyperparameters: this model's value, float32 [], of each field for which the config has
        several values; empty: none is swept, and the state is that of `create_train_state`.
    """
    if not hyperparameters:
        return create_train_state(config, key, image_shape, num_classes, num_examples)
    first = sweep.single_model_config(config, 0)
    state = create_train_state(first, key, image_shape, num_classes, num_examples)
    optimizer = _swept_optimizer(
        config.optimizer,
        config.schedule,
        config.num_epochs * steps_per_epoch(num_examples, config.batch_size),
        tuple((k, float(config[k])) for k in sweep.SWEEPABLE if k not in hyperparameters),
        tuple(hyperparameters),
    )
    opt_state = optimizer.init(state.params)
    opt_state = opt_state._replace(hyperparams={**opt_state.hyperparams, **hyperparameters})
    return state.replace(opt_state=opt_state, optimizer=optimizer)


@functools.cache  # As `nn.optimizer.cached_optimizer`.
def _swept_optimizer(
    name: str,
    schedule: str,
    num_steps: int,
    fixed: tuple[tuple[str, float], ...],
    swept: tuple[str, ...],
) -> optax.GradientTransformation:
    """Returns the optimizer that takes its `swept` hyperparameters from its state."""
    make = functools.partial(make_optimizer, name, schedule, num_steps, **dict(fixed))
    return optax.inject_hyperparams(make)(**dict.fromkeys(swept, 0.0))

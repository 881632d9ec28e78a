"""Optax's optimizers by name, and the learning rate as a function of the step."""

import functools
from typing import Any

import jax
import optax
from jax import Array


@functools.cache  # The same optimizer object for the same arguments, so that jit knows it again.
def make_optimizer(
    name: str,
    schedule: str,
    num_steps: int,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    swept: tuple[str, ...] = (),
) -> optax.GradientTransformation:
    """Optax's optimizer of that name.

    Args:
      name: `sgd`, `nesterov`, `adam` or `adamw`.
      schedule: see `learning_rate_schedule`.
      num_steps: length of the run.
      learning_rate: the largest one.
      momentum: of SGD, 0..1; 0 does without.
      weight_decay: 0 does without.
      swept: of the three numbers before, those that are part of the optimizer's state instead, see
        `with_numbers`.
    """
    numbers = {
        "learning_rate": learning_rate,
        "momentum": momentum,
        "weight_decay": weight_decay,
    }
    fixed = {key: value for key, value in numbers.items() if key not in swept}
    if not swept:
        return _make(name, schedule, num_steps, **fixed)
    make = functools.partial(_make, name, schedule, num_steps, **fixed)
    injected = optax.inject_hyperparams(make)
    transformation: optax.GradientTransformation = injected(**{k: numbers[k] for k in swept})
    return transformation


def set_hyperparameters(opt_state: Any, numbers: dict[str, Array]) -> Any:
    """An optimizer's state with other values of what is swept; none: the state as it is."""
    if not numbers:
        return opt_state
    return opt_state._replace(hyperparams={**opt_state.hyperparams, **numbers})


def _make(
    name: str,
    schedule: str,
    num_steps: int,
    *,
    learning_rate: float | Array,
    momentum: float | Array,
    weight_decay: float | Array,
) -> optax.GradientTransformation:
    rates = learning_rate_schedule(schedule, learning_rate, num_steps)
    if name == "adam":
        return optax.adam(rates)
    if name == "adamw":  # Decay apart from the gradient (Loshchilov and Hutter, 2019).
        return optax.adamw(rates, weight_decay=weight_decay)
    sgd = optax.sgd(rates, None if _is_zero(momentum) else momentum, nesterov=name == "nesterov")
    if _is_zero(weight_decay):
        return sgd
    # L2: the decay is part of the gradient, as in PyTorch's SGD.
    return optax.chain(optax.add_decayed_weights(weight_decay), sgd)


def _is_zero(number: float | Array) -> bool:
    """Whether it is 0 for every network; what is swept is not known while a program is traced."""
    return not isinstance(number, jax.Array) and number == 0


def learning_rate_schedule(name: str, peak: float | Array, num_steps: int) -> optax.Schedule:
    """The learning rate as a function of the step, 0..num_steps-1.

    Args:
      name: `constant`; `cosine`, from the peak down to 0 along half a cosine; or `one_cycle`
        (Smith and Topin, 2018), from peak / 25 up over 30 % of the run, then down to
        peak / 250,000.
      peak: the largest rate.
      num_steps: length of the run.
    """
    if name == "cosine":
        return optax.cosine_decay_schedule(peak, num_steps)
    if name == "one_cycle":
        return optax.cosine_onecycle_schedule(num_steps, peak)
    return optax.constant_schedule(peak)

"""Optax optimizers by name, and learning-rate schedules."""

import functools

import jax
import optax
from jax import Array


def make_optimizer(
    name: str,
    schedule: str,
    num_steps: int,
    learning_rate: float | Array,
    momentum: float | Array,
    weight_decay: float | Array,
) -> optax.GradientTransformation:
    """Returns an Optax optimizer.

    Args:
      name: `sgd`, `nesterov`, `adam` or `adamw`.
      schedule: `constant`, `cosine` or `one_cycle`, defined in `learning_rate_schedule`.
      num_steps: length of the run in steps.
      learning_rate: the peak of the schedule.
      momentum: momentum of `sgd` and `nesterov`, 0..1.
      weight_decay: L2 penalty of `sgd` and `nesterov`, decoupled decay of `adamw`, on all weights
        and biases. `adam` has none.

    Raises:
      ValueError: for any other name of an optimizer or schedule.
    """
    rates = learning_rate_schedule(schedule, learning_rate, num_steps)
    if name == "adam":
        return optax.adam(rates)
    if name == "adamw":  # The decay is decoupled from the gradient (Loshchilov and Hutter, 2019).
        return optax.adamw(rates, weight_decay=weight_decay)
    if name not in ("sgd", "nesterov"):
        raise ValueError(f"name={name!r} is invalid: it must be sgd, nesterov, adam or adamw.")
    sgd = optax.sgd(rates, None if _is_zero(momentum) else momentum, nesterov=name == "nesterov")
    if _is_zero(weight_decay):
        return sgd
    # L2: the decay is part of the gradient, as in PyTorch's SGD.
    return optax.chain(optax.add_decayed_weights(weight_decay), sgd)


# The same object for the same arguments, since `jax.jit` would compile again for another one.
cached_optimizer = functools.cache(make_optimizer)


def _is_zero(hyperparameter: float | Array) -> bool:
    """Returns whether it is the number 0; False for an array, whose value JAX may not know yet."""
    return not isinstance(hyperparameter, jax.Array) and hyperparameter == 0


def learning_rate_schedule(name: str, peak: float | Array, num_steps: int) -> optax.Schedule:
    """Returns the learning rate as a function of the step, 0..num_steps-1.

    Args:
      name: `constant`; `cosine`, which falls from the peak to 0 along half a cosine; or `one_cycle`
        (Smith and Topin, 2018), which rises from peak / 25 over the first 30 % of the run and then
        falls to peak / 250,000.
      peak: the largest learning rate.
      num_steps: length of the run in steps.

    Raises:
      ValueError: for any other name.
    """
    if name == "cosine":
        return optax.cosine_decay_schedule(peak, num_steps)
    if name == "one_cycle":
        return optax.cosine_onecycle_schedule(num_steps, peak)
    if name == "constant":
        return optax.constant_schedule(peak)
    raise ValueError(f"name={name!r} is invalid: it must be constant, cosine or one_cycle.")

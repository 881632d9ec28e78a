"""The two forms of a stage of the model, either of which a benchmark forces on any platform."""

from typing import Any
from unittest import mock

import jax
from jax import Array

from cnn_jax.nn import conv

# The branches of `conv.conv_stage`: XLA's own convolution, which accelerators use, and the fused
# matrix products, which CPUs use.
FORMS = {"convolution": "default", "blocks": "cpu"}

_conv_stage = conv.conv_stage


def force(form: str) -> None:
    """Makes all programs that this process traces from here on use a form, a key of `FORMS`."""

    def choose(*arguments: Any, **branches: Any) -> Any:
        return branches[FORMS[form]](*arguments)

    def conv_stage(*arguments: Any) -> Array:
        with mock.patch.object(jax.lax, "platform_dependent", choose):
            return _conv_stage(*arguments)

    vars(conv)["conv_stage"] = conv_stage

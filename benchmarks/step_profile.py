"""Finds out where the time of a training step goes, by JAX's profiler.

The profiler reports how long each instruction of the compiled program takes. Which operation of the
network an instruction belongs to follows from the products of the program, because every
convolution is a matrix product, whatever its form: from what the instruction needs and from what
needs it.
"""

import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax

from benchmarks import hlo
from benchmarks.jax_contenders import CnnJax

# `other`: the batch, the loss, the metrics, and the new parameters.
OPERATIONS = ("forward", "gradient of kernel", "gradient of image", "pooling", "other")

PROFILED_STEPS = 20

_NAME = re.compile(r"%([\w.-]+)")
_SCOPE = re.compile(r'op_name="([^"]*)"')
_LAYER = re.compile(r"/((?:conv|linear)_\d+)/")


class _Instruction(NamedTuple):
    """An instruction of a step.

    Attributes:
      layer: of the network, such as `conv_1`; empty outside the network.
      is_backward: whether it belongs to the backward pass.
      is_product: whether it is or contains a matrix product.
      ancestors: names of all instructions of the step that it needs.
    """

    layer: str
    is_backward: bool
    is_product: bool
    ancestors: frozenset[str]


def profile(contender: CnnJax) -> dict[str, float]:
    """Trains for `PROFILED_STEPS` steps under the profiler.

    XLA executes instructions that do not need each other at the same time, and most of them on all
    cores, so that the sum differs from the time of a step.

    Returns:
      The milliseconds per step that the instructions of each of the `OPERATIONS` take, in total.
    """
    contender.train(1, PROFILED_STEPS)
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            contender.train(1, PROFILED_STEPS)  # The epoch whose order is already there.
        (file,) = Path(folder).rglob("*.xplane.pb")
        profile_data = jax.profiler.ProfileData.from_file(str(file))
    operations = operation_of_instructions(contender.program.as_text() or "")
    milliseconds = dict.fromkeys(OPERATIONS, 0.0)
    for plane in profile_data.planes:
        for line in plane.lines:
            for event in line.events:
                if operation := operations.get(event.name):
                    milliseconds[operation] += event.duration_ns / 1e6 / PROFILED_STEPS
    return milliseconds


def operation_of_instructions(program: str) -> dict[str, str]:
    """Returns which of the `OPERATIONS` each instruction of a step belongs to, by its name.

    - forward: the products of the forward pass, with what they need of their layer, such as
      windows.
    - gradient of image, gradient of kernel: the products of the backward pass, with what is made of
      their results. Other products of the backward pass need the gradient of an image, also that of
      the last feature map; none needs that of a kernel. Windows that the backward pass computes
      again belong to the product that needs them.
    - pooling: what else happens in a convolution's layer, with bias and activation, in both passes.

    XLA fuses instructions; a fused one belongs where its result belongs. So a pooling whose result
    is cut into windows by the same instruction counts as forward.

    Args:
      program: HLO text of the loop over steps.
    """
    instructions = _parse_step(program)
    products = {n: i for n, i in instructions.items() if i.is_product and i.layer}
    backward = {name for name, i in products.items() if i.is_backward}
    of_images = backward & _union(products[name].ancestors for name in backward)

    def operation(name: str, instruction: _Instruction) -> str:
        key = instruction.layer, instruction.is_backward
        same_pass = {n for n, i in products.items() if (i.layer, i.is_backward) == key}
        needed = same_pass & (instruction.ancestors | {name})  # Itself, if it is a product.
        needed_by = {n for n in same_pass if name in products[n].ancestors}
        if not instruction.is_backward:
            if name in same_pass or needed_by:
                return "forward"
        elif needed:
            return "gradient of image" if needed & of_images else "gradient of kernel"
        elif needed_by and needed_by <= of_images:
            return "gradient of image"
        elif needed_by and not (needed_by & of_images or instruction.ancestors & backward):
            return "gradient of kernel"
        return "pooling" if instruction.layer.startswith("conv") else "other"

    return {name: operation(name, instruction) for name, instruction in instructions.items()}


def _parse_step(program: str) -> dict[str, _Instruction]:
    """Returns the instructions of a step by name, in order."""
    computations, _ = hlo.split_computations(program)
    match = hlo.LOOP_BODY.search(hlo.loop_over_steps(program))
    assert match
    result: dict[str, _Instruction] = {}
    for line in _lines_of_step(computations, match[1]):
        name, *others = _NAME.findall(line)
        operands = [result[other] for other in others if other in result]
        called = [computations[c] for c in hlo.called_by(line) if c in computations]
        text = "\n".join([line, *called])
        if scopes := _SCOPE.findall(text):
            layers, is_backward = _LAYER.findall(scopes[0]), "transpose(jvp(" in scopes[0]
        else:  # XLA names no source of some instructions that it makes: that of their operands.
            layers = [operand.layer for operand in operands if operand.layer]
            is_backward = any(operand.is_backward for operand in operands)
        result[name] = _Instruction(
            layers[0] if layers else "",
            is_backward,
            is_product=" dot(" in text,
            ancestors=frozenset(n for n in others if n in result)
            | _union(operand.ancestors for operand in operands),
        )
    return result


def _lines_of_step(computations: Mapping[str, str], body: str) -> list[str]:
    """Returns the lines of a step's body; of the loop over parts of a batch, those of its body."""
    lines: list[str] = []
    for line in computations[body].splitlines():
        loop = hlo.LOOP_BODY.search(line)
        lines += _lines_of_step(computations, loop[1]) if loop else [line]
    return lines


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)

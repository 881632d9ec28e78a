"""Reads the HLO text of a compiled loop: which instructions one step executes."""

import re

_COMPUTATION = re.compile(r"^(ENTRY )?%(\S+) \(.*?\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
LOOP_BODY = re.compile(r" while\(.* body=%([^\s,]+)")
TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(
    r"(?:calls|to_apply|condition|body)=%([^\s,}]+)|(?:branch|called)_computations=\{(.*?)\}"
)


def split_computations(program: str) -> tuple[dict[str, str], str]:
    """Splits HLO text, from `jax.stages.Compiled.as_text`, into its computations.

    Returns:
      The instructions of each computation by its name, one a line; and the name of the first one to
      be executed.
    """
    instructions, entry = {}, ""
    for is_entry, name, lines in _COMPUTATION.findall(program):
        instructions[name] = lines
        entry = name if is_entry else entry
    return instructions, entry


def called_by(instruction: str) -> list[str]:
    """Returns the names of the computations that an instruction calls."""
    groups = _CALLED.findall(instruction)
    return [name for group in groups for name in re.findall(r"[^\s,%]+", group[0] or group[1])]


def loop_over_steps(program: str) -> str:
    """Returns the instruction that executes the loop over steps.

    Raises:
      ValueError: when the program has no loop, or several.
    """
    instructions, entry = split_computations(program)
    loops = [line for line in instructions[entry].splitlines() if LOOP_BODY.search(line)]
    if len(loops) != 1:
        raise ValueError(f"the program has {len(loops)} loops: it must have one, over the steps.")
    return loops[0].strip()


def step_instructions(program: str) -> list[str]:
    """Returns the instructions of a step, with those of all computations that it calls.

    The condition of the loop over steps does not belong to the step.
    """
    instructions, _ = split_computations(program)
    match = LOOP_BODY.search(loop_over_steps(program))
    assert match
    names, step = [match[1]], []
    for name in names:  # It grows in the loop.
        lines = [line.strip() for line in instructions[name].splitlines()]
        step += lines
        called = dict.fromkeys(c for line in lines for c in called_by(line))
        names += [c for c in called if c not in names]
    return step

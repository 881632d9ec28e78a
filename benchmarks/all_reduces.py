"""What devices that share a batch say to each other in a step, read from the compiled program."""

import math
import re
from typing import NamedTuple

_COMPUTATION = re.compile(r"^(ENTRY )?%(\S+) \(.*?\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_ALL_REDUCE = re.compile(r" = (.*?) all-reduce(?:-start)?\(")
_BODY = re.compile(r" while\(.* body=%([^\s,]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(r"(?:calls|to_apply)=%([^\s,]+)|branch_computations=\{(.*?)\}")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+)\w*\[([\d,]*)\]")


class AllReduces(NamedTuple):
    """Those of a step.

    Attributes:
      number: how many there are.
      num_bytes: of all that they add up, on each device.
    """

    number: int
    num_bytes: int


def of_a_step(program: str) -> AllReduces:
    """Those inside the loop over steps, times the turns of loops inside that one.

    Args:
      program: text of a compiled loop over steps, as `jax.stages.Compiled.as_text` says it.
    """
    bodies = {}
    entry = ""
    for is_entry, name, body in _COMPUTATION.findall(program):
        bodies[name] = body
        entry = name if is_entry else entry

    def walk(name: str, times: int) -> list[int]:
        """Bytes of each, of a computation that a step goes through so often; 0: out of the loop."""
        sizes = []
        for line in bodies[name].splitlines():
            if found := _ALL_REDUCE.search(line):
                sizes += [_num_bytes(found[1])] * times
            elif found := _BODY.search(line):
                trips = _TRIPS.search(line)
                sizes += walk(found[1], times * int(trips[1]) if times and trips else times or 1)
            elif found := _CALLED.search(line):
                for called in re.findall(r"[^\s,%]+", found[1] or found[2]):
                    sizes += walk(called, times)
        return sizes

    sizes = walk(entry, 0)
    return AllReduces(len(sizes), sum(sizes))


def _num_bytes(shape: str) -> int:
    """Bytes of an array or a tuple of some, as in `(f32[1,8]{1,0}, s32[1]{0})`."""
    total = 0
    for kind, lengths in _ARRAY.findall(shape):
        bits = 8 if kind == "pred" else int(re.sub(r"\D", "", kind))
        total += bits // 8 * math.prod(int(length) for length in lengths.split(",") if length)
    return total

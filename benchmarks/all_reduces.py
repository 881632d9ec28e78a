"""Counts the all-reduces of a training step in the text of the compiled program."""

import math
import re
from typing import NamedTuple

_COMPUTATION = re.compile(r"^(ENTRY )?%(\S+) \(.*?\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_ALL_REDUCE = re.compile(r" = (.*?) all-reduce(?:-start)?\(")
_LOOP_BODY = re.compile(r" while\(.* body=%([^\s,]+)")
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(r"(?:calls|to_apply)=%([^\s,]+)|branch_computations=\{(.*?)\}")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+)\w*\[([\d,]*)\]")


class AllReduces(NamedTuple):
    """All-reduces of one training step.

    Attributes:
      num_all_reduces: number of all-reduces.
      num_bytes: total size of the arrays that they reduce, on each device.
    """

    num_all_reduces: int
    num_bytes: int


def count_all_reduces(program: str) -> AllReduces:
    """Counts the all-reduces inside the loop over steps.

    An all-reduce in a nested loop counts once for each iteration of that loop. All-reduces outside
    the loop over steps do not count.

    Args:
      program: HLO text of a compiled loop over steps, from `jax.stages.Compiled.as_text`.
    """
    bodies = {}
    entry = ""
    for is_entry, name, body in _COMPUTATION.findall(program):
        bodies[name] = body
        entry = name if is_entry else entry

    def sizes_in_bytes(name: str, times: int) -> list[int]:
        """Returns the size of each all-reduce that a computation executes in one step.

        Args:
          name: of the computation.
          times: how often one step executes it; 0 outside the loop over steps.
        """
        sizes = []
        for line in bodies[name].splitlines():
            if match := _ALL_REDUCE.search(line):
                sizes += [_num_bytes(match[1])] * times
            elif match := _LOOP_BODY.search(line):
                trips = _TRIP_COUNT.search(line)
                # The outermost loop is the loop over steps: its body is executed once in a step.
                inner_times = times * int(trips[1]) if times and trips else times or 1
                sizes += sizes_in_bytes(match[1], inner_times)
            elif match := _CALLED.search(line):
                for called in re.findall(r"[^\s,%]+", match[1] or match[2]):
                    sizes += sizes_in_bytes(called, times)
        return sizes

    sizes = sizes_in_bytes(entry, 0)
    return AllReduces(len(sizes), sum(sizes))


def _num_bytes(hlo_shape: str) -> int:
    """Returns the bytes of an array or of a tuple such as `(f32[1,8]{1,0}, s32[1]{0})`."""
    total = 0
    for dtype, lengths in _ARRAY.findall(hlo_shape):
        bits = 8 if dtype == "pred" else int(re.sub(r"\D", "", dtype))
        total += bits // 8 * math.prod(int(length) for length in lengths.split(",") if length)
    return total

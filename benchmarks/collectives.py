"""Counts the collective operations of a compiled loop: what devices send each other in one step."""

import collections
import math
import re

from benchmarks import hlo

_COLLECTIVE = re.compile(
    r" = (.*?) (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+)\w*\[([\d,]*)\]")


def count_collectives(program: str) -> dict[str, tuple[int, int]]:
    """Counts the collective operations inside the loop over steps.

    An operation in a nested loop counts once for each iteration of that loop. Operations outside
    the loop over steps do not count.

    Args:
      program: HLO text of a compiled loop over steps, from `jax.stages.Compiled.as_text`.

    Returns:
      For each kind of operation that occurs, such as `all-reduce`: how often one step executes it,
      and the total bytes of its results on each device (and of the operands that an asynchronous
      operation returns with them).
    """
    instructions, entry = hlo.split_computations(program)
    sizes_by_kind: dict[str, list[int]] = collections.defaultdict(list)

    def count_in(name: str, times: int) -> None:
        """Counts the operations of a computation.

        Args:
          name: of the computation.
          times: how often one step executes it; 0 outside the loop over steps.
        """
        for line in instructions[name].splitlines():
            if match := _COLLECTIVE.search(line):
                sizes_by_kind[match[2]] += [_num_bytes(match[1])] * times
            elif match := hlo.LOOP_BODY.search(line):
                trips = hlo.TRIP_COUNT.search(line)
                # The outermost loop is the loop over steps: its body is executed once in a step.
                count_in(match[1], times * int(trips[1]) if times and trips else times or 1)
            else:
                for called in hlo.called_by(line):
                    count_in(called, times)

    count_in(entry, 0)
    return {kind: (len(sizes), sum(sizes)) for kind, sizes in sizes_by_kind.items() if sizes}


def _num_bytes(hlo_shape: str) -> int:
    """Returns the bytes of an array or of a tuple such as `(f32[1,8]{1,0}, s32[1]{0})`."""
    total = 0
    for dtype, lengths in _ARRAY.findall(hlo_shape):
        bits = 8 if dtype == "pred" else int(re.sub(r"\D", "", dtype))
        total += bits // 8 * math.prod(int(length) for length in lengths.split(",") if length)
    return total

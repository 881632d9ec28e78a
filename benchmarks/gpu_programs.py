"""Counts what a training step launches on a GPU that is not there, and prints a table.

    GPU_TARGET_CONFIG=FILE python benchmarks/gpu_programs.py

`gpu_target.py` says what it needs. Nothing is executed: the counts are those of XLA's own list of
launches ("thunks") for the program that takes full chunks of the reference config. A thunk is a
kernel, a call of a library, or a copy. XLA combines thunks in a row to one CUDA graph, which the
host launches at once.
"""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import gpu_target

NUM_MODELS = (1, 64)

_THUNK = re.compile(r"^( *)\d+: (k\w+)")


class Launches(NamedTuple):
    """Launches of a training step.

    Attributes:
      thunks: kernels, calls of libraries and copies.
      by_host: launches by the host: thunks, and graphs of several.
    """

    thunks: int
    by_host: int


def count_launches(thunks: str) -> Launches:
    """Counts the launches of one step.

    Args:
      thunks: the file `*.thunk_sequence_after_thunk_passes.txt` that XLA writes for a loop over
        steps whose number is known, so that the step alone is executed, and no condition.
    """
    _, _, loop = thunks.partition(": kWhile")
    _, _, after_condition = loop.partition("  body:\n")
    in_body = []
    for line in after_condition.splitlines():
        match = _THUNK.match(line)
        if not match or not match[1]:  # Without indentation: after the loop.
            break
        in_body.append((len(match[1]), match[2]))
    top = min((indentation for indentation, _ in in_body), default=0)
    return Launches(
        thunks=sum(kind != "kCommandBuffer" for _, kind in in_body),
        by_host=sum(indentation == top for indentation, _ in in_body),
    )


def launches_of(num_models: int, form: str, deterministic: bool) -> Launches:
    """Compiles a training program and counts the launches of its step; as in `conv_forms`."""
    import jax

    from benchmarks import conv_forms
    from cnn_jax.config import schema
    from cnn_jax.engine import compile
    from configs import mnist

    config = mnist.get_config()
    config.num_models, config.deterministic = num_models, deterministic
    info = schema.check(config)
    mesh = gpu_target.make_mesh(1, 1)
    conv_forms.force(form)
    jax.clear_caches()  # Or JAX would use what it has traced in the other form.
    state = compile.state_shapes(config, info, mesh)
    num_steps = compile.full_chunk(config, info, None)
    lowered = compile.lower_train(config, info, mesh, None, state, num_steps)
    with tempfile.TemporaryDirectory() as folder:
        lowered.compile({"xla_dump_to": folder, "xla_dump_hlo_as_text": True})
        (file,) = Path(folder).glob("*thunk_sequence_after_thunk_passes.txt")
        return count_launches(file.read_text())


def main() -> None:
    """Prints the table, in Markdown."""
    if missing := gpu_target.what_is_missing():
        print(f"error: cannot compile for a GPU: {missing}.", file=sys.stderr)
        sys.exit(2)
    os.environ.update(gpu_target.ENVIRONMENT)
    from benchmarks.conv_forms import FORMS

    print("| models | form | deterministic | thunks | launches by the host |")
    print("|---|---|---|---|---|")
    for num_models in NUM_MODELS:
        for form in FORMS:
            for deterministic in (True, False):
                launches = launches_of(num_models, form, deterministic)
                cells = num_models, form, "yes" if deterministic else "no", *launches
                print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()

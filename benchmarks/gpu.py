"""Measures the training speed on a GPU: this project in several forms, and PyTorch, in turns.

    python benchmarks/gpu.py --data=FOLDER [--models=1,8,64,1024] [--turns=10]

FOLDER holds the four original MNIST files; without --data they are downloaded. PyTorch comes with
the extra `bench`, and must be built for the GPU; it trains one model. Programs that train the same
number of models take turns of one epoch while the others wait, each in its own process. The first
turn of each is not measured: at its first launch a GPU loads the kernels, and XLA makes graphs.
With 1,024 models a process needs about 11 GB of the GPU's memory, and there are six of them.

Each row is a form of the convolution and a setting of XLA's command buffers (CUDA graphs):

- convolution: XLA's own, by cuDNN, as in every run on a GPU;
- blocks: the fused matrix products, by cuBLAS, as in every run on a CPU;
- off: the host launches every kernel; default: graphs of the kernels between convolutions, as in
  every run; loop: of the convolutions, too, and of the loop over steps: a chunk is one graph.

The columns are milliseconds per step and model (median, minimum and maximum of n turns), the ratio
of the medians to "convolution, default" with as many models, and the peak of the GPU's memory.
"""

import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import gpu_tables, machine, shared_flags
from benchmarks.contenders import PYTORCH_ON_GPU
from benchmarks.conv_forms import FORMS
from benchmarks.turns import MeasuredProcess, run_in_turns

_DATASET = shared_flags.define_dataset()
_MODELS = flags.DEFINE_list("models", ["1", "8", "64", "1024"], "Numbers of models.")
_TURNS = flags.DEFINE_integer("turns", 10, "Measured epochs of each row.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 469, "Steps per epoch, of 128 images.", lower_bound=1)
_JSON = flags.DEFINE_string("json", "gpu.json", "File that the results are written to.")

COMMAND_BUFFERS = {
    "default": "",
    "off": "--xla_gpu_enable_command_buffer=",
    "loop": "--xla_gpu_enable_command_buffer=+CONVOLUTION,+WHILE",
}


class GpuProcess(MeasuredProcess):
    """Measures one row on the first GPU."""

    def __init__(self, module: str, *arguments: str, **environment: str) -> None:
        gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        super().__init__(module, *arguments, CUDA_VISIBLE_DEVICES=gpu, **environment)
        self.result |= {"train_seconds": []}

    def train(self, turn: int, command: str) -> None:
        """Trains for one epoch, and measures it from the second turn on."""
        trained = self._run_command(command)
        if turn > 1:
            self.result["train_seconds"].append(trained["seconds"])


class JaxProcess(GpuProcess):
    """Measures this project."""

    def __init__(self, form: str, command_buffers: str, num_models: int) -> None:
        xla_flags = f"{os.environ.get('XLA_FLAGS', '')} {COMMAND_BUFFERS[command_buffers]}".strip()
        turns = str(1 + _TURNS.value)
        super().__init__(
            "benchmarks.gpu_training",
            *(form, f"gpux{num_models}", _DATASET.value, str(_STEPS.value), turns),
            shared_flags.manual_dir(),
            XLA_FLAGS=xla_flags,
            XLA_PYTHON_CLIENT_PREALLOCATE="false",  # The processes share the memory.
        )

    def take_turn(self, turn: int) -> None:
        """Trains for one epoch."""
        self.train(turn, f"train {turn}")
        self.result["peak_megabytes"] = self._run_command("peak_megabytes")["value"]


class TorchProcess(GpuProcess):
    """Measures PyTorch."""

    def __init__(self) -> None:
        arguments = PYTORCH_ON_GPU, _DATASET.value, shared_flags.manual_dir()
        super().__init__("benchmarks.contenders", *arguments)

    def take_turn(self, turn: int) -> None:
        """Trains for one epoch."""
        self.train(turn, f"train {turn} {_STEPS.value}")


def measure(num_models: int) -> dict[str, Any]:
    """Runs all rows of a number of models in turns; returns the results by name."""
    starters: dict[str, Callable[[], MeasuredProcess]] = {
        f"{form}, {buffers}": functools.partial(JaxProcess, form, buffers, num_models)
        for form in FORMS
        for buffers in COMMAND_BUFFERS
    }
    if num_models == 1 and machine.torch_has_gpu():
        starters[PYTORCH_ON_GPU] = TorchProcess
    return run_in_turns(starters, 1 + _TURNS.value)


def main(argv: Sequence[str]) -> None:
    """Measures, prints the table and writes the JSON file."""
    del argv
    try:
        numbers = [int(text) for text in _MODELS.value]
        if min(numbers, default=0) < 1:
            raise ValueError
    except ValueError as error:
        raise app.UsageError(
            f"--models={','.join(_MODELS.value)} is invalid: it must be integers >= 1, separated "
            "by commas. Use for example 1,64."
        ) from error
    gpus = machine.gpu_names()
    if not gpus:
        print(
            "error: JAX finds no GPU, and this benchmark needs one. Install '.[cuda]' on a machine "
            "with an NVIDIA GPU, or run benchmarks/train_speed.py.",
            file=sys.stderr,
        )
        sys.exit(2)
    info = machine.describe_machine() | {"gpu": gpus[0]}
    print(f"{info['gpu']}; {machine.format_machine(info)}")
    if not machine.torch_has_gpu():
        print("PyTorch finds no GPU: its row is left out. Install its build for the GPU.")
    results = {num_models: measure(num_models) for num_models in numbers}
    print("\n".join(gpu_tables.training_table(results, _STEPS.value)))
    Path(_JSON.value).write_text(json.dumps({**info, "results": results}, indent=2) + "\n", "utf-8")
    print(f"Results written to {_JSON.value}")


if __name__ == "__main__":
    app.run(main)

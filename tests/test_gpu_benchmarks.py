"""The benchmarks for GPUs, as far as they run without one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks import conv_forms, gpu_programs, gpu_tables
from cnn_jax.nn import conv
from cnn_jax.nn.shapes import Stage
from tests.support.command_line import ROOT

# A graph of two kernels, a convolution, and a kernel, in a loop after a graph and before a copy.
THUNKS = """\
000: kCommandBuffer [source | next=002]
    001: kCopy         [source | sink] kCopy
002: kWhile         [prev=000 | next=008]
condition:
    003: kCustomKernel [source | sink] loop_compare_fusion
  body:
    000: kCommandBuffer [source | next=006]
        004: kCustomKernel [source | next=005] loop_add_fusion
        005: kCublasLtMatmul [prev=004 | sink] kCublasLtMatmul
    006: kConvolution   [prev=000 | next=007] kConvolution
    007: kCustomKernel  [prev=006 | sink] loop_select_fusion
008: kCopy          [prev=002 | sink] kCopy
"""


def test_launches_of_a_step_are_counted() -> None:
    # 004 to 007 are four thunks. The host launches one graph, 006 and 007.
    assert gpu_programs.count_launches(THUNKS) == (4, 3)


@pytest.mark.parametrize(("form", "uses_xla"), [("convolution", True), ("blocks", False)])
@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_form_of_the_convolution_can_be_forced(
    form: str, uses_xla: bool, platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conv, "conv_stage", conv.conv_stage)  # To undo what follows.
    conv_forms.force(form)
    shapes = ((2, 6, 6, 1), (3, 3, 1, 4), (4,))
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    stage = Stage(3, 1, "SAME", "relu", "max")
    jitted = jax.jit(lambda image, kernel, bias: conv.conv_stage(image, kernel, bias, stage))
    exported = jax.export.export(jitted, platforms=[platform])(*arguments)
    assert ("stablehlo.convolution" in exported.mlir_module()) == uses_xla


def test_gpu_table_has_ratios_to_the_runs_form() -> None:
    results: dict[int, dict[str, Any]] = {
        1: {
            "convolution, default": {"train_seconds": [1.0, 3.0, 2.0], "peak_megabytes": 300.4},
            "PyTorch, GPU": {"train_seconds": [8.0]},
        },
        8: {"convolution, default": {"train_seconds": [4.0], "peak_megabytes": 500.0}},
    }
    single, torch, eight = gpu_tables.training_table(results, num_steps=100)[2:]
    # 2 s / 100 steps = 20 ms; 4 s / 100 steps / 8 models = 5 ms.
    assert single.split() == ["1", "convolution,", "default", "20.00000", "(10.00000", "-",
                              "30.00000)", "3", "1.00", "300"]  # fmt: skip
    assert torch.split()[-3:] == ["1", "4.00", "-"]
    assert eight.split()[3:] == ["5.00000", "(5.00000", "-", "5.00000)", "1", "1.00", "500"]


# Two seconds, since it imports JAX to look for a GPU.
@pytest.mark.benchmark
def test_gpu_benchmark_refuses_to_run_without_a_gpu() -> None:
    process = subprocess.run(
        [sys.executable, "benchmarks/gpu.py"],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stdout) == (2, "")
    assert re.fullmatch(r"error: JAX finds no GPU, .*\n", process.stderr)


# The CPU instead of a GPU: the rows take their turns, and are in the table. Half a minute, since
# each row is a process that imports and compiles.
CODE = """
from absl import app
from benchmarks import gpu, machine
machine.gpu_names = lambda: ["pretended GPU"]
app.run(gpu.main)
"""


@pytest.mark.benchmark
def test_gpu_benchmark_measures_all_rows(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    flags = ["--dataset=digits", "--models=1", "--turns=1", "--steps=2", f"--json={file}"]
    process = subprocess.run(
        [sys.executable, "-c", CODE, *flags],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("pretended GPU; ")
    results = json.loads(file.read_text())["results"]["1"]
    # PyTorch, which cannot pretend, is left out.
    assert list(results) == [
        f"{form}, {buffers}"
        for form in ("convolution", "blocks")
        for buffers in ("default", "off", "loop")
    ]
    for measured in results.values():
        assert len(measured["train_seconds"]) == 1  # The first of two turns does not count.
        assert measured["train_seconds"][0] > 0
        assert measured["peak_megabytes"] > 0

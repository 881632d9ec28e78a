"""The benchmarks for GPUs, as far as they run without one."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import conv_forms, gpu_programs
from cnn_jax.nn import conv
from cnn_jax.nn.shapes import Stage

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

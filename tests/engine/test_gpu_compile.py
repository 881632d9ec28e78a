"""The loops compiled by XLA for GPUs that are not there: nothing is executed."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks import gpu_target, hlo
from benchmarks.collectives import count_collectives
from cnn_jax.config import fields, schema
from tests.engine.for_gpus import CASES, Case
from tests.support.command_line import ROOT
from tests.support.once import make_once

MISSING = gpu_target.what_is_missing()

pytestmark = [pytest.mark.hardware, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

Programs = Mapping[tuple[Case, str], str]

# Convolutions of cuDNN and products of cuBLAS; any other call could leave the GPU.
_LIBRARY_CALL = re.compile(r'custom_call_target="(__cudnn\$conv\w+|__cublas\$(?:lt\$matmul|gemm))"')
_PRODUCT = re.compile(r" (?:dot|convolution)\(|custom_call_target=\"__cu(?:dnn|blas)")
# S(5) is the memory of the host.
_HOST = re.compile(r" (?:send|recv|infeed|outfeed|copy-start)\(|S\(5\)")
_FULL_PRECISION = re.compile(
    r'operand_precision=\{highest,highest\b|"operand_precision":\["HIGHEST","HIGHEST"'
)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """The HLO text of each loop that `for_gpus.py` compiles, by case and name; takes a minute."""

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "tests.engine.for_gpus", str(folder)]
        environment = os.environ | gpu_target.ENVIRONMENT
        subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=500)

    folder = make_once(tmp_path_factory, "gpu_programs", make)[0]
    return {
        (case, path.stem): path.read_text()
        for case in CASES
        for path in (folder / case.name).iterdir()
    }


def test_cases_cover_all_settings() -> None:
    assert {(case.num_models, math.prod(case.devices), case.deterministic) for case in CASES} == {
        (models, devices, deterministic)
        for models in (1, 64)
        for devices in (1, 8)
        for deterministic in (True, False)
    }
    for key in ("model.pool", "model.padding", "model.activation", "optimizer"):
        names = fields.FIELDS[key].requirement.removeprefix("one of ").split(", ")
        values = {dict(schema.flatten(case.config))[key] for case in CASES}
        assert values == set(names), key


def test_all_loops_compile(programs: Programs) -> None:
    for case in CASES:
        loops = {name for of, name in programs if of == case}
        assert {"full_chunk", "evaluate"} <= loops
        assert ("train_steps" in loops) == (not case.changes)


def test_step_does_not_leave_the_gpu(programs: Programs) -> None:
    for program in programs.values():
        step = hlo.step_instructions(program)
        assert [line for line in step if _HOST.search(line)] == []
        calls = [line for line in step if " custom-call(" in line]
        assert [line for line in calls if not _LIBRARY_CALL.search(line)] == []


def test_products_have_full_float32_precision(programs: Programs) -> None:
    for (_, name), program in programs.items():
        step = hlo.step_instructions(program)
        products = [line for line in step if _PRODUCT.search(line)]
        # Two convolutions and the linear layer, each with a gradient of its weights and one of its
        # input; that of the image is not needed.
        assert len(products) == (3 if name == "evaluate" else 3 * 3 - 1)
        assert [line for line in products if not _FULL_PRECISION.search(line)] == []


def test_step_has_no_sort_no_scatter_and_no_loop(programs: Programs) -> None:
    for program in programs.values():
        step = hlo.step_instructions(program)
        assert [line for line in step if re.search(r" (sort|scatter|while)\(", line)] == []


def test_full_chunks_have_a_known_number_of_steps(programs: Programs) -> None:
    for case in CASES:
        loop = hlo.loop_over_steps(programs[case, "full_chunk"])
        # A stream's chunk has 4 MiB of images: 41 batches of 128 times 784 bytes.
        num_steps = 41 if case.feed == "stream" else case.config.log_every_steps
        assert hlo.TRIP_COUNT.findall(loop) == [str(num_steps)]


def canonical(instructions: list[str]) -> list[str]:
    """Returns instructions without names, places in tuples, and positions in the source; sorted."""
    lines = [re.sub(r", (metadata|sharding)=\{.*?\}+(?=,|$)", "", line) for line in instructions]
    lines = [re.sub(r"%[\w.\-]+|, index=\d+", "", line).strip() for line in lines]
    # The tuple of the loop's variables includes the number of steps where it is one of them.
    return sorted(line for line in lines if not re.search(r" (parameter|tuple)\(", line))


def test_full_chunks_have_the_step_of_all_chunks(programs: Programs) -> None:
    # So the bits of a run do not depend on how its batches are split into chunks, which depends on
    # the time that they take.
    compared = 0
    for (case, name), program in programs.items():
        if name == "train_steps":
            full_chunk = canonical(hlo.step_instructions(programs[case, "full_chunk"]))
            any_chunk = canonical(hlo.step_instructions(program))
            any_chunk.remove("= s32[] get-tuple-element()")  # The number of steps.
            assert full_chunk == any_chunk
            compared += 1
    assert compared == 2


def test_gpus_send_each_other_only_sums(programs: Programs) -> None:
    for (case, name), program in programs.items():
        kinds = count_collectives(program).keys()
        if math.prod(case.devices) == 1:
            assert kinds == set()
        elif case.num_models == 64:
            # Eight models on each GPU. Only the ensemble adds up probabilities.
            assert kinds == ({"all-reduce"} if name == "evaluate" else set())
        else:
            # The batches are split. An evaluation adds up its sums after the loop.
            assert kinds == (set() if name == "evaluate" else {"all-reduce"})

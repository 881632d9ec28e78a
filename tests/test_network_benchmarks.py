"""The networks of `train_speed.py --table`: equal in PyTorch, measured, and profiled."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import core_table, network_table, step_profile
from benchmarks.network_training import CONTENDERS
from benchmarks.networks import NETWORKS, describe, generate
from cnn_jax import train


@pytest.mark.parametrize("name", NETWORKS)
def test_network_in_pytorch_gives_the_same_logits(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from benchmarks.torch_contenders import build_model

    torch.set_num_threads(1)  # On busy cores, threads that wait for each other take seconds.
    network = NETWORKS[name]
    examples = generate(network.image_shape, 3)
    state = train.create_train_state(network.config, jax.random.key(1), network.image_shape)
    # Weights and biases that are large enough for a wrong order or padding to be seen.
    random = np.random.default_rng(1)
    params = jax.tree.map(
        lambda p: random.normal(0, np.prod(p.shape[:-1]) ** -0.5, p.shape).astype(np.float32),
        state.params,
    )
    model = build_model(network.config, describe(examples))
    assert sum(p.numel() for p in model.parameters()) == sum(
        p.size for p in jax.tree.leaves(params)
    )
    image = torch.tensor(examples.train.image).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        # In PyTorch a kernel is [out, in, k, k], and the rows of the last layer are in c, h, w.
        weighted = [module for module in model if hasattr(module, "weight")]
        for module, layer in zip(weighted[:-1], sorted(params)[:-1], strict=True):
            module.weight[:] = torch.tensor(params[layer]["kernel"].transpose(3, 2, 0, 1))
            module.bias[:] = torch.tensor(params[layer]["bias"])
        height, width = model[:-2](image).shape[2:]
        kernel = params["linear_1"]["kernel"].reshape(height, width, -1, 10)
        weighted[-1].weight[:] = torch.tensor(kernel.transpose(3, 2, 0, 1).reshape(10, -1))
        weighted[-1].bias[:] = torch.tensor(params["linear_1"]["bias"])
        expected = model(image).numpy()
    logits = train.logits_of(state.replace(params=params), jnp.asarray(examples.train.image))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.1


def test_network_table_compares_with_the_faster_form_of_pytorch() -> None:
    result = {
        "cnn_jax": {"step_ms": [2.0, 1.0, 4.0], "peak_megabytes": 300.4},
        "PyTorch": {"step_ms": [9.0, 8.0, 12.5], "peak_megabytes": 500.0},
        "PyTorch, channels_last": {"step_ms": [5.0, 6.0, 4.0], "peak_megabytes": 600.0},
        "floor_ms": [0.5, 0.25],
    }
    *_, line = network_table.training_table({"5x5": result}).splitlines()
    # Medians 2, 9 and 5: 5 / 2 = 2.5 times as long. The larger floor is a quarter of 2 ms.
    assert line.split() == ["5x5", "2.00", "(1.00-4.00)", "9.00", "(8.00-12.5)", "5.00",
                            "(4.00-6.00)", "3", "2.50", "300", "600", "0.50", "0.25",
                            "25%"]  # fmt: skip


def test_profile_table_has_shares() -> None:
    times = dict(zip(step_profile.OPERATIONS, (1.0, 2.0, 3.0, 4.0, 10.0), strict=True))
    *_, line = network_table.profile_table({"5x5": times}).splitlines()
    assert line.split() == ["5x5", "1.00", "(5%)", "2.00", "(10%)", "3.00", "(15%)", "4.00",
                            "(20%)", "10.0", "(50%)"]  # fmt: skip


@pytest.mark.parametrize(
    ("one_core", "all_cores", "num_cores", "expected"),
    [
        (5.0, 3.0, 2, 1.5),  # 1 ms that one core takes alone, and 4 ms that the cores share.
        (5.0, 2.0, 4, 1.5),
        (4.0, 2.0, 2, 0.5),  # Everything is shared.
        (4.0, 1.5, 2, 0.5),  # More than two cores can be expected to gain.
        (3.0, 3.0, 2, 3.0),  # Nothing is.
    ],
)
def test_estimate_follows_amdahls_law(
    one_core: float, all_cores: float, num_cores: int, expected: float
) -> None:
    assert core_table.estimate(one_core, all_cores, num_cores, 8) == pytest.approx(expected)


def test_core_table_has_medians_and_estimates() -> None:
    results = {"5x5": {1: [5.0, 6.0, 4.0], 2: [3.0, 2.0, 3.5]}}
    *_, line = core_table.format_results(results).splitlines()
    # Medians 5 and 3: 1 ms and 4 ms, as above.
    assert line.split() == ["5x5", "5.00", "(4.00-6.00)", "3.00", "(2.00-3.50)", "3", "1.67",
                            "2.00", "1.50", "1.25"]  # fmt: skip


def _measure_batch_32(table: str, file: Path) -> subprocess.CompletedProcess[str]:
    """Runs `train_speed.py` for one turn on one network; `table` is --table or --cores."""
    command = [sys.executable, "benchmarks/train_speed.py", table, "--networks=batch-32"]
    return subprocess.run(
        [*command, "--turns=1", f"--json={file}"],
        env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},  # Compiling takes most of it.
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.benchmark
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux sets the cores")
def test_cores_are_measured(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    process = _measure_batch_32("--cores", file)
    if len(os.sched_getaffinity(0)) < 2:
        assert process.returncode == 2
        assert process.stderr.startswith("error: --cores needs")
        return
    assert process.returncode == 0, process.stderr
    cell = r" +[\d.]+ \([\d.]+-[\d.]+\)"
    assert re.search(rf"batch-32{cell}{cell}  1( +[\d.]+){{4}}\n", process.stdout), process.stdout
    times = json.loads(file.read_text())["results"]["batch-32"]
    assert times.keys() == {"1", str(len(os.sched_getaffinity(0)))}


@pytest.mark.benchmark
def test_networks_are_measured(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    file = tmp_path / "results.json"
    process = _measure_batch_32("--table", file)
    assert process.returncode == 0, process.stderr
    cell = r" +[\d.]+ \([\d.]+-[\d.]+\)"
    columns = rf"batch-32{cell}{cell}{cell}  1( +[\d.]+){{5}} +\d+%\n"
    assert re.search(columns, process.stdout), process.stdout
    assert re.search(r"batch-32( +[\d.]+ \(\d+%\)){5}\n", process.stdout), process.stdout
    measured = json.loads(file.read_text())
    assert list(measured["results"]["batch-32"]) == [*CONTENDERS, "floor_ms"]
    profile = measured["profiles"]["batch-32"]
    assert list(profile) == list(step_profile.OPERATIONS)
    assert all(profile[operation] > 0 for operation in profile)


def test_operation_of_an_instruction_follows_from_the_products() -> None:
    forward, backward = "jit(step)/jvp(ConvNet)", "jit(step)/transpose(jvp(ConvNet))"
    # Name, arguments, scope. An instruction without a scope has that of its arguments.
    instructions = [
        ("batch", "%p", "jit(step)/gather"),
        ("windows_1", "%batch", f"{forward}/conv_1/stack"),
        ("dot_1", "%windows_1", ""),
        ("pool_1", "%dot_1", f"{forward}/conv_1/max"),
        ("windows_2", "%pool_1", f"{forward}/conv_2/stack"),
        ("dot_2", "%windows_2", f"{forward}/conv_2/dot_general"),
        ("pool_2", "%dot_2", f"{forward}/conv_2/max"),
        ("dot_3", "%pool_2", f"{forward}/linear_1/dot_general"),
        ("loss", "%dot_3", "jit(step)/jvp()/exp"),
        ("d_loss", "%loss", "jit(step)/transpose(jvp())/mul"),
        ("dot_4", "%pool_2, %d_loss", f"{backward}/linear_1/dot_general"),
        ("dot_5", "%p, %d_loss", f"{backward}/linear_1/dot_general"),
        ("unpool_2", "%dot_5", f"{backward}/conv_2/select_n"),
        ("windows_again", "%pool_1", f"{backward}/conv_2/stack"),
        ("dot_6", "%windows_again, %unpool_2", f"{backward}/conv_2/dot_general"),
        ("weights", "%p", f"{backward}/conv_2/pad"),
        ("dot_7", "%weights, %unpool_2", f"{backward}/conv_2/dot_general"),
        ("scatter_2", "%dot_7", f"{backward}/conv_2/add_any"),
        ("unpool_1", "%scatter_2", f"{backward}/conv_1/select_n"),
        ("dot_8", "%windows_1, %unpool_1", ""),
        ("bias", "%unpool_1", f"{backward}/conv_1/reduce_sum"),
        ("update", "%dot_4, %dot_6, %dot_8, %bias", "jit(step)/add"),
    ]
    lines = []
    for name, arguments, scope in instructions:
        operation = "dot" if name.startswith("dot") else "fusion"
        metadata = f', metadata={{op_name="{scope}"}}' if scope else ""
        lines.append(f"  %{name} = f32[2]{{0}} {operation}({arguments}){metadata}")
    body = "\n".join(["  %p = f32[2]{0} parameter(0)", *lines])
    program = (
        f"%body (p: f32[2]) -> f32[2] {{\n{body}\n}}\n\n"
        "ENTRY %main (p: f32[2]) -> f32[2] {\n  %p = f32[2]{0} parameter(0)\n"
        "  ROOT %w = f32[2]{0} while(%p), condition=%c, body=%body\n}\n"
    )
    operations = step_profile.operation_of_instructions(program)
    # A loop over parts of the batch inside the step: its instructions count, not the loop itself.
    outer = "%outer (p: f32[2]) -> f32[2] {\n  %p = f32[2]{0} parameter(0)\n" + (
        "  ROOT %v = f32[2]{0} while(%p), condition=%c, body=%body\n}\n\n"
    )
    nested = outer + program.replace("condition=%c, body=%body", "condition=%c, body=%outer")
    assert step_profile.operation_of_instructions(nested) == operations
    names = {o: [n for n in operations if operations[n] == o] for o in step_profile.OPERATIONS}
    assert names == {
        "forward": ["windows_1", "dot_1", "windows_2", "dot_2", "dot_3"],
        "gradient of kernel": ["dot_4", "windows_again", "dot_6", "dot_8"],
        "gradient of image": ["dot_5", "weights", "dot_7", "scatter_2"],
        "pooling": ["pool_1", "pool_2", "unpool_2", "unpool_1", "bias"],
        "other": ["p", "batch", "loss", "d_loss", "update"],
    }

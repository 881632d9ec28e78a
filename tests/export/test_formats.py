"""`--mode=export`: files for other programs, and a README whose lines work as they stand."""

import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
import pytest
import safetensors.numpy
from jax import export as jax_export

from cnn_jax.commands import export
from cnn_jax.errors import UserError
from cnn_jax.evaluation import trained
from cnn_jax.evaluation.trained import TrainedModel
from cnn_jax.export import formats
from cnn_jax.reporting.result import Result
from tests.support.networks import CHOICES, random_images, random_network

FILES = ["model.jax", "model.onnx", "model.safetensors"]

# Runs the block that it reads: as it stands, then with the pictures of given.npy.
RUN_TWICE = """
import sys
sys.modules["cnn_jax"] = None  # It is not installed where these files go.
code = sys.stdin.read()
exec(code)
given, replaced = "image = np.load('given.npy')", [s for s in code.split("\\n") if "image = " in s]
assert len(replaced) == 1
exec(code.replace(replaced[0], given))
"""


def run_export(workdir: Path, step: int | None = None) -> list[str]:
    out = io.StringIO()
    export.export(str(workdir), None, step, out=out, err=io.StringIO())
    return out.getvalue().splitlines()


@pytest.fixture(scope="module")
def exported(
    straight: tuple[Path, Result], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """The folder that is made of the small run, and what was printed."""
    workdir = tmp_path_factory.mktemp("exported") / "w"
    shutil.copytree(straight[0], workdir)
    return workdir / "export", run_export(workdir)


@pytest.fixture
def workdir(straight: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small run, of which one file alone is made, since all of them take seconds."""
    monkeypatch.setattr(formats, "FORMATS", {FILES[2]: formats.FORMATS[FILES[2]]})
    return Path(shutil.copytree(straight[0], tmp_path / "w"))


def network_of(folder: Path) -> TrainedModel:
    return trained.load(str(folder.parent), None, print)


def test_a_line_a_file_says_its_size_and_how_close_it_is(exported: tuple[Path, list[str]]) -> None:
    folder, lines = exported
    assert {path.name for path in folder.iterdir()} == {*FILES, "model.json", "README.md"}
    *files, last = lines
    assert last == f"How to use them: {folder / 'README.md'}"
    for line, name in zip(files, [*FILES, "model.json"], strict=True):
        size = (folder / name).stat().st_size
        assert re.match(rf"{re.escape(name)} +{size:,} bytes, ", line)
    for line in files[:3]:
        # Logits below 10, added in another order: some units in the seventh digit.
        match = re.search(r"differs from the network by at most (\S+)$", line)
        assert match
        assert float(match[1]) < 1e-5


@pytest.mark.parametrize("block", range(3), ids=FILES)
def test_the_lines_of_the_readme_work_in_a_fresh_process(
    exported: tuple[Path, list[str]], block: int
) -> None:
    folder, _ = exported
    network = network_of(folder)
    image = random_images(network, 3)
    np.save(folder.parent / "given.npy", image)
    text = (folder / "README.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == FILES
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[block]
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", RUN_TWICE.replace("given.npy", "../given.npy")],
        input=code,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    printed = np.array(re.sub(r"[\[\]]", " ", done.stdout).split(), float).reshape(4, 10)
    images = np.concatenate([np.zeros_like(image[:1]), image])
    np.testing.assert_allclose(printed, network.probabilities(images), rtol=0, atol=1e-6)


def test_the_parameters_are_those_of_the_run(
    exported: tuple[Path, list[str]], straight: tuple[Path, Result]
) -> None:
    folder, _ = exported
    params = safetensors.numpy.load_file(folder / "model.safetensors")
    for layer, arrays in straight[1].params.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(params.pop(f"{layer}.{name}"), array)
    assert not params
    said = json.loads((folder / "model.json").read_text())
    assert said["params_sha256"] == straight[1].params_sha256
    assert said["step"] == straight[1].steps
    assert said["image_shape"] == [28, 28, 1]
    assert said["class_names"] == list("0123456789")
    assert said["model"]["features"] == [8, 16]
    assert said["zeros_before_and_after"] == [1, 1]  # SAME, 3x3.
    properties = {p.key: p.value for p in onnx.load(folder / "model.onnx").metadata_props}
    assert properties == {
        "step": str(said["step"]),
        "params_sha256": said["params_sha256"],
        "class_names": json.dumps(said["class_names"]),
    }


def test_any_checkpoint_can_be_exported(workdir: Path) -> None:
    run_export(workdir, 5)
    assert json.loads((workdir / "export" / "model.json").read_text())["step"] == 5


def test_the_jax_program_has_a_form_for_each_platform(exported: tuple[Path, list[str]]) -> None:
    program = jax_export.deserialize(bytearray((exported[0] / "model.jax").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    text = program.mlir_module()
    # The first choice by platform is that of the convolution: 0, products of matrices, for CPUs;
    # 1, the operation of XLA, for the others.
    constants = dict(re.findall(r"(%\w+) = stablehlo\.constant dense<(\d+)> : tensor<i32>", text))
    match = re.search(r'"stablehlo\.case"\(%arg\d\)(.*?): \(tensor', text, re.DOTALL)
    assert match
    assert [constants[name] for name in re.findall(r"return (%\w+) ", match[1])] == ["0", "1", "1"]
    assert "stablehlo.convolution" in text


def test_the_jax_program_takes_any_batch_of_bytes_alone(exported: tuple[Path, list[str]]) -> None:
    network = network_of(exported[0])
    program = jax_export.deserialize(bytearray((exported[0] / "model.jax").read_bytes()))
    image = random_images(network, 201)
    for batch in (2, 201):
        found = program.call(image[:batch])
        expected = network.probabilities(image[:batch])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    for other in (np.float32, np.int8, np.int32):
        with pytest.raises(ValueError, match="expected uint8"):
            program.call(image[:2].astype(other))
    with pytest.raises(ValueError, match=r"expected \(batch, 28, 28, 1\)"):
        program.call(image[:2, :27])


def test_files_name_no_folder_of_this_machine(exported: tuple[Path, list[str]]) -> None:
    for path in exported[0].iterdir():
        assert str(Path(__file__).parent.parent.parent).encode() not in path.read_bytes()
        assert str(Path.home()).encode() + b"/" not in path.read_bytes()


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_every_choice_has_its_lines_in_numpy(choice: dict[str, Any]) -> None:
    network = random_network(**choice)
    image = random_images(network, 3)
    found = formats.run_safetensors(network, formats.to_safetensors(network), image)
    np.testing.assert_allclose(found["logits"], network.logits(image), rtol=0, atol=1e-4)


@pytest.mark.parametrize("choice", CHOICES[2:4], ids=str)
def test_the_jax_program_of_unusual_stages(choice: dict[str, Any]) -> None:
    formats.build_and_verify(FILES[0], random_network(**choice))


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_says_something_else_is_refused_and_all_stays_as_it_was(
    exported: tuple[Path, list[str]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = exported
    make, run = formats.FORMATS[name]

    def make_another(network: TrainedModel) -> bytes:
        params = jax.tree.map(np.copy, network.params)
        params["linear_1"]["bias"][3] += 0.01  # A probability of 0.1 grows by 0.1 * 0.9 * 0.01.
        return make(dataclasses.replace(network, params=params))

    good = formats.FORMATS[FILES[2]]
    monkeypatch.setattr(formats, "FORMATS", {"good": good, name: (make_another, run)})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    words = rf"{re.escape(name)} differs from the network by 0\.\d+ in its \w+: allowed is at most"
    with pytest.raises(UserError, match=words):
        run_export(folder.parent)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", FILES[1:])
def test_large_logits_may_differ_by_more(name: str) -> None:
    network = random_network(scale=30.0)
    # Their rounding alone is beyond 1e-4: half a unit of 2^-24 of more than 1e4 is 6e-4.
    assert np.abs(network.logits(random_images(network, 3))).max() > 1e4
    formats.build_and_verify(name, network)


def test_what_is_no_number_is_refused() -> None:
    network = random_network()
    network.params["linear_1"]["bias"][0] = np.nan
    with pytest.raises(UserError, match="differs from the network by nan"):
        formats.build_and_verify(FILES[2], network)


def test_a_full_disk_is_said_and_leaves_no_part(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"model\.safetensors cannot be written \(No space left"):
        run_export(workdir)
    assert not list((workdir / "export").iterdir())


def test_a_folder_that_cannot_be_made_is_said(workdir: Path) -> None:
    (workdir / "export").write_text("precious")
    with pytest.raises(UserError, match=r"export.* cannot be written"):
        run_export(workdir)
    assert (workdir / "export").read_text() == "precious"


def test_without_a_network_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no checkpoint"):
        run_export(tmp_path)
    assert not list(tmp_path.iterdir())

"""`--mode=export`: files for other programs, and a README whose code works unchanged."""

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
from cnn_jax.evaluation.loading import load
from cnn_jax.evaluation.trained import TrainedModel
from cnn_jax.export import formats
from cnn_jax.reporting.result import Result
from tests.support.random_models import model_options, random_images, random_model

FILES = ["model.jax", "model.onnx", "model.safetensors"]

# Reads a block of code and runs it twice: unchanged, then with the images of given.npy.
RUN_TWICE = """
import sys
sys.modules["cnn_jax"] = None  # Users of these files need not install it.
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
    straight_run: tuple[Path, Result], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """Exports the small run: the folder with the files, and the printed lines."""
    workdir = tmp_path_factory.mktemp("exported") / "w"
    shutil.copytree(straight_run[0], workdir)
    return workdir / "export", run_export(workdir)


@pytest.fixture
def workdir(
    straight_run: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Returns a copy of the small run; it is exported to one format, since all take seconds."""
    monkeypatch.setattr(formats, "FORMATS", {FILES[2]: formats.FORMATS[FILES[2]]})
    return Path(shutil.copytree(straight_run[0], tmp_path / "w"))


def load_exported(folder: Path) -> TrainedModel:
    return load(folder.parent, warn=pytest.fail)


def test_each_file_has_a_line_with_its_size_and_difference(
    exported: tuple[Path, list[str]],
) -> None:
    folder, lines = exported
    assert {path.name for path in folder.iterdir()} == {*FILES, "model.json", "README.md"}
    *files, last = lines
    assert last == f"How to use them: {folder / 'README.md'}"
    for line, name in zip(files, [*FILES, "model.json"], strict=True):
        size = (folder / name).stat().st_size
        assert re.match(rf"{re.escape(name)} +{size:,} bytes, ", line)
    for line in files[:3]:
        # Logits below 10, summed in another order: some units in the seventh digit.
        match = re.search(r"differs from the model by at most (\S+)$", line)
        assert match
        assert float(match[1]) < 1e-5


@pytest.mark.parametrize("block", range(3), ids=FILES)
def test_readme_code_works_in_a_fresh_process(exported: tuple[Path, list[str]], block: int) -> None:
    folder, _ = exported
    trained = load_exported(folder)
    image = random_images(trained, 3)
    np.save(folder.parent / "given.npy", image)
    text = (folder / "README.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == FILES
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[block]
    process = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", RUN_TWICE.replace("given.npy", "../given.npy")],
        input=code,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (process.returncode, process.stderr) == (0, "")
    printed = np.array(re.sub(r"[\[\]]", " ", process.stdout).split(), float).reshape(4, 10)
    images = np.concatenate([np.zeros_like(image[:1]), image])
    np.testing.assert_allclose(printed, trained.probabilities(images), rtol=0, atol=1e-6)


def test_exported_parameters_equal_those_of_the_run(
    exported: tuple[Path, list[str]], straight_run: tuple[Path, Result]
) -> None:
    folder, _ = exported
    params = safetensors.numpy.load_file(folder / "model.safetensors")
    for layer, arrays in straight_run[1].params.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(params.pop(f"{layer}.{name}"), array)
    assert not params
    description = json.loads((folder / "model.json").read_text())
    assert description["params_sha256"] == straight_run[1].params_sha256
    assert description["step"] == straight_run[1].steps
    assert description["image_shape"] == [28, 28, 1]
    assert description["class_names"] == list("0123456789")
    assert description["model"]["features"] == [8, 16]
    assert description["zeros_before_and_after"] == [1, 1]  # SAME, 3x3.
    properties = {p.key: p.value for p in onnx.load(folder / "model.onnx").metadata_props}
    assert properties == {
        "step": str(description["step"]),
        "params_sha256": description["params_sha256"],
        "class_names": json.dumps(description["class_names"]),
    }


def test_any_checkpoint_is_exported(workdir: Path) -> None:
    run_export(workdir, 5)
    assert json.loads((workdir / "export" / "model.json").read_text())["step"] == 5


def test_jax_program_has_a_convolution_for_each_platform(exported: tuple[Path, list[str]]) -> None:
    program = jax_export.deserialize(bytearray((exported[0] / "model.jax").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    text = program.mlir_module()
    # The first choice by platform is that of the convolution: 0, matrix products, for CPUs; 1,
    # XLA's convolution, for the others.
    constants = dict(re.findall(r"(%\w+) = stablehlo\.constant dense<(\d+)> : tensor<i32>", text))
    match = re.search(r'"stablehlo\.case"\(%arg\d\)(.*?): \(tensor', text, re.DOTALL)
    assert match
    assert [constants[name] for name in re.findall(r"return (%\w+) ", match[1])] == ["0", "1", "1"]
    assert "stablehlo.convolution" in text


def test_jax_program_takes_uint8_batches_of_any_size_and_nothing_else(
    exported: tuple[Path, list[str]],
) -> None:
    trained = load_exported(exported[0])
    program = jax_export.deserialize(bytearray((exported[0] / "model.jax").read_bytes()))
    image = random_images(trained, 201)
    for batch in (2, 201):
        probabilities = program.call(image[:batch])
        expected = trained.probabilities(image[:batch])
        np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-6)
    for dtype in (np.float32, np.int8, np.int32):
        with pytest.raises(ValueError, match="expected uint8"):
            program.call(image[:2].astype(dtype))
    with pytest.raises(ValueError, match=r"expected \(batch, 28, 28, 1\)"):
        program.call(image[:2, :27])


def test_exported_files_name_no_local_folder(exported: tuple[Path, list[str]]) -> None:
    for path in exported[0].iterdir():
        assert str(Path(__file__).parent.parent.parent).encode() not in path.read_bytes()
        assert str(Path.home()).encode() + b"/" not in path.read_bytes()


@pytest.mark.parametrize("choice", model_options(), ids=str)
def test_numpy_code_computes_the_logits_of_every_architecture(choice: dict[str, Any]) -> None:
    trained = random_model(**choice)
    image = random_images(trained, 3)
    outputs = formats.run_safetensors(trained, formats.to_safetensors(trained), image)
    np.testing.assert_allclose(outputs["logits"], trained.logits(image), rtol=0, atol=1e-4)


@pytest.mark.parametrize("choice", model_options()[2:4], ids=str)
def test_jax_program_computes_unusual_stages(choice: dict[str, Any]) -> None:
    formats.build_and_verify(FILES[0], random_model(**choice))


@pytest.mark.parametrize("name", FILES)
def test_file_that_differs_from_the_model_is_refused_and_nothing_is_changed(
    exported: tuple[Path, list[str]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = exported
    build, run = formats.FORMATS[name]

    def build_another(trained: TrainedModel) -> bytes:
        params = jax.tree.map(np.copy, trained.params)
        params["linear_1"]["bias"][3] += 0.01  # A probability of 0.1 grows by 0.1 * 0.9 * 0.01.
        return build(dataclasses.replace(trained, params=params))

    good = formats.FORMATS[FILES[2]]
    monkeypatch.setattr(formats, "FORMATS", {"good": good, name: (build_another, run)})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    message = (
        rf"^{re.escape(name)} differs from the model by 0\.\d+ in its \w+: the difference must be "
        r"at most \S+\. Nothing was written; use"
    )
    with pytest.raises(UserError, match=message):
        run_export(folder.parent)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", FILES[1:])
def test_large_logits_are_allowed_a_larger_difference(name: str) -> None:
    trained = random_model(scale=30.0)
    # Rounding of float32 exceeds 1e-4 here: 2^-24 times more than 1e4 is 6e-4.
    assert np.abs(trained.logits(random_images(trained, 3))).max() > 1e4
    formats.build_and_verify(name, trained)


def test_nan_is_refused() -> None:
    trained = random_model()
    trained.params["linear_1"]["bias"][0] = np.nan
    with pytest.raises(UserError, match="differs from the model by nan in its"):
        formats.build_and_verify(FILES[2], trained)


def test_full_disk_is_reported_and_leaves_no_file(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", raise_full)
    message = (
        r"^cannot write .*model\.safetensors \(No space left on device\): --workdir must be a "
    )
    with pytest.raises(UserError, match=message):
        run_export(workdir)
    assert not list((workdir / "export").iterdir())


def test_folder_that_cannot_be_created_is_reported(workdir: Path) -> None:
    (workdir / "export").write_text("precious")
    with pytest.raises(UserError, match=r"^cannot write .*/export \(File exists\): --workdir must"):
        run_export(workdir)
    assert (workdir / "export").read_text() == "precious"


def test_workdir_without_a_checkpoint_is_refused_and_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="has no checkpoint: it must be the --workdir of a training run"
    ):
        run_export(tmp_path)
    assert not list(tmp_path.iterdir())

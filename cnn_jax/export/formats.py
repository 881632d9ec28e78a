"""Builds the exported file of each format, runs it, and compares it with the trained model."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
import onnxruntime
import safetensors.numpy
from jax import Array
from jax import export as jax_export

from cnn_jax import model
from cnn_jax.checkpoint import tree
from cnn_jax.errors import UserError
from cnn_jax.evaluation.trained import TrainedModel
from cnn_jax.export import onnx as onnx_export
from cnn_jax.export import readme
from cnn_jax.export.numpy_forward import forward
from cnn_jax.reporting import result

PLATFORMS = ("cpu", "cuda", "tpu")  # Platforms that `model.jax` is lowered for.

BATCH_SIZES = (1, 3, 28)  # Several sizes, since an exported file could work for one only.

# Largest allowed difference of a logit or probability. It is multiplied by the largest logit where
# that exceeds 1: float32 has seven digits, and other libraries add in another order.
TOLERANCE = 1e-4

Images = npt.NDArray[np.uint8]

# Outputs of an exported file: `probabilities` and, where the format has them, `logits`, both
# float32 [batch, K].
Outputs = Mapping[str, npt.NDArray[Any]]


def to_jax(trained: TrainedModel) -> bytes:
    """Serializes the model with its parameters as a JAX program for each of `PLATFORMS`.

    The program maps uint8 [batch, H, W, C] to float32 probabilities [batch, K], for any batch size,
    and refuses other dtypes and shapes.
    """

    def probabilities(image_u8: Array) -> Array:
        logits: Any = trained.model.apply({"params": trained.params}, model.normalize(image_u8))
        return model.probabilities(logits)

    (batch,) = jax_export.symbolic_shape("batch")
    image_u8 = jax.ShapeDtypeStruct((batch, *trained.image_shape), np.uint8)
    with _without_source_locations():
        exported = jax_export.export(jax.jit(probabilities), platforms=PLATFORMS)(image_u8)
    return bytes(exported.serialize())


def run_jax(trained: TrainedModel, content: bytes, image_u8: Images) -> Outputs:
    """Runs a file of `to_jax` on images, uint8 [N, H, W, C]."""
    del trained  # The file contains the model.
    program = jax_export.deserialize(bytearray(content))
    return {"probabilities": np.asarray(program.call(image_u8))}


def to_onnx(trained: TrainedModel) -> bytes:
    """Serializes the model with its parameters, step and class names as an ONNX model."""
    properties = {**origin(trained), "class_names": json.dumps(trained.class_names)}
    return onnx_export.build(trained.model, trained.params, trained.image_shape, properties)


def run_onnx(trained: TrainedModel, content: bytes, image_u8: Images) -> Outputs:
    """Runs a file of `to_onnx` on images, uint8 [N, H, W, C], with ONNX Runtime."""
    del trained  # The file contains the model.
    runtime = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = ("logits", "probabilities")
    return dict(zip(names, runtime.run(names, {"image": image_u8}), strict=True))


def to_safetensors(trained: TrainedModel) -> bytes:
    """Serializes the parameters, named by their path in the tree, such as `conv_1.kernel`."""
    return bytes(safetensors.numpy.save(tree.flatten(trained.params), origin(trained)))


def run_safetensors(trained: TrainedModel, content: bytes, image_u8: Images) -> Outputs:
    """Runs a file of `to_safetensors` on images, uint8 [N, H, W, C], with the README's function."""
    params = safetensors.numpy.load(content)
    settings = readme.numpy_settings(trained.model)
    logits, probabilities = forward(image_u8, params, **settings)
    return {"logits": logits, "probabilities": probabilities}


# For each file name the function that builds its content and the function that runs it.
FORMATS: Mapping[
    str, tuple[Callable[[TrainedModel], bytes], Callable[[TrainedModel, bytes, Images], Outputs]]
] = {
    "model.jax": (to_jax, run_jax),
    "model.onnx": (to_onnx, run_onnx),
    "model.safetensors": (to_safetensors, run_safetensors),
}


def build_and_verify(name: str, trained: TrainedModel) -> tuple[bytes, float]:
    """Builds an exported file, and compares its outputs with those of the model.

    Args:
      name: name of the file, a key of `FORMATS`.
      trained: model to export.

    Returns:
      The content of the file, and the largest absolute difference of a logit or a probability.

    Raises:
      UserError: when the difference is larger than `TOLERANCE` permits, or NaN.
    """
    build, run = FORMATS[name]
    content = build(trained)
    generator = np.random.default_rng(0)
    max_difference = 0.0
    for batch_size in BATCH_SIZES:
        shape = (batch_size, *trained.image_shape)
        image_u8 = generator.integers(0, 256, shape, dtype=np.uint8)
        logits = trained.logits(image_u8)
        expected = {"logits": logits, "probabilities": trained.probabilities(image_u8)}
        tolerance = TOLERANCE * max(1.0, float(np.abs(logits).max()))
        for output, values in run(trained, content, image_u8).items():
            difference = float(np.abs(values - expected[output]).max())
            if not difference <= tolerance:  # Written this way, a NaN is refused as well.
                raise UserError(
                    f"{name} differs from the model by {difference:.1g} in its {output}: the "
                    f"difference must be at most {tolerance:.1g}. Nothing was written; use other "
                    "versions of JAX, ONNX and ONNX Runtime."
                )
            max_difference = max(max_difference, difference)
    return content, max_difference


def origin(trained: TrainedModel) -> dict[str, str]:
    """Returns what identifies the model: its step, and the `params_sha256` of `result.json`."""
    return {"step": str(trained.step), "params_sha256": result.params_sha256(trained.params)}


@contextlib.contextmanager
def _without_source_locations() -> Iterator[None]:
    """Keeps the paths of source files on this machine out of lowered programs."""
    name = "jax_traceback_in_locations_limit"
    before = jax.config.values[name]
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)

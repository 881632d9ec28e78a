"""A trained model as bytes in each format, and the same bytes run and compared with the model."""

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
from cnn_jax.reporting import result

PLATFORMS = ("cpu", "cuda", "tpu")


BATCHES = (1, 3, 28)  # Sizes that are tried: a file might work for one alone.


# Of a logit or probability; times the largest logit where that is beyond 1, since float32 has seven
# digits and other libraries add in another order.
TOLERANCE = 1e-4


Images = npt.NDArray[np.uint8]


# What a file says to images: `probabilities` and, where it tells them, `logits`, float32 [b, K].
Answers = Mapping[str, npt.NDArray[Any]]


def to_jax(network: TrainedModel) -> bytes:
    """The network with its parameters as a program for each of `PLATFORMS`.

    uint8 [b, H, W, C] -> float32 probabilities [b, K] for any b; other types are refused.
    """

    def probabilities(image_u8: Array) -> Array:
        logits: Any = network.model.apply({"params": network.params}, model.normalize(image_u8))
        return model.probabilities(logits)

    (batch,) = jax_export.symbolic_shape("batch")
    image_u8 = jax.ShapeDtypeStruct((batch, *network.image_shape), np.uint8)
    with _without_locations():
        exported = jax_export.export(jax.jit(probabilities), platforms=PLATFORMS)(image_u8)
    return bytes(exported.serialize())


def run_jax(network: TrainedModel, content: bytes, image_u8: Images) -> Answers:
    """What `to_jax` made says to images."""
    del network  # It is all in the file.
    program = jax_export.deserialize(bytearray(content))
    return {"probabilities": np.asarray(program.call(image_u8))}


def to_onnx(network: TrainedModel) -> bytes:
    """See `onnx_model.build`."""
    properties = {**origin(network), "class_names": json.dumps(network.class_names)}
    return onnx_export.build(network.model, network.params, network.image_shape, properties)


def run_onnx(network: TrainedModel, content: bytes, image_u8: Images) -> Answers:
    """What `to_onnx` made says to images, in ONNX Runtime."""
    del network  # It is all in the file.
    runtime = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = ("logits", "probabilities")
    return dict(zip(names, runtime.run(names, {"image": image_u8}), strict=True))


def to_safetensors(network: TrainedModel) -> bytes:
    """The parameters by their path in the tree, as in `conv_1.kernel`."""
    return bytes(safetensors.numpy.save(tree.flatten(network.params), origin(network)))


def run_safetensors(network: TrainedModel, content: bytes, image_u8: Images) -> Answers:
    """What `to_safetensors` made says to images, by the lines of the README."""
    scope = {"np": np, "image": image_u8, "params": safetensors.numpy.load(content)}
    exec(readme.numpy_lines(network.model), scope)
    return {name: scope[name] for name in ("logits", "probabilities")}


FORMATS: Mapping[
    str, tuple[Callable[[TrainedModel], bytes], Callable[[TrainedModel, bytes, Images], Answers]]
] = {
    "model.jax": (to_jax, run_jax),
    "model.onnx": (to_onnx, run_onnx),
    "model.safetensors": (to_safetensors, run_safetensors),
}


def build_and_verify(name: str, network: TrainedModel) -> tuple[bytes, float]:
    """Makes a file, and compares what it says with what the network says.

    Args:
      name: of one of `FORMS`.
      network: to be exported.

    Returns:
      Its content, and the largest difference of a logit or a probability.

    Raises:
      UserError: when that is too large.
    """
    make, run = FORMATS[name]
    content = make(network)
    generator = np.random.default_rng(0)
    largest = 0.0
    for batch in BATCHES:
        image_u8 = generator.integers(0, 256, (batch, *network.image_shape), dtype=np.uint8)
        logits = network.logits(image_u8)
        expected = {"logits": logits, "probabilities": network.probabilities(image_u8)}
        allowed = TOLERANCE * max(1.0, float(np.abs(logits).max()))
        for output, found in run(network, content, image_u8).items():
            difference = float(np.abs(found - expected[output]).max())
            if not difference <= allowed:  # It may be no number.
                raise UserError(
                    f"{name} differs from the network by {difference:.1g} in its {output}: allowed "
                    f"is at most {allowed:.1g}. Nothing was written; try other versions of JAX, "
                    "ONNX and ONNX Runtime."
                )
            largest = max(largest, difference)
    return content, largest


def origin(network: TrainedModel) -> dict[str, str]:
    """Which network it is; the digest is that of `result.json`."""
    return {"step": str(network.step), "params_sha256": result.params_sha256(network.params)}


@contextlib.contextmanager
def _without_locations() -> Iterator[None]:
    """While it lasts, JAX does not note the files of this machine that a program came from."""
    name = "jax_traceback_in_locations_limit"
    before = jax.config.values[name]
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)

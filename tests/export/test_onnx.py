"""The ONNX graph: its outputs equal those of the model, its interface is declared."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from cnn_jax.evaluation.trained import TrainedModel
from cnn_jax.export.onnx import build as build_onnx
from cnn_jax.model import ConvNet
from tests.support.random_models import model_options, random_images, random_model


def build(trained: TrainedModel) -> bytes:
    return build_onnx(trained.model, trained.params, trained.image_shape, {"step": "3"})


def run(content: bytes, image_u8: Any) -> list[Any]:
    runtime = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return list(runtime.run(["logits", "probabilities"], {"image": image_u8}))


def assert_agrees(trained: TrainedModel) -> None:
    content = build(trained)
    image_u8 = random_images(trained, 7)
    logits, probabilities = trained.logits(image_u8), trained.probabilities(image_u8)
    assert np.abs(logits).max() > 0.1  # The logits are large enough to differ.
    for batch in (1, 3, 7):
        outputs = run(content, image_u8[:batch])
        np.testing.assert_allclose(outputs[0], logits[:batch], rtol=0, atol=1e-4)
        np.testing.assert_allclose(outputs[1], probabilities[:batch], rtol=0, atol=1e-5)


@pytest.mark.parametrize("choice", model_options(), ids=str)
def test_graph_computes_the_outputs_of_every_architecture(choice: dict[str, Any]) -> None:
    assert_agrees(random_model(**choice))


def test_graph_takes_grey_images_and_two_classes() -> None:
    assert_agrees(random_model(image_shape=(8, 11, 1), class_names=("no", "yes")))


def test_logit_is_the_sum_known_by_arithmetic() -> None:
    # Two pixels of two channels, 0 51 and 102 153, are 0, 0.2, 0.4 and 0.6 as intensities. The
    # filters copy them, and the weights are 1, 10, 100 and 1000 in the order h, w, c:
    # 0 * 1 + 0.2 * 10 + 0.4 * 100 + 0.6 * 1000 = 642, and with the bias 642.5.
    model = ConvNet(num_classes=1, features=(2,), kernel_size=1, pool="none")
    params = {
        "conv_1": {"kernel": np.eye(2).reshape(1, 1, 2, 2), "bias": np.zeros(2)},
        "linear_1": {"kernel": np.array([[1.0], [10], [100], [1000]]), "bias": np.array([0.5])},
    }
    content = build_onnx(model, params, (1, 2, 2), {})
    logits, probabilities = run(content, np.array([[[[0, 51], [102, 153]]]], np.uint8))
    np.testing.assert_allclose(logits, [[642.5]], rtol=1e-6)
    np.testing.assert_array_equal(probabilities, [[1]])


def test_inputs_outputs_and_metadata_are_declared() -> None:
    content = build(random_model())
    runtime = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (image,) = runtime.get_inputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["batch", 17, 14, 3])
    assert [(o.name, o.type, o.shape) for o in runtime.get_outputs()] == [
        ("logits", "tensor(float)", ["batch", 5]),
        ("probabilities", "tensor(float)", ["batch", 5]),
    ]
    assert runtime.get_modelmeta().custom_metadata_map == {"step": "3"}


def test_scaled_pixels_are_refused() -> None:
    content = build(random_model())
    with pytest.raises(Exception, match="Unexpected input data type"):
        run(content, np.zeros((1, 17, 14, 3), np.float32))


def test_graph_is_readable_by_old_runtimes() -> None:
    loaded = onnx.load_from_string(build(random_model()))
    # ONNX 1.8, https://onnx.ai/onnx/repo-docs/Versioning.html: IR version 7, opset 13.
    assert loaded.ir_version == 7
    assert [(opset.domain, opset.version) for opset in loaded.opset_import] == [("", 13)]
    names = {tensor.name for tensor in loaded.graph.initializer}
    assert names - {"max_pixel"} == {
        f"{layer}.{kind}"
        for layer in ("conv_1", "conv_2", "linear_1")
        for kind in ("kernel", "bias")
    }

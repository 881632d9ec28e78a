"""Builds the ONNX model of a trained ConvNet, node by node."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from cnn_jax.model import ConvNet, layers_of
from cnn_jax.nn.shapes import POOL_SIZE

# The versions of ONNX 1.8, from 2020, so that old runtimes can read the model. Before opset 13,
# Softmax had another definition.
OPSET, IR_VERSION = 13, 7

_ACTIVATIONS: Mapping[str, tuple[str, dict[str, float]]] = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "sigmoid": ("Sigmoid", {}),
}
_POOLS = {"max": "MaxPool", "avg": "AveragePool"}


def build(
    model: ConvNet, params: Any, image_shape: tuple[int, int, int], properties: Mapping[str, str]
) -> bytes:
    """Builds an ONNX model with its parameters.

    Its input is `image`, uint8 [batch, H, W, C], 0..255, for any batch size; its outputs are
    `logits` and `probabilities`, float32 [batch, K]. The values have the names of
    `model.layers_of`, the parameters those of the parameter tree.

    Args:
      model: linen module.
      params: its parameter tree of float32 arrays.
      image_shape: (height, width, channels).
      properties: metadata to store in the ONNX model.

    Returns:
      The content of an ONNX file that passed ONNX's full check.
    """
    nodes: list[NodeProto] = []

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    # In ONNX, channels come before height and width, both in feature maps and in kernels.
    weights = {"max_pixel": np.asarray(255, np.float32)}
    value = add("Cast", ["image"], "pixels", to=TensorProto.FLOAT)
    value = add("Div", [value, "max_pixel"], "scaled")
    value = add("Transpose", [value], "channels_first", perm=[0, 3, 1, 2])

    before, after = model.stage.pads
    activation, attributes = _ACTIVATIONS[model.activation]
    for number, (_, stage) in enumerate(model.convolutions, start=1):
        layer = f"conv_{number}"
        weights[f"{layer}.kernel"] = np.transpose(params[layer]["kernel"], (3, 2, 0, 1))
        weights[f"{layer}.bias"] = params[layer]["bias"]
        value = add(
            "Conv",
            [value, f"{layer}.kernel", f"{layer}.bias"],
            layer,
            kernel_shape=[model.kernel_size] * 2,
            strides=[stage.strides] * 2,
            pads=[before, before, after, after],
        )
        value = add(activation, [value], f"{model.activation}_{number}", **attributes)
        if stage.pool != "none":
            window = [POOL_SIZE] * 2
            pool = _POOLS[stage.pool]
            value = add(pool, [value], f"pool_{number}", kernel_shape=window, strides=window)

    weights["linear_1.kernel"] = _channels_first(model, params["linear_1"]["kernel"], image_shape)
    weights["linear_1.bias"] = params["linear_1"]["bias"]
    value = add("Flatten", [value], "flat")
    add("Gemm", [value, "linear_1.kernel", "linear_1.bias"], "logits")
    add("Softmax", ["logits"], "probabilities", axis=1)

    return _serialize(nodes, weights, (image_shape, model.num_classes), properties)


def _channels_first(model: ConvNet, kernel: Any, image_shape: tuple[int, int, int]) -> Any:
    """Reorders the rows of the linear layer's kernel.

    Args:
      model: linen module.
      kernel: float32 [h * w * c, K], rows in the order h, w, c.
      image_shape: (height, width, channels).

    Returns:
      float32 [c * h * w, K], rows in the order c, h, w, as ONNX flattens a feature map.
    """
    *_, last_map, _ = layers_of(model, image_shape)
    weights = np.reshape(kernel, (*last_map.output_shape, model.num_classes))
    return weights.transpose(2, 0, 1, 3).reshape(-1, model.num_classes)


def _serialize(
    nodes: Sequence[NodeProto],
    weights: Mapping[str, Any],
    shapes: tuple[tuple[int, int, int], int],
    properties: Mapping[str, str],
) -> bytes:
    """Wraps nodes in an ONNX model, checks it, and returns the content of its file.

    Args:
      nodes: from the image to the probabilities.
      weights: arrays that they read, by name.
      shapes: those of the image and of the outputs, without the batch.
      properties: metadata to store in the model.
    """
    image_shape, num_classes = shapes
    graph = helper.make_graph(
        nodes,
        "ConvNet",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", *image_shape])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", num_classes])
            for name in ("logits", "probabilities")
        ],
        [
            numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name)
            for name, array in weights.items()
        ],
    )
    onnx_model: ModelProto = helper.make_model(
        graph,
        producer_name="cnn_jax",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(onnx_model, dict(properties))
    checker.check_model(onnx_model, full_check=True)
    return bytes(onnx_model.SerializeToString())

"""The network as an ONNX model, written node by node."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from cnn_jax.model import ConvNet, layers_of
from cnn_jax.nn.shapes import POOL_SIZE, padding_amounts

# Those of ONNX 1.8, of 2020, so that old runtimes read the model as well. Older yet, before opset
# 13, Softmax meant something else.
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
    """Writes a network with its parameters as an ONNX model.

    Its input is `image`, uint8 [batch, H, W, C], 0..255, for any batch; its outputs are `logits`
    and `probabilities`, float32 [batch, K]. Values and parameters have the names of
    `model.layers_of` and of the parameter tree.

    Args:
      model: the network.
      params: a tree of float32 arrays, as in `ConvNet`.
      image_shape: (H, W, C).
      properties: what else the model shall say of itself.

    Returns:
      The bytes of a file, checked by ONNX.
    """
    nodes: list[NodeProto] = []

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    # ONNX has the channels before height and width, in feature maps as in kernels.
    weights = {"max_pixel": np.asarray(255, np.float32)}
    value = add("Cast", ["image"], "pixels", to=TensorProto.FLOAT)
    value = add("Div", [value, "max_pixel"], "scaled")
    value = add("Transpose", [value], "channels_first", perm=[0, 3, 1, 2])

    before, after = padding_amounts(model.padding, model.kernel_size)
    activation, attributes = _ACTIVATIONS[model.activation]
    for stage in range(1, len(model.features) + 1):
        layer = f"conv_{stage}"
        weights[f"{layer}.kernel"] = np.transpose(params[layer]["kernel"], (3, 2, 0, 1))
        weights[f"{layer}.bias"] = params[layer]["bias"]
        value = add(
            "Conv",
            [value, f"{layer}.kernel", f"{layer}.bias"],
            layer,
            kernel_shape=[model.kernel_size] * 2,
            strides=[model.strides] * 2,
            pads=[before, before, after, after],
        )
        value = add(activation, [value], f"{model.activation}_{stage}", **attributes)
        if model.pool != "none":
            window = [POOL_SIZE] * 2
            pool = _POOLS[model.pool]
            value = add(pool, [value], f"pool_{stage}", kernel_shape=window, strides=window)

    weights["linear_1.kernel"] = _channels_first(model, params["linear_1"]["kernel"], image_shape)
    weights["linear_1.bias"] = params["linear_1"]["bias"]
    value = add("Flatten", [value], "flat")
    add("Gemm", [value, "linear_1.kernel", "linear_1.bias"], "logits")
    add("Softmax", ["logits"], "probabilities", axis=1)

    outputs = ("logits", "probabilities")
    graph = helper.make_graph(
        nodes,
        "ConvNet",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", *image_shape])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", model.num_classes])
            for name in outputs
        ],
        [
            numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name)
            for name, array in weights.items()
        ],
    )
    return _checked(graph, properties)


def _channels_first(model: ConvNet, kernel: Any, image_shape: tuple[int, int, int]) -> Any:
    """The linear layer's rows, in the order h, w, c, in the order c, h, w of a flat map of ONNX."""
    *_, last, _ = layers_of(model, image_shape)
    rows = np.reshape(kernel, (*last.output_shape, model.num_classes))
    return rows.transpose(2, 0, 1, 3).reshape(-1, model.num_classes)


def _checked(graph: Any, properties: Mapping[str, str]) -> bytes:
    onnx_model: ModelProto = helper.make_model(
        graph,
        producer_name="cnn_jax",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(onnx_model, dict(properties))
    checker.check_model(onnx_model, full_check=True)
    return bytes(onnx_model.SerializeToString())

"""The README of an exported model: for each file, Python code that computes probabilities."""

from collections.abc import Sequence
from importlib import metadata

from cnn_jax.model import ConvNet
from cnn_jax.nn.shapes import POOL_SIZE

_ACTIVATIONS = {
    "relu": "np.maximum(x, 0)",
    "leaky_relu": "np.where(x > 0, x, 0.01 * x)",
    "sigmoid": "(1 + np.tanh(x / 2)) / 2  # The sigmoid, written so that it cannot overflow.",
}
_POOLS = {"max": "max", "avg": "mean"}


def readme_text(
    model: ConvNet, image_shape: Sequence[int], class_names: Sequence[str], dataset: str
) -> str:
    """Returns the README in Markdown.

    Each of its code blocks is a complete program that prints the probabilities of `image`.

    Args:
      model: linen module.
      image_shape: (height, width, channels).
      class_names: K names, in the order of the probabilities.
      dataset: name of the data set that the model was trained on.
    """
    shape = ", ".join(map(str, image_shape))
    image = f"image = np.zeros((1, {shape}), np.uint8)  # Put your images here."
    jax_version, python = metadata.version("jax"), metadata.metadata("jax")["Requires-Python"]
    return f"""\
# A ConvNet trained on {dataset}

You need only one of the three model files, the one that suits your program. `model.json`
describes the parameters and where they come from.

**Input**: `image`, uint8 [batch, {shape}] (batch, height, width, channel), 0..255, for any batch
size. The images must look like those of {dataset}: framed in the same way, and bright where those
are bright (MNIST has light ink on black).

**Output**: `probabilities`, float32 [batch, {len(class_names)}], of the classes in this order:
{", ".join(class_names)}.

## model.jax

The model as a JAX program for CPUs, NVIDIA GPUs and TPUs. It was written by JAX {jax_version},
which requires Python {python}. Versions of JAX that are released up to six months later can read
it; older ones may not.

    pip install "jax>={jax_version}" flatbuffers

```python
from pathlib import Path

import numpy as np
from jax import export

{image}
model = export.deserialize(bytearray(Path("model.jax").read_bytes()))
probabilities = model.call(image)
print(probabilities)
```

## model.onnx

The model for any program that reads ONNX. It has a second output, `logits`.

    pip install numpy onnxruntime

```python
import numpy as np
import onnxruntime

{image}
model = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
(probabilities,) = model.run(["probabilities"], {{"image": image}})
print(probabilities)
```

## model.safetensors

The parameters only; the code below computes the forward pass in NumPy.

    pip install numpy safetensors

```python
import numpy as np
from safetensors.numpy import load_file

{image}
params = load_file("model.safetensors")
{numpy_code(model)}print(probabilities)
```
"""


def numpy_code(model: ConvNet) -> str:
    """Returns Python code of the forward pass in NumPy, generated for one architecture.

    Args:
      model: linen module.

    Returns:
      Lines that read the variables `np`, `image` (uint8 [B, H, W, C], 0..255) and `params` (arrays
      by path, such as `conv_1.kernel`), and assign `logits` and `probabilities` [B, K].
    """
    before, after = pads = model.stage.pads
    padded = f"np.pad(x, ((0, 0), {pads}, {pads}, (0, 0)))"
    conv_windows = _windows(model.kernel_size, model.strides)
    pool_windows = _windows(POOL_SIZE, POOL_SIZE)
    lines = [
        "windows = np.lib.stride_tricks.sliding_window_view",
        "x = image.astype(np.float32) / 255",
        f"for stage in range(1, {len(model.features) + 1}):",
        '    kernel, bias = params[f"conv_{stage}.kernel"], params[f"conv_{stage}.bias"]',
        *([f"    x = {padded}"] if before + after else []),
        f"    x = {conv_windows}  # [batch, h, w, channel, row, column]",
        "    x = np.tensordot(x, kernel, ((4, 5, 3), (0, 1, 2))) + bias",
        f"    x = {_ACTIVATIONS[model.activation]}",
        *([f"    x = {pool_windows}.{_POOLS[model.pool]}((4, 5))"] if model.pool != "none" else []),
        'logits = x.reshape(len(x), -1) @ params["linear_1.kernel"] + params["linear_1.bias"]',
        "exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))",
        "probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)",
    ]
    return "\n".join(lines) + "\n"


def _windows(size: int, stride: int) -> str:
    """Returns code for all windows of `x`, with two trailing axes: row and column in the window."""
    every_stride = f"[:, ::{stride}, ::{stride}]" if stride > 1 else ""
    return f"windows(x, ({size}, {size}), (1, 2)){every_stride}"

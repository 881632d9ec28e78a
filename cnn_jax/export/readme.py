"""The README of an exported network: for each file the lines of Python that use it."""

from collections.abc import Sequence
from importlib import metadata

from cnn_jax.model import ConvNet
from cnn_jax.nn.shapes import POOL_SIZE, padding_amounts

_ACTIVATIONS = {
    "relu": "np.maximum(x, 0)",
    "leaky_relu": "np.where(x > 0, x, 0.01 * x)",
    "sigmoid": "(1 + np.tanh(x / 2)) / 2  # The sigmoid, without an overflow.",
}
_POOLS = {"max": "max", "avg": "mean"}


def text(
    model: ConvNet, image_shape: Sequence[int], class_names: Sequence[str], dataset: str
) -> str:
    """The whole README; each of its blocks is a program that prints the probabilities of `image`.

    Args:
      model: the network.
      image_shape: (height, width, channels).
      class_names: what each probability stands for.
      dataset: name of the training set.
    """
    shape = ", ".join(map(str, image_shape))
    image = f"image = np.zeros((1, {shape}), np.uint8)  # Your pictures."
    jax_version, python = metadata.version("jax"), metadata.metadata("jax")["Requires-Python"]
    return f"""\
# A network trained on {dataset}

Any one of three files is enough; `model.json` says what the parameters mean and where they come
from.

In: `image`, uint8 [batch, {shape}] (batch, height, width, channel), 0..255, any number of pictures.
They must look like those of {dataset}: framed alike, and bright where those are bright (MNIST is
light ink on black).

Out: `probabilities`, float32 [batch, {len(class_names)}], of the classes in this order:
{", ".join(class_names)}.

## model.jax

For CPUs, NVIDIA GPUs and TPUs. JAX {jax_version} wrote it, which needs Python {python}: older
versions may not read it, those of the next six months do.

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

For anything that reads ONNX. It gives the `logits` as well.

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

The parameters alone, and the whole network in NumPy.

    pip install numpy safetensors

```python
import numpy as np
from safetensors.numpy import load_file

{image}
params = load_file("model.safetensors")
{numpy_lines(model)}print(probabilities)
```
"""


def numpy_lines(model: ConvNet) -> str:
    """The network in NumPy: from `np`, `image`, `params` to `probabilities`."""
    before, after = pads = padding_amounts(model.padding, model.kernel_size)
    pad = f"np.pad(x, ((0, 0), {pads}, {pads}, (0, 0)))"
    slide, pool = _windows(model.kernel_size, model.strides), _windows(POOL_SIZE, POOL_SIZE)
    lines = [
        "windows = np.lib.stride_tricks.sliding_window_view",
        "x = image.astype(np.float32) / 255",
        f"for stage in range(1, {len(model.features) + 1}):",
        '    kernel, bias = params[f"conv_{stage}.kernel"], params[f"conv_{stage}.bias"]',
        *([f"    x = {pad}"] if before + after else []),
        f"    x = {slide}  # [b, h, w, channel, i, j]",
        "    x = np.tensordot(x, kernel, ((4, 5, 3), (0, 1, 2))) + bias",
        f"    x = {_ACTIVATIONS[model.activation]}",
        *([f"    x = {pool}.{_POOLS[model.pool]}((4, 5))"] if model.pool != "none" else []),
        'logits = x.reshape(len(x), -1) @ params["linear_1.kernel"] + params["linear_1.bias"]',
        "shares = np.exp(logits - logits.max(axis=1, keepdims=True))",
        "probabilities = shares / shares.sum(axis=1, keepdims=True)",
    ]
    return "\n".join(lines) + "\n"


def _windows(size: int, step: int) -> str:
    """Every `step`-th window of x, with two axes more."""
    thinned = f"[:, ::{step}, ::{step}]" if step > 1 else ""
    return f"windows(x, ({size}, {size}), (1, 2)){thinned}"

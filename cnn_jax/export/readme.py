"""The README of an exported model: for each file, Python code that computes probabilities."""

import inspect
import json
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from cnn_jax.export.numpy_forward import forward
from cnn_jax.model import ConvNet

_TEMPLATE = """\
# A ConvNet trained on {dataset}

You need only one of the three model files, the one that suits your program. `model.json`
describes the parameters and where they come from.

**Input**: `image`, uint8 [batch, {shape}] (batch, height, width, channel), 0..255, for any batch
size. The images must look like those of {dataset}: framed in the same way, and bright where those
are bright (MNIST has light ink on black).

**Output**: `probabilities`, float32 [batch, {num_classes}], of the classes in this order:

    {class_names}

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


{forward}


{image}
params = load_file("model.safetensors")
logits, probabilities = forward(image, params, {settings})
print(probabilities)
```
"""


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
    settings = ", ".join(f"{name}={value!r}" for name, value in numpy_settings(model).items())
    return _TEMPLATE.format(
        dataset=dataset,
        shape=shape,
        num_classes=len(class_names),
        class_names=json.dumps(class_names, ensure_ascii=False),
        image=f"image = np.zeros((1, {shape}), np.uint8)  # Put your images here.",
        jax_version=metadata.version("jax"),
        python=metadata.metadata("jax")["Requires-Python"],
        forward=inspect.getsource(forward).rstrip(),
        settings=settings,
    )


def numpy_settings(model: ConvNet) -> dict[str, Any]:
    """Returns the keyword arguments of `numpy_forward.forward` for a model."""
    stages = [stage for _, stage in model.convolutions]
    return {
        "pads": model.stage.pads,
        "strides": tuple(stage.strides for stage in stages),
        "activation": model.activation,
        "pools": tuple(stage.pool for stage in stages),
    }

"""The forward pass in NumPy. The README of an exported model contains the function as it stands."""

import numpy as np


def forward(
    image: np.ndarray,
    params: dict[str, np.ndarray],
    *,
    pads: tuple[int, int],
    strides: tuple[int, ...],
    activation: str,
    pools: tuple[str, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Computes logits and probabilities, float32 [batch, classes], of uint8 [batch, h, w, channel].

    Args:
      image: pixels, 0..255.
      params: arrays by path, such as `conv_1.kernel`.
      pads: rows and columns of zeros added (before, after) an image for each convolution.
      strides: step of each convolution in both directions.
      activation: `relu`, `leaky_relu` or `sigmoid`.
      pools: `max` or `avg` over windows of 2x2, or `none`, after each convolution.
    """
    windows = np.lib.stride_tricks.sliding_window_view
    x = image.astype(np.float32) / 255
    for number, (stride, pool) in enumerate(zip(strides, pools, strict=True), start=1):
        kernel, bias = params[f"conv_{number}.kernel"], params[f"conv_{number}.bias"]
        x = np.pad(x, ((0, 0), pads, pads, (0, 0)))
        x = windows(x, kernel.shape[:2], (1, 2))[:, ::stride, ::stride]
        # [batch, h, w, channel, row, column] with the kernel's [row, column, channel, filter].
        x = np.tensordot(x, kernel, ((4, 5, 3), (0, 1, 2))) + bias
        if activation == "sigmoid":
            x = (1 + np.tanh(x / 2)) / 2  # Written so that it cannot overflow.
        else:
            x = np.where(x > 0, x, {"relu": 0, "leaky_relu": 0.01}[activation] * x)
        if pool != "none":
            x = windows(x, (2, 2), (1, 2))[:, ::2, ::2]
            x = x.max((4, 5)) if pool == "max" else x.mean((4, 5))
    logits = x.reshape(len(x), -1) @ params["linear_1.kernel"] + params["linear_1.bias"]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return logits, exponentials / exponentials.sum(axis=1, keepdims=True)

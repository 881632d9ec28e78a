"""The model, its gradient and plain SGD, written from their formulas in NumPy, float64.

Parameters are those of `ConvNet`: {"conv_1": {"kernel", "bias"}, "conv_2": ..., "linear_1": ...}.
This module shares no code with `cnn_jax`, and convolves and pools in another way.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Params = dict[str, dict[str, Any]]


def convolve(
    x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, strides: int = 1, zeros: int = 1
) -> np.ndarray:
    """Convolves with a 3x3 kernel; `zeros` are added on each side.

    y[b,h,w,o] = sum_ijc padded[b,s*h+i,s*w+j,c] kernel[i,j,c,o] + bias[o]
    """
    padded = np.pad(x, ((0, 0), (zeros, zeros), (zeros, zeros), (0, 0)))
    windows = sliding_window_view(padded, (3, 3), axis=(1, 2))  # [B, H, W, C, i, j]
    windows = windows[:, ::strides, ::strides]
    return np.tensordot(windows, kernel, axes=((4, 5, 3), (0, 1, 2))) + bias


def convolve_gradients(
    x: np.ndarray, kernel: np.ndarray, dy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the gradients with respect to the input, the kernel and the bias.

    dk[i,j,c,o] = sum_bhw padded[b,h+i,w+j,c] dy[b,h,w,o]. dx is the convolution of dy with the
    kernel, rotated by 180 degrees and with input and output channels exchanged.
    """
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = sliding_window_view(padded, (3, 3), axis=(1, 2))
    dk = np.tensordot(windows, dy, axes=((0, 1, 2), (0, 1, 2))).transpose(1, 2, 0, 3)
    rotated = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    return convolve(dy, rotated, np.zeros(rotated.shape[-1])), dk, dy.sum((0, 1, 2))


def max_pool(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the maximum of each 2x2 window and its index 0..3 in the window; ties: the first."""
    b, h, w, c = x.shape
    windows = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4)
    windows = windows.reshape(b, h // 2, w // 2, c, 4)
    argmax = windows.argmax(-1)
    return np.take_along_axis(windows, argmax[..., None], -1)[..., 0], argmax


def max_pool_gradient(dy: np.ndarray, argmax: np.ndarray) -> np.ndarray:
    """Returns the gradient of `max_pool`: each value of dy at the position of the maximum."""
    b, h, w, c = dy.shape
    windows = np.zeros((b, h, w, c, 4))
    np.put_along_axis(windows, argmax[..., None], dy[..., None], -1)
    windows = windows.reshape(b, h, w, c, 2, 2).transpose(0, 1, 4, 2, 5, 3)
    return windows.reshape(b, 2 * h, 2 * w, c)


def loss_and_gradients(
    params: Params, image_u8: np.ndarray, label: np.ndarray
) -> tuple[float, Params]:
    """Returns the mean softmax cross-entropy of a batch and its gradient.

    d loss / d logits = (softmax(logits) - one_hot(label)) / B; d relu = 1 where the input is > 0.
    """
    x0 = image_u8.astype(np.float64) / 255
    a1 = convolve(x0, **params["conv_1"])
    x1, argmax1 = max_pool(np.maximum(a1, 0))
    a2 = convolve(x1, **params["conv_2"])
    x2, argmax2 = max_pool(np.maximum(a2, 0))
    flat = x2.reshape(len(x2), -1)
    logits = flat @ params["linear_1"]["kernel"] + params["linear_1"]["bias"]

    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    rows = np.arange(len(label))
    loss = -log_probabilities[rows, label].mean()

    d_logits = np.exp(log_probabilities)
    d_logits[rows, label] -= 1
    d_logits /= len(label)
    d_x2 = (d_logits @ params["linear_1"]["kernel"].T).reshape(x2.shape)
    d_a2 = max_pool_gradient(d_x2, argmax2) * (a2 > 0)
    d_x1, d_kernel2, d_bias2 = convolve_gradients(x1, params["conv_2"]["kernel"], d_a2)
    d_a1 = max_pool_gradient(d_x1, argmax1) * (a1 > 0)
    _, d_kernel1, d_bias1 = convolve_gradients(x0, params["conv_1"]["kernel"], d_a1)
    return float(loss), {
        "conv_1": {"kernel": d_kernel1, "bias": d_bias1},
        "conv_2": {"kernel": d_kernel2, "bias": d_bias2},
        "linear_1": {"kernel": flat.T @ d_logits, "bias": d_logits.sum(0)},
    }


def logits(
    params: Params, image: np.ndarray, stage_sizes: tuple[int, ...], strides: int, zeros: int
) -> np.ndarray:
    """Returns the logits of a model with 3x3 kernels, ReLU and max pooling.

    Args:
      params: parameters of `ConvNet`.
      image: float64 [B, H, W, C], 0..1.
      stage_sizes: number of convolutions of each stage, before its pooling.
      strides: step of the first convolution of each stage.
      zeros: zeros added on each side for each convolution.
    """
    x, number = image, 0
    for size in stage_sizes:
        for step in (strides, *[1] * (size - 1)):
            number += 1
            x = np.maximum(convolve(x, **params[f"conv_{number}"], strides=step, zeros=zeros), 0)
        height, width = x.shape[1:3]
        x, _ = max_pool(x[:, : height // 2 * 2, : width // 2 * 2])
    return x.reshape(len(x), -1) @ params["linear_1"]["kernel"] + params["linear_1"]["bias"]


def sgd(params: Params, gradients: Params, learning_rate: float) -> Params:
    """Returns the parameters after a step of plain SGD: p - learning_rate * g."""
    return {
        layer: {name: p - learning_rate * gradients[layer][name] for name, p in arrays.items()}
        for layer, arrays in params.items()
    }

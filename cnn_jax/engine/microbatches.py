"""The number of parts in which a CPU trains a batch, so that its caches hold what a part needs."""

import math

from jax.sharding import Mesh

from cnn_jax.engine.sharding import DATA, is_cpu
from cnn_jax.model import ConvNet, layers_of

# Found by measurement (`benchmarks/README.md`): no batch of 128 MNIST images with 8 filters is
# split; 16 filters on 32x32 images make two parts, 8 on 64x64 images four.
MAX_MAP_BYTES = 8_000_000
# Below this, what each operation costs by itself outweighs the gain.
MIN_EXAMPLES = 16


def count_microbatches(
    mesh: Mesh, model: ConvNet, image_shape: tuple[int, int, int], batch_size: int
) -> int:
    """Returns in how many equal parts to train a batch, one after the other.

    It is the smallest number with which the largest feature map of a part has at most
    `MAX_MAP_BYTES`; or else the largest number with `MIN_EXAMPLES` examples a part. Accelerators,
    and devices that share a batch, take it as a whole.

    Args:
      mesh: from `sharding.make_mesh`.
      model: the network.
      image_shape: (height, width, channels).
      batch_size: number of examples, with padding.
    """
    if not is_cpu(mesh) or mesh.shape[DATA] > 1:
        return 1
    map_bytes = max(4 * math.prod(layer.output_shape) for layer in layers_of(model, image_shape))
    numbers = [
        n
        for n in range(1, batch_size + 1)
        if batch_size % n == 0 and (n == 1 or batch_size // n >= MIN_EXAMPLES)
    ]
    small_enough = [n for n in numbers if map_bytes * batch_size // n <= MAX_MAP_BYTES]
    return small_enough[0] if small_enough else numbers[-1]

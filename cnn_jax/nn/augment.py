"""Random changes of training images: turned, slanted, scaled, shifted, thicker or thinner strokes.

What an example becomes is a function of (seed, step, position in its batch) alone: the same on any
number of devices, for every feed, and after a resumed run. Images are bright on a ground of 0.
"""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from cnn_jax.nn import strokes

_NUM_DRAWS = 7  # Rotation, shear, two scales, two shifts, width of strokes.


def _setting() -> Any:
    """Returns a field of a number that is a constant of compiled functions."""
    return flax.struct.field(pytree_node=False, default=0.0)


class Augmentation(flax.struct.PyTreeNode):
    """Ranges of the random changes; each is uniform in its range, and off at 0.

    Attributes:
      seed: uint32 [], the seed of the run.
      rotation_degrees: largest rotation to either side.
      shear_degrees: largest slant to either side.
      scale: s: height and width are each scaled by 1 / (1 + s) to 1 + s, log-uniformly.
      shift_pixels: largest shift in each direction.
      stroke_pixels: strokes become up to this much wider or narrower, 0..1.
      strokes: share, 0..1, of the digits 1 and 7 that get strokes that some people write, see
        `strokes.add_strokes`.
    """

    seed: Array
    rotation_degrees: float = _setting()
    shear_degrees: float = _setting()
    scale: float = _setting()
    shift_pixels: float = _setting()
    stroke_pixels: float = _setting()
    strokes: float = _setting()

    def draw(self, step: Array, batch_size: int) -> Array:
        """Draws the random numbers of a batch.

        Args:
          step: int32 [], number of steps taken.
          batch_size: B.

        Returns:
          float32 [B, draws], -1..1. Row i is a function of seed, step and i.
        """
        # Epochs use the run's key with their number, from 1, folded in: 0 is free.
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.seed), 0), step)

        def draw_one(position: Array) -> Array:
            shape = (_NUM_DRAWS + strokes.NUM_DRAWS,)
            return jax.random.uniform(jax.random.fold_in(key, position), shape, minval=-1.0)

        return jax.vmap(draw_one)(jnp.arange(batch_size))

    def apply(self, image_u8: Array, label: Array, draws: Array) -> Array:
        """Changes each image by its row of draws.

        Args:
          image_u8: uint8 [B, H, W, C], 0..255; C = 1 if `strokes` is not 0.
          label: int32 [B].
          draws: float32 [B, draws], from `draw`.

        Returns:
          uint8 [B, H, W, C].
        """
        image_u8, draws = _computed_once((image_u8, draws))
        image = image_u8.astype(jnp.float32)
        moved, fit = jnp.zeros((len(label), 2)), jnp.ones(len(label))
        if self.strokes:
            add_strokes = functools.partial(strokes.add_strokes, share=self.strokes)
            image, moved, fit = jax.vmap(add_strokes)(image, label, draws[:, _NUM_DRAWS:])
        if self.strokes or self._moves:
            affine = functools.partial(self._affine, image.shape[1:])
            matrix, offset = jax.vmap(affine)(draws, moved, fit)
            image, matrix, offset = _computed_once((image, matrix, offset))
            image = _computed_once(jax.vmap(resample)(image, matrix, offset))
        if self.stroke_pixels:
            image = jax.vmap(widen)(image, self.stroke_pixels / 2 * draws[:, 6])
        return _computed_once(jnp.round(image).astype(jnp.uint8))

    @property
    def _moves(self) -> bool:
        return any((self.rotation_degrees, self.shear_degrees, self.scale, self.shift_pixels))

    def _affine(
        self, shape: tuple[int, ...], draws: Array, moved: Array, fit: Array
    ) -> tuple[Array, Array]:
        """Returns the map from a changed image to the image, as `resample` takes it.

        Args:
          shape: (height, width, channels).
          draws: float32 [draws].
          moved: float32 [2], (y, x): this point of the image, from its middle, becomes the middle.
          fit: float32 [], scale of the image before all other changes.
        """
        angle = jnp.radians(self.rotation_degrees) * draws[0]
        slant = jnp.tan(jnp.radians(self.shear_degrees) * draws[1])
        scale = fit * (1 + self.scale) ** draws[2:4]
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        # Turned back, then upright again, then scaled back.
        matrix = jnp.array([[cos, -sin], [sin - slant * cos, cos + slant * sin]]) / scale[:, None]
        middle = (jnp.array(shape[:2], jnp.float32) - 1) / 2
        start = middle + self.shift_pixels * draws[4:6]
        # Not as a product of matrices, which GPUs and TPUs round to fewer digits.
        return matrix, middle + moved - (matrix * start[None]).sum(1)


def _computed_once(tree: Any) -> Any:
    """Returns arrays behind a barrier.

    Without it XLA computes an image anew in each place that reads it: with all changes on a step
    took nearly twice as long.
    """
    return jax.lax.optimization_barrier(tree)


def resample(image: Array, matrix: Array, offset: Array) -> Array:
    """Transforms an image by an affine map, with bilinear interpolation; outside of it is 0.

    Args:
      image: float32 [H, W, C].
      matrix: float32 [2, 2]: the pixel (y, x) shows the image at matrix @ (y, x) + offset.
      offset: float32 [2].

    Returns:
      float32 [H, W, C].
    """
    height, width, channels = image.shape
    y, x = jnp.mgrid[:height, :width].astype(jnp.float32)
    source_y = matrix[0, 0] * y + matrix[0, 1] * x + offset[0]
    source_x = matrix[1, 0] * y + matrix[1, 1] * x + offset[1]
    # A border of zeros, one pixel before and two behind, is enough for what lies outside.
    source_y, source_x = jnp.clip(source_y, -1, height), jnp.clip(source_x, -1, width)
    top, left = jnp.floor(source_y), jnp.floor(source_x)
    down, right = (source_y - top)[..., None], (source_x - left)[..., None]
    padded = jnp.pad(image, ((1, 2), (1, 2), (0, 0))).reshape(-1, channels)
    index = ((top + 1) * (width + 3) + left + 1).astype(jnp.int32)
    upper = (1 - right) * padded[index] + right * padded[index + 1]
    below = index + width + 3
    lower = (1 - right) * padded[below] + right * padded[below + 1]
    return (1 - down) * upper + down * lower


def widen(image: Array, pixels: Array) -> Array:
    """Makes bright strokes wider or narrower.

    The image is blended with its dilation or erosion by a cross of 3x3, which move an edge by one
    pixel: a part of it moves the edge by a part of a pixel.

    Args:
      image: float32 [H, W, C].
      pixels: float32 [], -1..1: by how much each edge moves outwards.

    Returns:
      float32 [H, W, C].
    """
    height, width, _ = image.shape
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
    largest = smallest = image
    for y, x in ((0, 1), (1, 0), (1, 2), (2, 1)):
        neighbor = padded[y : y + height, x : x + width]
        largest, smallest = jnp.maximum(largest, neighbor), jnp.minimum(smallest, neighbor)
    return image + jnp.abs(pixels) * (jnp.where(pixels > 0, largest, smallest) - image)

"""Random changes of training images: turned, slanted, scaled, shifted, thicker or thinner strokes.

What an example becomes is a function of (seed, step, position in its batch) alone: the same on any
number of devices, for every feed, and after a resumed run. Images are bright on a ground of 0.
"""

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
        # The point of each image that comes to the middle, and the scale that makes it fit.
        center, fit = jnp.full((len(label), 2), _middle(image)), jnp.ones(len(label))
        if self.strokes:
            added = strokes.add_strokes(image, label, draws[:, _NUM_DRAWS:], self.strokes)
            image, center, fit = added.image, center + added.moved, added.fit
        if self.strokes or self._moves:
            matrix, shift = self._inverse_affine(draws)
            matrix = matrix / fit[:, None, None]
            offset = center - (matrix * (_middle(image) + shift)[:, None]).sum(2)
            image = _computed_once(resample(*_computed_once((image, matrix, offset))))
        if self.stroke_pixels:
            image = widen(image, self.stroke_pixels / 2 * draws[:, 6])
        return _computed_once(jnp.round(image).astype(jnp.uint8))

    @property
    def _moves(self) -> bool:
        return any((self.rotation_degrees, self.shear_degrees, self.scale, self.shift_pixels))

    def _inverse_affine(self, draws: Array) -> tuple[Array, Array]:
        """Returns the matrices [B, 2, 2] from output to image, and the shifts [B, 2], (y, x)."""
        angle = jnp.radians(self.rotation_degrees) * draws[:, 0]
        slant = jnp.tan(jnp.radians(self.shear_degrees) * draws[:, 1])
        scale = (1 + self.scale) ** draws[:, 2:4]
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        # First turned back, then upright again, then scaled back.
        rows = (cos, -sin), (sin - slant * cos, cos + slant * sin)
        matrix = jnp.stack([jnp.stack(row, -1) for row in rows], 1)
        return matrix / scale[:, :, None], self.shift_pixels * draws[:, 4:6]


def _computed_once(tree: Any) -> Any:
    """Returns the arrays behind a barrier.

    Without it XLA computes an image anew in each place that reads it: with all changes on a step
    took nearly twice as long.
    """
    return jax.lax.optimization_barrier(tree)


def _middle(image: Array) -> Array:
    """Returns the middle of images [B, H, W, C] in pixels from the first: float32 [2], (y, x)."""
    return (jnp.array(image.shape[1:3], jnp.float32) - 1) / 2


def resample(image: Array, matrix: Array, offset: Array) -> Array:
    """Transforms images by an affine map, with bilinear interpolation; outside of them is 0.

    Args:
      image: float32 [B, H, W, C].
      matrix: float32 [B, 2, 2]: the pixel (y, x) shows the image at matrix @ (y, x) + offset.
      offset: float32 [B, 2].

    Returns:
      float32 [B, H, W, C].
    """
    size, height, width, channels = image.shape
    y, x = jnp.arange(height, dtype=jnp.float32), jnp.arange(width, dtype=jnp.float32)
    along_y, along_x = matrix[:, :, 0, None, None] * y[:, None], matrix[:, :, 1, None, None] * x
    source = along_y + along_x + offset[:, :, None, None]
    # Two rows and columns of zeros are enough for what lies outside.
    source_y = jnp.clip(source[:, 0], -1, height)
    source_x = jnp.clip(source[:, 1], -1, width)
    top, left = jnp.floor(source_y), jnp.floor(source_x)
    down, right = (source_y - top)[..., None], (source_x - left)[..., None]
    padded = jnp.pad(image, ((0, 0), (1, 2), (1, 2), (0, 0))).reshape(size, -1, channels)
    first = ((top + 1) * (width + 3) + left + 1).astype(jnp.int32)

    def at(offset: int) -> Array:
        index = (first + offset).reshape(size, -1, 1)
        pixels = jnp.take_along_axis(padded, index, axis=1, mode="clip")
        return pixels.reshape(image.shape)

    upper = (1 - right) * at(0) + right * at(1)
    lower = (1 - right) * at(width + 3) + right * at(width + 4)
    return (1 - down) * upper + down * lower


def widen(image: Array, pixels: Array) -> Array:
    """Makes bright strokes wider or narrower.

    The image is blended with its dilation or erosion by a cross of 3x3, which move an edge by one
    pixel: a part of it moves the edge by a part of a pixel.

    Args:
      image: float32 [B, H, W, C].
      pixels: float32 [B], -1..1: by how much each edge moves outwards.

    Returns:
      float32 [B, H, W, C].
    """
    height, width = image.shape[1:3]
    padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    neighbors = [
        padded[:, y : y + height, x : x + width] for y, x in ((0, 1), (1, 0), (1, 2), (2, 1))
    ]
    largest = smallest = image
    for neighbor in neighbors:
        largest, smallest = jnp.maximum(largest, neighbor), jnp.minimum(smallest, neighbor)
    share = pixels[:, None, None, None]
    return image + jnp.abs(share) * (jnp.where(share > 0, largest, smallest) - image)

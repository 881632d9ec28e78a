"""Finds a thing on a ground of one colour, such as a piece of clothing in a shop's picture.

A thing may be of any width and have any colours and shades: it is whatever differs from the ground.
The ground is what lies along the border, of one colour or smoothly lit.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from cnn_jax.preprocessing.decode import PhotoError
from cnn_jax.preprocessing.even_ground import commonest_colour, find_even_ground
from cnn_jax.preprocessing.ink import CONNECTIVITY, LUMA, Floats, Ink, Mask
from cnn_jax.preprocessing.segment import shrink_to

_SIDE = 300  # Pixels of the longer side of a view: many more than an image has.
_BORDER_WIDTH = 0.02  # Of the longer side.
_CORNER_WIDTH = 0.05  # Of the longer side.
_MIN_CONTRAST = 6.0  # Of 255. Compression alone leaves as much on an even picture.
_MIN_DEPTH = 0.12  # Part of its own contrast that a thing has everywhere. Soft shadows have less.
_NOISE = 4.0  # Standard deviations of the noise that a thing differs by.
_MIN_PART = 0.05  # Of the largest part's area: a smaller part is a speck.
_SURELY_GROUND = 30  # Per cent of the pixels along the border. A thing may cover the others.


def find_silhouette(picture: Image.Image) -> Ink:
    """Finds the thing on an RGB picture.

    Returns:
      The thing in place of ink: its strength is the distance of its colour from that of the ground.
      On white and for greys these are the negated intensities by which Fashion-MNIST was made.

    Raises:
      PhotoError: when the picture shows nothing.
    """
    pixels_u8 = np.asarray(shrink_to(picture, _SIDE))
    if even := find_even_ground(pixels_u8):
        pixels_u8 = pixels_u8[even[1]]  # Without a line around the picture.
    pixels = pixels_u8.astype(np.float32)
    sigma = max(pixels.shape) / 300
    smooth = ndimage.gaussian_filter(pixels, (sigma, sigma, 0))
    is_ground = _border(pixels.shape[:2])
    colour = commonest_colour(_corners(pixels_u8))
    # The border tells the ground roughly, and everything outside of the thing precisely.
    for _ in range(2):
        ground = _fit_ground(smooth, is_ground, colour)
        mask = _find_thing(_distance(smooth, ground), is_ground)
        around = ndimage.binary_dilation(mask, CONNECTIVITY, iterations=2)
        is_ground = ~around if not around.all() else is_ground
    strength = np.where(mask, _distance(pixels, ground), 0.0)
    strength /= np.max(strength)
    strength[strength < _MIN_DEPTH] = 0.0  # Also what only the filter against noise has widened.
    is_dark = bool(np.sum(((pixels - ground) @ LUMA)[mask]) < 0)
    return Ink(strength.astype(np.float32), is_dark)


def _corners(pixels_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Returns squares in the four corners of a picture, where things are rarest, uint8 [N, 3]."""
    width = max(1, round(_CORNER_WIDTH * max(pixels_u8.shape)))
    squares = [
        half[:, columns]
        for half in (pixels_u8[:width], pixels_u8[-width:])
        for columns in (slice(0, width), slice(-width, None))
    ]
    return np.concatenate([square.reshape(-1, 3) for square in squares])


def _border(shape: tuple[int, ...]) -> Mask:
    """Returns the pixels along the border, bool [H, W]."""
    width = max(1, round(_BORDER_WIDTH * max(shape)))
    border = np.ones(shape, bool)
    border[width:-width, width:-width] = False
    return border


def _distance(pixels: Floats, ground: Floats) -> Floats:
    """Returns the distance of colours [H, W, 3], scaled so that of greys is their difference."""
    distance: Floats = np.linalg.norm(pixels - ground, axis=-1) / np.sqrt(3)
    return distance


def _find_thing(distance: Floats, is_ground: Mask) -> Mask:
    """Finds the thing, bool [H, W]: what differs from the ground by more than noise.

    Args:
      distance: float32 [H, W], of the colours from the ground, in levels of 255.
      is_ground: bool [H, W], pixels of which many are ground.

    Raises:
      PhotoError: when there is none.
    """
    if np.max(distance) < _MIN_CONTRAST:
        raise PhotoError("shows nothing: all its pixels have one colour")
    depth = float(np.percentile(distance[distance >= 0.5 * np.max(distance)], 75))
    # Of a normal distribution, 30 per cent are within 0.385 standard deviations.
    noise = float(np.percentile(distance[is_ground], _SURELY_GROUND)) / 0.385
    least = max(_MIN_DEPTH * depth, min(_NOISE * noise, 0.5 * depth))
    labels, _ = ndimage.label(distance > least, CONNECTIVITY)
    areas = np.bincount(labels.ravel())[1:]
    return np.isin(labels, 1 + np.flatnonzero(areas >= _MIN_PART * areas.max()))


def _fit_ground(pixels: Floats, is_ground: Mask, colour: npt.NDArray[np.float32]) -> Floats:
    """Fits a smooth surface to the ground: a quadratic in x and y, as lighting is smooth.

    Args:
      pixels: float32 [H, W, 3].
      is_ground: bool [H, W], pixels of which many are ground.
      colour: float32 [3], where the fit begins.

    Returns:
      float32 [H, W, 3], the surface.
    """
    height, width, _ = pixels.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1).astype(np.float32)
    stride = max(1, np.count_nonzero(is_ground) // 4000)  # More do not make six numbers better.
    sample, sample_terms = pixels[is_ground][::stride], terms[is_ground][::stride]
    surface = np.zeros((6, 3), np.float32)
    surface[0] = colour
    # Iteratively reweighted least squares with Cauchy weights, as for the paper around ink.
    for num_terms in (1, 3, 3, 3, 3, 6, 6, 6, 6):
        distance = np.linalg.norm(sample - sample_terms @ surface, axis=1)
        scale = max(1.5 * float(np.percentile(distance, _SURELY_GROUND)), 1.0)
        weights = 1 / (1 + (distance / scale) ** 2)[:, np.newaxis]
        used = sample_terms[:, :num_terms]
        normal, moment = used.T @ (weights * used), used.T @ (weights * sample)
        surface[:num_terms] = np.linalg.lstsq(normal, moment)[0]
    return terms @ surface

"""Frames ink as the makers of a data set framed theirs: size, centre, width of strokes."""

import dataclasses

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from cnn_jax.errors import UserError
from cnn_jax.preprocessing.segment import Floats, Ink, bounding_box


@dataclasses.dataclass(frozen=True)
class Conventions:
    """How the makers of a data set framed what is drawn: light on black, and

    Attributes:
      box: the longer side of the ink, in pixels.
      by_mass: whether the centre of mass, or else of the box, is in the middle of the image.
      stroke: the least width of strokes, in pixels, in all but the thinnest twentieth of images.
    """

    box: int
    by_mass: bool
    stroke: float


# For images of 28x28. MNIST: a box of 20, the centre of mass in the middle, says its page
# (http://yann.lecun.com/exdb/mnist/); measured over the first 3,000 training images, it is at pixel
# 14.0 in the mean, with the spread of rounding, 0.29. Widths by `ink.stroke_width`, first 2,000
# images: 2.0 in the thinnest twentieth, 2.6 in the median; scikit-learn's digits 3.4 and 4.0.
_MNIST = Conventions(box=20, by_mass=True, stroke=2.0)


_OTHERS = {
    "digits": Conventions(box=20, by_mass=False, stroke=3.4),
    "fashion_mnist": Conventions(box=28, by_mass=False, stroke=0.0),
    "kmnist": Conventions(box=28, by_mass=False, stroke=0.0),
}


def conventions_of(dataset_name: str, image_shape: tuple[int, int, int]) -> Conventions | None:
    """The conventions of a data set; MNIST's where they are not known.

    Args:
      dataset_name: as in `dataset.name`.
      image_shape: (height, width, channels) of its images.

    Returns:
      None for images with colours, which show more than ink.

    Raises:
      UserError: when images have neither one channel nor three.
    """
    height, width, channels = image_shape
    if channels not in (1, 3):
        raise UserError(
            f"{dataset_name} has images of {channels} channels: allowed are 1 and 3, which a "
            "picture can be brought to. Choose a network of another data set."
        )
    if channels == 3:
        return None
    known = _OTHERS.get(dataset_name, _MNIST)
    scale = min(height, width) / 28
    return Conventions(max(1, round(known.box * scale)), known.by_mass, known.stroke * scale)


def frame_ink(
    ink: Ink, shape: tuple[int, int], *, box: int, by_mass: bool, stroke: float
) -> npt.NDArray[np.uint8]:
    """Draws ink again, light on black, as large as asked and in the middle.

    Args:
      ink: what to draw.
      shape: (height, width) of the result, both at least `box`.
      box: length of the longer side of the ink in the result, in pixels.
      by_mass: whether the centre of mass, or else of the box, comes to the middle.
      stroke: in pixels of the result: thinner strokes become that wide.

    Returns:
      uint8 [H, W].
    """
    strength = _thickened(ink.strength, stroke / box)
    left, upper, right, lower = ends = bounding_box(strength)
    scale = box / max(right - left, lower - upper)
    width, height = (max(1, round(scale * side)) for side in (right - left, lower - upper))
    # BOX is the area's average where it shrinks, and changes nothing where the size is right.
    small = Image.fromarray(strength).resize((width, height), Image.Resampling.BOX, box=ends)
    drawn = np.asarray(small)
    drawn = drawn / np.max(drawn)
    middle = ndimage.center_of_mass(drawn) if by_mass else (height / 2, width / 2)
    top, start = (
        min(max(round(side / 2 - centre), 0), side - length)  # A skewed mass must not cut the ink.
        for side, centre, length in zip(shape, middle, drawn.shape, strict=True)
    )
    image_u8 = np.zeros(shape, np.uint8)
    image_u8[top : top + height, start : start + width] = np.rint(255 * drawn)
    return image_u8


def _thickened(strength: Floats, least: float) -> Floats:
    """Ink whose strokes are at least that wide, as a part of its longer side; maybe a larger array.

    With the strokes' radius, r more pixels, the side grows too: w + 2r = least * (side + 2r).
    """
    left, upper, right, lower = bounding_box(strength)
    side = max(right - left, lower - upper)
    radius = (least * side - stroke_width(strength)) / (2 * (1 - least))
    if radius <= 0:
        return strength
    padded = np.pad(strength, int(radius) + 2)
    distance = ndimage.distance_transform_edt(padded < 0.5)
    # A pixel's middle is 1 away from the first one of the ink: half of it is beyond the outline.
    thick: Floats = np.maximum(padded, np.clip(radius + 1 - distance, 0, 1)).astype(np.float32)
    return thick


def stroke_width(strength: Floats) -> float:
    """The mean width of strokes in pixels: twice their area by the length of their outline.

    The outline's length is the total variation (the coarea formula), which needs no threshold.
    """
    y, x = np.gradient(np.pad(strength, 1))
    return float(2 * np.sum(strength) / np.sum(np.hypot(x, y)))

"""Frames what a picture shows like the images of a data set: size, centre and stroke width."""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from cnn_jax.errors import UserError
from cnn_jax.preprocessing.ink import Floats, Ink, bounding_box
from cnn_jax.preprocessing.segment import find_ink
from cnn_jax.preprocessing.silhouette import find_silhouette
from cnn_jax.preprocessing.threshold import MIN_STRENGTH

# Limits of images that are framed already, which hold for 95 % of the images of each data set.
_SMALLEST = 0.9  # Of the box size: the longer side of the ink, which fades at its ends.
_OFF_BY_MASS = 0.02  # Of the image's side: the centre of mass is off by rounding.
_OFF_BY_BOX = 0.08  # As KMNIST's boxes, which people drew, and the digits' boxes of whole pixels.
_MIN_SKEW = 1 / 28  # Of the side: a thing whose mass is so far off the middle points to a side.


@dataclasses.dataclass(frozen=True)
class Conventions:
    """Conventions of a data set, whose images show ink, or a thing, light on black.

    Attributes:
      find: finds on an RGB picture what images of the data set show; raises PhotoError for nothing.
      box_size: longer side of the ink's bounding box, in pixels.
      centre_by_mass: whether the centre of mass of the ink is in the middle of the image; otherwise
        the centre of its bounding box is.
      min_stroke_width: width of strokes in pixels that all but the thinnest 5 % of images exceed.
      points_left: whether things that point to a side point left, as shoes do, so that their mass
        is on the right. Those that point right are mirrored.
    """

    find: Callable[[Image.Image], Ink]
    box_size: int
    centre_by_mass: bool
    min_stroke_width: float
    points_left: bool = False


# For images of 28x28. MNIST's page (http://yann.lecun.com/exdb/mnist/) states a box of 20 and the
# centre of mass in the middle. Measured over the first 3,000 training images the centre of mass is
# at pixel 14.0 on average, and its standard deviation is that of rounding, 0.29. Stroke widths, by
# `stroke_width` over the first 2,000 images: 2.0 at the 5th percentile and 2.6 in the median for
# MNIST, 3.4 and 4.0 for scikit-learn's digits.
# Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, https://arxiv.org/abs/1708.07747, section 2) trimmed
# shop pictures with a ground of #fdfdfd to what differs from the corners by 5 % of 255, made the
# longer side 28, put the result in the middle, and negated it. Of the first 6,000 training images
# all ankle boots and 99 % of sneakers have their mass right of the middle; 0.6 % of all images have
# it more than a pixel left of the middle.
# KMNIST (Clanuwat et al. 2018, https://arxiv.org/abs/1812.01718): of 300 characters in the figure
# of https://github.com/rois-codh/kmnist the longer side has 28 pixels in 74 %, 27 in 17 %, 25 or
# 26 in the others, and the middle of the box is that of the image, within 2 pixels in 90 %. So the
# characters were neither stretched to a square nor moved by their mass.
_MNIST = Conventions(find_ink, box_size=20, centre_by_mass=True, min_stroke_width=2.0)
_CONVENTIONS = {
    "digits": Conventions(find_ink, box_size=20, centre_by_mass=False, min_stroke_width=3.4),
    "fashion_mnist": Conventions(
        find_silhouette, 28, centre_by_mass=False, min_stroke_width=0.0, points_left=True
    ),
    "kmnist": Conventions(find_ink, box_size=28, centre_by_mass=False, min_stroke_width=0.0),
}


def conventions_of(dataset_name: str, image_shape: tuple[int, int, int]) -> Conventions | None:
    """Returns the framing conventions of a data set, scaled to the size of its images.

    Args:
      dataset_name: value of `dataset.name`. Any other name has the conventions of MNIST.
      image_shape: (height, width, channels) of the data set's images.

    Returns:
      The conventions, or None for RGB images, which show more than ink and are only resized.

    Raises:
      UserError: when images have neither one channel nor three.
    """
    height, width, channels = image_shape
    if channels not in (1, 3):
        raise UserError(
            f"images of {dataset_name} have {channels} channels: to read pictures like them, they "
            "must have 1 (grey) or 3 (RGB). Use a model of another data set."
        )
    if channels == 3:
        return None
    conventions = _CONVENTIONS.get(dataset_name, _MNIST)
    scale = min(height, width) / 28
    return dataclasses.replace(
        conventions,
        box_size=max(1, round(conventions.box_size * scale)),
        min_stroke_width=conventions.min_stroke_width * scale,
    )


def as_framed(
    picture: Image.Image, size: tuple[int, int], conventions: Conventions
) -> tuple[npt.NDArray[np.uint8], bool] | None:
    """Returns a picture that is framed by the conventions of a data set already, or None.

    Such a picture may be an image of the data set itself, which must reach the model unchanged.

    Args:
      picture: RGB.
      size: (height, width) of the images.
      conventions: from `conventions_of`.

    Returns:
      The image, uint8 [H, W], 0..255, light on exact black, and whether the picture is its
      negative, dark on exact white. None where size, ground, box, centre or stroke width differ.
    """
    height, width = size
    if picture.size != (width, height):
        return None
    image_u8 = np.asarray(picture.convert("L"))
    border = np.concatenate([image_u8[[0, -1]].ravel(), image_u8[:, [0, -1]].ravel()])
    is_dark = bool(np.median(border) == 255)
    if is_dark:
        image_u8 = 255 - image_u8
    elif np.median(border) > 0:
        return None
    strength = (image_u8 / np.float32(255)).astype(np.float32)
    strength[strength < MIN_STRENGTH] = 0.0
    if not strength.any() or stroke_width(strength) < conventions.min_stroke_width:
        return None
    left, upper, right, lower = bounding_box(strength)
    side = max(right - left, lower - upper) / conventions.box_size
    middle, tolerance = ((upper + lower) / 2, (left + right) / 2), _OFF_BY_BOX
    if conventions.centre_by_mass:
        middle, tolerance = ndimage.center_of_mass(strength), _OFF_BY_MASS
    off = [abs(centre / length - 0.5) for centre, length in zip(middle, size, strict=True)]
    return (image_u8, is_dark) if _SMALLEST <= side <= 1 and max(off) <= tolerance else None


def frame_ink(ink: Ink, size: tuple[int, int], conventions: Conventions) -> npt.NDArray[np.uint8]:
    """Draws ink as an image by the conventions of a data set: light on black, scaled and centred.

    Args:
      ink: ink to draw.
      size: (height, width) of the image, both at least `conventions.box_size`.
      conventions: box, centre and stroke width of the result, from `conventions_of`. Thinner
        strokes are thickened.

    Returns:
      uint8 [H, W], 0..255.
    """
    box_size = conventions.box_size
    left, upper, right, lower = ink.box
    cut = ink.strength[upper:lower, left:right]
    strength = _thicken(cut, conventions.min_stroke_width / box_size)
    left, upper, right, lower = box = bounding_box(strength)
    scale = box_size / max(right - left, lower - upper)
    width, height = (max(1, round(scale * side)) for side in (right - left, lower - upper))
    # BOX averages areas when it shrinks, and changes nothing when the size is already right.
    resized = Image.fromarray(strength).resize((width, height), Image.Resampling.BOX, box=box)
    scaled = np.asarray(resized)
    scaled = scaled / np.max(scaled)
    if conventions.points_left:
        _, centre = ndimage.center_of_mass(scaled)
        if (width - 1) / 2 - centre > _MIN_SKEW * size[1]:
            scaled = scaled[:, ::-1]
    if conventions.centre_by_mass:
        # In float64, where the sums are exact: the centre of a straight stroke is half-way between
        # two pixels, and the last bit of a float32 would choose one of them.
        middle = ndimage.center_of_mass(scaled.astype(np.float64))
    else:
        middle = (height / 2, width / 2)
    top, start = (
        # Clamped to the image: a skewed centre of mass must not cut off ink.
        min(max(round(side / 2 - centre), 0), side - length)
        for side, centre, length in zip(size, middle, scaled.shape, strict=True)
    )
    image_u8 = np.zeros(size, np.uint8)
    image_u8[top : top + height, start : start + width] = np.rint(255 * scaled)
    return image_u8


def _thicken(strength: Floats, min_width: float) -> Floats:
    """Thickens strokes to a minimum width.

    Strokes that grow by a radius r on either side also make the ink's longer side grow, so the
    radius solves w + 2 r = min_width * (side + 2 r).

    Args:
      strength: float32 [H, W], 0..1, cut to the bounding box of the ink.
      min_width: minimum width of strokes, as a fraction of the longer side of the result's ink.

    Returns:
      float32 [H, W], 0..1, with a margin added when strokes were thickened.
    """
    side = max(strength.shape)
    radius = (min_width * side - stroke_width(strength)) / (2 * (1 - min_width))
    if radius <= 0:
        return strength
    padded = np.pad(strength, int(radius) + 2)
    distance = ndimage.distance_transform_edt(padded < 0.5)
    # The distance is between pixel centres. The outline is half a pixel from the ink's last pixel,
    # and a pixel is covered half when its centre is on the new outline.
    return np.maximum(padded, np.clip(radius + 1 - distance, 0, 1)).astype(np.float32)


def stroke_width(strength: Floats) -> float:
    """Computes the mean width of strokes in pixels: twice their area over the outline's length.

    The length of the outline is the total variation of the strength (the coarea formula), which
    needs no threshold.

    Args:
      strength: float32 [H, W], 0..1.
    """
    # At the ends of an array the gradient is one-sided: they must be outside of the ink's edge.
    y, x = np.gradient(np.pad(strength, 2))
    return float(2 * np.sum(strength) / np.sum(np.hypot(x, y)))

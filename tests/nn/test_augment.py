"""The random changes of training images: known transformations, their ranges, their randomness."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from cnn_jax.nn.augment import Augmentation, resample, widen

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (9, 11), dtype=np.uint8)


def augmentation(seed: int = 1, **ranges: Any) -> Augmentation:
    return Augmentation(jnp.uint32(seed), **ranges)


def apply(image: npt.NDArray[np.uint8], draws: list[float], **ranges: Any) -> npt.NDArray[np.uint8]:
    """Changes one image [H, W] by the draws rotation, shear, scale y, x, shift y, x, width."""
    batch = jnp.asarray(image)[None, ..., None]
    rows = jnp.array([draws + [0.0] * 6])
    changed = augmentation(**ranges).apply(batch, jnp.zeros(1, jnp.int32), rows)
    return np.asarray(changed)[0, ..., 0]


def moved(corner: tuple[int, int], draws: list[float], **ranges: Any) -> tuple[float, float]:
    """Returns the centre of mass, (y, x) from the middle, of a blob that was at `corner` there."""
    y, x = np.mgrid[-20:21, -20:21]
    blob = 255 * np.exp(-((y - corner[0]) ** 2 + (x - corner[1]) ** 2) / 8)
    changed = apply(blob.astype(np.uint8), draws, **ranges).astype(float)
    return float((y * changed).sum() / changed.sum()), float((x * changed).sum() / changed.sum())


def test_resampling_is_scipys_bilinear_interpolation() -> None:
    # A turn by 25 degrees, two scales and a shift, of an image of two channels; some of the output
    # lies outside of it.
    image = RNG.random((9, 11, 2)).astype(np.float32)
    cos, sin = np.cos(np.radians(25)), np.sin(np.radians(25))
    matrix = np.array([[cos, -sin], [sin, cos]]) * [[1.2], [0.8]]
    offset = np.array([2.3, -1.6])
    result = resample(
        jnp.asarray(image), jnp.asarray(matrix, jnp.float32), jnp.asarray(offset, jnp.float32)
    )
    for channel in range(2):
        # SciPy, too, interpolates to 0 beside the border only with a border of zeros.
        padded = np.pad(image[..., channel], 3)
        shifted = offset + 3 - matrix @ [3, 3]
        expected = ndimage.affine_transform(padded, matrix, shifted, order=1)[3:-3, 3:-3]
        np.testing.assert_allclose(result[..., channel], expected, atol=1e-5)
    assert 0.1 < np.mean(np.asarray(result) == 0) < 0.6


def test_shift_by_whole_pixels_is_exact() -> None:
    # Draws of 1 and -0.5 of 2 pixels: 2 down and 1 to the left.
    expected = np.zeros_like(IMAGE)
    expected[2:, :-1] = IMAGE[:-2, 1:]
    shifted = apply(IMAGE, [0, 0, 0, 0, 1, -0.5, 0], shift_pixels=2.0)
    np.testing.assert_array_equal(shifted, expected)


def test_quarter_turn_is_exact() -> None:
    # A positive draw turns from the y axis, which points down, towards the negative x axis.
    square = IMAGE[:, :9]
    turned = apply(square, [1, 0, 0, 0, 0, 0, 0], rotation_degrees=90.0)
    np.testing.assert_array_equal(turned, np.rot90(square, -1))


@pytest.mark.parametrize("draw", [-1.0, -0.5, 1.0])
def test_changes_move_a_point_to_where_the_formulas_say(draw: float) -> None:
    # A blob at (y, x) = (6, 4) from the middle.
    angle = np.radians(30 * draw)
    turned = moved((6, 4), [draw, 0, 0, 0, 0, 0, 0], rotation_degrees=30.0)
    expected = 6 * np.cos(angle) + 4 * np.sin(angle), 4 * np.cos(angle) - 6 * np.sin(angle)
    assert turned == pytest.approx(expected, abs=0.05)
    slanted = moved((6, 4), [0, draw, 0, 0, 0, 0, 0], shear_degrees=30.0)
    assert slanted == pytest.approx((6, 4 + 6 * np.tan(angle)), abs=0.05)
    scaled = moved((6, 4), [0, 0, draw, -draw, 0, 0, 0], scale=0.25)
    assert scaled == pytest.approx((6 * 1.25**draw, 4 * 1.25**-draw), abs=0.05)


def test_edges_move_by_half_the_change_of_width() -> None:
    # A bar of 4 pixels between rows 8 and 11: with a draw of 0.5 of 1 pixel each edge moves a
    # quarter of a pixel outwards, so that a column has 4.5 pixels of ink.
    bar = np.zeros((20, 20), np.uint8)
    bar[8:12] = 200
    ink = [
        apply(bar, [0, 0, 0, 0, 0, 0, draw], stroke_pixels=1.0)[:, 10].sum() / 200
        for draw in (-1.0, -0.5, 0.0, 0.5, 1.0)
    ]
    assert ink == [3, 3.5, 4, 4.5, 5]
    # A whole pixel is the dilation or erosion by a cross.
    cross = ndimage.generate_binary_structure(2, 1)
    for pixels, expected in (
        (1.0, ndimage.grey_dilation(IMAGE, footprint=cross, mode="constant")),
        (-1.0, ndimage.grey_erosion(IMAGE, footprint=cross, mode="constant")),
    ):
        widened = widen(jnp.asarray(IMAGE, jnp.float32)[..., None], jnp.float32(pixels))
        np.testing.assert_array_equal(widened[..., 0], expected)


def test_without_ranges_images_stay_the_same() -> None:
    draws = augmentation().draw(jnp.int32(3), 4)
    images = RNG.integers(0, 256, (4, 28, 28, 3), dtype=np.uint8)
    same = augmentation().apply(jnp.asarray(images), jnp.arange(4), draws)
    np.testing.assert_array_equal(same, images)


def test_draws_fill_their_range_and_are_independent() -> None:
    draws = np.asarray(augmentation().draw(jnp.int32(0), 4000))
    assert (draws >= -1).all()
    assert (draws < 1).all()
    # A uniform draw has the mean 0 and the deviation 1 / sqrt(3) = 0.577; their standard errors
    # are 0.009 and 0.004, so that five of them are 0.046 and 0.02. A correlation has 0.016.
    assert np.abs(draws.mean(0)).max() < 0.046
    assert np.abs(draws.std(0) - 3**-0.5).max() < 0.02
    assert np.abs(np.corrcoef(draws.T) - np.eye(draws.shape[1])).max() < 0.08


def test_draws_are_a_function_of_seed_step_and_position() -> None:
    def draws(seed: int, step: int, batch_size: int) -> Any:
        return np.asarray(jax.jit(augmentation(seed).draw, static_argnums=1)(step, batch_size))

    first = draws(1, 7, 8)
    # Padding behind a batch, for devices that share it, changes nothing.
    np.testing.assert_array_equal(draws(1, 7, 13)[:8], first)
    others = [*first, *draws(2, 7, 8), *draws(1, 8, 8)]
    assert len({row.tobytes() for row in others}) == 24

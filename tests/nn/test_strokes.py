"""The strokes that are added to 1s and 7s: where they are, and which digits get them."""

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest

from cnn_jax.nn.augment import Augmentation
from cnn_jax.nn.strokes import NUM_DRAWS, add_strokes

FLAG, BASE, BOTH = -0.9, 0.0, 0.9  # Draws of the kind: below -0.2, to 0.2, above.


def one() -> npt.NDArray[np.uint8]:
    """Returns an upright 1 without flag and base line: rows 4..23, columns 13..15."""
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 13:16] = 250
    return image


def seven() -> npt.NDArray[np.uint8]:
    """Returns a 7 with a vertical stem: the arm in rows 4..6, the stem in columns 17..19."""
    image = np.zeros((28, 28), np.uint8)
    image[4:7, 8:20] = image[4:24, 17:20] = 250
    return image


def added_ink(
    image: npt.NDArray[np.uint8], label: int, kind: float = 0.0
) -> npt.NDArray[np.float32]:
    """Returns what is added to a digit, with draws in the middle of their ranges."""
    before = jnp.asarray(image, jnp.float32)[..., None]
    draws = jnp.zeros(NUM_DRAWS).at[1].set(kind)
    after = add_strokes(before, jnp.int32(label), draws, 1.0).image
    return np.asarray(after - before)[..., 0]


def extent(ink: npt.NDArray[np.float32]) -> list[int]:
    """Returns the first and last row, and the first and last column, with ink."""
    y, x = np.nonzero(ink > 125)
    return [int(end) for axis in (y, x) for end in (axis.min(), axis.max())]


def test_flag_leaves_the_upper_end_to_the_lower_left() -> None:
    # At (30 + 65) / 2 = 47.5 degrees to the stem, (20 + 50) / 2 = 35 % of 20 rows long: 7 pixels
    # from (5, 14) to (5 + 7 cos 47.5, 14 - 7 sin 47.5) = (9.7, 8.8), and half a width, 1.5, around:
    # down to row 11.2 and left to column 7.3. In column 12 its middle is at 5 + 2 / tan 47.5 = 6.8,
    # its upper edge at 6.8 - 1.5 / sin 47.5 = 4.8. The ink of the stem, columns 13 to 15, stays.
    added = added_ink(one(), 1, FLAG)
    assert extent(added) == [5, 11, 8, 12]
    assert added[9, 9] == 250


def test_base_line_is_level_and_centred_on_the_lower_end() -> None:
    # (35 + 75) / 2 = 55 % of 20 rows: 11 pixels around column 14, 8.5 to 19.5, and half a width:
    # 7 to 21, the last columns half covered. A line of 3 rows at the end of the digit: 21 to 23.
    assert extent(added_ink(one(), 1, BASE)) == [21, 23, 8, 20]
    both = np.maximum(added_ink(one(), 1, FLAG), added_ink(one(), 1, BASE))
    np.testing.assert_array_equal(added_ink(one(), 1, BOTH), both)


def test_seven_is_crossed_at_its_stem() -> None:
    # At 55 % of the height, row 4 + 0.55 * 19 = 14.45; (30 + 55) / 2 = 42.5 % of 20 rows: 8.5
    # pixels around column 18, and half a width: 12.2 to 23.8. At 5 degrees each end is 0.4 higher
    # or lower: 14.45 - 0.4 - 1.5 = 12.6, 14.45 + 0.4 + 1.5 = 16.3.
    assert extent(added_ink(seven(), 7)) == [13, 16, 13, 23]


@pytest.mark.parametrize("label", [0, 2, 3, 4, 5, 6, 8, 9])
def test_other_digits_stay_as_they_are(label: int) -> None:
    assert not added_ink(one(), label, BOTH).any()


def test_digits_that_have_such_strokes_stay_as_they_are() -> None:
    with_base, crossed = one(), seven()
    with_base[21:24, 8:21] = crossed[13:16, 12:24] = 250
    assert not added_ink(with_base, 1, FLAG).any()
    assert not added_ink(crossed, 7).any()


def test_changed_digit_keeps_its_centre_of_mass_and_its_longer_side() -> None:
    # A slanted 1, 20 rows high and 19 wide, whose base line reaches out to the left.
    image = np.zeros((28, 28), np.uint8)
    for row in range(20):
        image[4 + row, 20 - row * 16 // 19 : 23 - row * 16 // 19] = 250
    augmentation = Augmentation(jnp.uint32(1), strokes=1.0)
    draws = jnp.zeros((1, 7 + NUM_DRAWS)).at[0, 8].set(BASE)
    changed = augmentation.apply(jnp.asarray(image)[None, ..., None], jnp.array([1]), draws)
    y, x = np.mgrid[:28, :28]
    ink = np.asarray(changed)[0, ..., 0].astype(float)
    for axis in (y, x):
        assert (axis * ink).sum() / ink.sum() == pytest.approx(
            (axis * image).sum() / image.sum(), abs=0.1
        )
    rows, columns = np.nonzero(ink > 125)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(20, abs=1)
    assert np.ptp(columns) > np.ptp(rows)  # It is wider than high now, so it was made smaller.


def test_share_of_the_digits_gets_strokes() -> None:
    images = jnp.tile(jnp.asarray(one())[None, ..., None], (2000, 1, 1, 1))
    augmentation = Augmentation(jnp.uint32(1), strokes=0.3)
    draws = augmentation.draw(jnp.int32(0), 2000)
    changed = augmentation.apply(images, jnp.ones(2000, jnp.int32), draws)
    share = np.mean(np.asarray(changed != images).any((1, 2, 3)))
    # The standard error of the share is sqrt(0.3 * 0.7 / 2000) = 0.01.
    assert share == pytest.approx(0.3, abs=0.05)


def test_blank_images_stay_blank() -> None:
    # Padding, which is masked, may be blank: it must not become NaN.
    blank = jnp.zeros((2, 28, 28, 1), jnp.uint8)
    augmentation = Augmentation(jnp.uint32(1), strokes=1.0, stroke_pixels=1.0, scale=0.1)
    draws = augmentation.draw(jnp.int32(0), 2)
    assert not np.asarray(augmentation.apply(blank, jnp.array([1, 7]), draws)).any()

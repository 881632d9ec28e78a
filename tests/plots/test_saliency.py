import numpy as np
import pytest

from cnn_jax.plots import saliency
from tests.plots.legible import assert_legible


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 10])
def test_a_column_has_the_image_the_gradient_and_both(channels: int, count: int) -> None:
    generator = np.random.default_rng(0)
    image_u8 = generator.integers(0, 256, (count, 6, 8, channels), dtype=np.uint8)
    gradient = generator.random((count, 6, 8), np.float32)
    titles = [f"label T-shirt/top {k}\nsays a dress with $lace$\n12.3 %" for k in range(count)]
    drawn = saliency.draw(image_u8, gradient, titles, "title")
    above, middle, below, bar = drawn.axes
    for row, expected in (
        (above, image_u8.squeeze(-1) if channels == 1 else image_u8),
        (middle, gradient),
    ):
        for image, array in zip(row.get_images(), expected, strict=True):
            np.testing.assert_array_equal(image.get_array(), array)
    (norm,) = {image.norm for image in middle.get_images()}
    assert norm.vmin == 0
    assert norm.vmax == pytest.approx(np.percentile(gradient, 99.8))
    # Over each image its gradient, the more opaque the larger it is.
    glow = np.asarray(below.get_images()[count].get_array())
    np.testing.assert_allclose(glow[..., 3], np.minimum(gradient[0] / norm.vmax, 1), rtol=1e-6)
    columns = [label.get_text() for label in above.get_xticklabels()]
    assert columns[0] == "label T-shirt/to…\nsays a dress wit…\n12.3 %"
    assert bar.get_ylabel() == "|gradient| (logits per unit of intensity)"
    assert_legible(drawn)


def test_a_network_that_is_deaf_to_its_image_glows_nowhere() -> None:
    drawn = saliency.draw(
        np.zeros((1, 4, 4, 1), np.uint8), np.zeros((1, 4, 4), np.float32), ["label"], "title"
    )
    assert not np.asarray(drawn.axes[2].get_images()[1].get_array())[..., 3].any()

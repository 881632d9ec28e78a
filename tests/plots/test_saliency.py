"""The figure of the pixels that predictions depend on."""

import numpy as np
import pytest

from cnn_jax.plots import saliency
from tests.plots.legible import assert_legible


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 10])
def test_column_has_the_image_the_gradient_and_both(channels: int, count: int) -> None:
    generator = np.random.default_rng(0)
    image_u8 = generator.integers(0, 256, (count, 6, 8, channels), dtype=np.uint8)
    gradient = generator.random((count, 6, 8), np.float32)
    titles = [f"label T-shirt/top {k}\npred. a dress with $lace$\n12.3 %" for k in range(count)]
    figure = saliency.draw(image_u8, gradient, titles, "title")
    images, gradients, overlays, bar = figure.axes
    for row, expected in (
        (images, image_u8.squeeze(-1) if channels == 1 else image_u8),
        (gradients, gradient),
    ):
        for image, array in zip(row.get_images(), expected, strict=True):
            np.testing.assert_array_equal(image.get_array(), array)
    (norm,) = {image.norm for image in gradients.get_images()}
    assert norm.vmin == 0
    assert norm.vmax == pytest.approx(np.percentile(gradient, 99.8))
    # The larger the gradient over an image, the more opaque it is.
    overlay = np.asarray(overlays.get_images()[count].get_array())
    np.testing.assert_allclose(overlay[..., 3], np.minimum(gradient[0] / norm.vmax, 1), rtol=1e-6)
    columns = [label.get_text() for label in images.get_xticklabels()]
    assert columns[0] == "label T-shirt/top 0\npred. a d…th $lace$\n12.3 %"
    assert bar.get_ylabel() == "|gradient| (logits per unit of intensity)"
    assert_legible(figure)


def test_gradient_of_zero_leaves_the_image_unmarked() -> None:
    figure = saliency.draw(
        np.zeros((1, 4, 4, 1), np.uint8), np.zeros((1, 4, 4), np.float32), ["label"], "title"
    )
    assert not np.asarray(figure.axes[2].get_images()[1].get_array())[..., 3].any()

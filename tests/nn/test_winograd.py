import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.nn import winograd
from cnn_jax.nn.winograd import F_2_3, F_2_5, F_4_3, Transform


@pytest.mark.parametrize(
    ("transform", "filter_values", "expected"),
    [
        # 3*2 - 1*3 - 2, 1*2 + 2*3 + 5, -2*2 - 5*3 + 4 and 5*2 - 4*3 - 1.
        (F_2_3, (2, -3, 1), (1, 13)),
        (F_4_3, (2, -3, 1), (1, 13, -15, -3)),
        # 3*2 - 1*3 - 2*1 + 5*0 + 4*4 and 1*2 + 2*3 + 5*1 + 4*0 - 1*4.
        (F_2_5, (2, -3, 1, 0, 4), (17, 9)),
    ],
)
def test_a_transform_gives_the_outputs_of_the_filter(
    transform: Transform, filter_values: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    # Whole numbers whose sums and products float32 holds, up to the division by 24.
    values = jnp.asarray([3.0, 1, -2, 5, 4, -1])[: len(transform.windows)]
    kernel = jnp.asarray(filter_values, jnp.float32)
    left = jnp.stack(winograd.combine(transform.windows, values))
    products = left * winograd.transform_kernel(transform, kernel)
    outputs = winograd.combine(transform.outputs, products)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("kernel_shape", "pooled_rows", "rows", "columns"),
    [
        ((3, 3, 1, 8), 14, None, None),  # The two stages of the reference model.
        ((3, 3, 8, 16), 7, F_2_3, None),
        ((3, 3, 3, 16), 16, F_4_3, None),
        ((3, 3, 16, 8), 7, F_2_3, None),
        ((3, 3, 20, 8), 7, F_4_3, None),
        ((3, 3, 20, 8), 3, F_2_3, None),
        ((3, 3, 8, 16), 2, F_2_3, None),
        ((3, 3, 32, 64), 7, F_4_3, F_2_3),
        ((3, 3, 32, 64), 3, F_2_3, None),
        ((3, 3, 64, 128), 3, F_2_3, F_2_3),
        ((5, 5, 32, 16), 7, F_2_5, None),
        ((5, 5, 1, 8), 14, None, None),
        ((4, 4, 32, 16), 7, None, None),
    ],
)
def test_the_shape_of_a_stage_chooses_its_transforms(
    kernel_shape: tuple[int, ...],
    pooled_rows: int,
    rows: Transform | None,
    columns: Transform | None,
) -> None:
    chosen = winograd.choose(kernel_shape, pooled_rows)
    assert chosen.rows is rows
    assert chosen.columns is columns


def test_transposing_a_matrix_exchanges_its_rows_and_columns() -> None:
    assert winograd.transpose(((1, 2, 3), (4, 5, 6))) == ((1, 4), (2, 5), (3, 6))

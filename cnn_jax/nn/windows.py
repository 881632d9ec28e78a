"""The windows of an image and the weights for them: the factors of `fused_stage`'s products.

That module explains both. With transforms of Winograd (`winograd.py`) the rows of the windows and
of the kernel are combined here, and maybe their columns; without one there is one product, a single
group.
"""

import jax
import jax.numpy as jnp
from jax import Array

from cnn_jax.nn import winograd
from cnn_jax.nn.shapes import POOL_SIZE, output_size
from cnn_jax.nn.winograd import F_2_3, Transform, Transforms

# For each row or column of a window: its index in a cell, and the cells of all windows.
_Pixels = list[tuple[int, slice]]


def extract_windows(
    image: Array,
    kernel_shape: tuple[int, ...],
    pads: tuple[int, int],
    *,
    by_split: bool,
) -> Array:
    """Copies the window of every pooled position, and combines its pixels where Winograd is used.

    Windows are two pixels apart. A window is as large as the smallest even size that holds k + 1
    pixels a side: k + 1 for odd kernels, k + 2 for even ones. Winograd's windows are as wide, and
    as high and as far apart as the rows of its transform.

    Args:
      image: float32 [B, H, W, C].
      kernel_shape: (k, k, C, O).
      pads: zeros added (before, after) on both axes of the image.
      by_split: whether pixels are taken apart by a split. Its gradient is one array; that of an
        index is zeros around a part, which JAX 0.10.2 writes to memory without max pooling. For max
        pooling with F(2, 3) of the rows alone the index is faster. The other transforms always use
        splits.

    Returns:
      float32 [groups, pixels * C, rows of windows, W', B]. One group holds all pixels of the
      windows; with Winograd each group holds one combination of their rows, or of their rows and
      columns.
    """
    size = kernel_shape[0]
    rows, columns = (pooled_size(n, size, pads) for n in image.shape[1:3])
    transform, column_transform = winograd.choose(kernel_shape, rows)
    window_columns = 2 * (size // 2 + 1)
    window_rows = len(transform.windows) if transform else window_columns
    step = len(transform.outputs) if transform else 2  # Rows from one window to the next.
    rows = -(-2 * rows // step)  # The last of Winograd's windows may reach below the image.
    # A cell is a block of `step` rows and two columns, one step from window to window.
    cell_rows = rows + -(-window_rows // step) - 1
    cells = _cut_into_cells(image, pads[0], (step, cell_rows), columns + window_columns // 2 - 1)
    # Pixel (i, j) of the window at (y, x) is pixel (i % step, j % 2) of the cell at
    # (y + i // step, x + j // 2): that is one slice for all windows.
    across = [(j % 2, slice(j // 2, j // 2 + columns)) for j in range(window_columns)]
    down = [(i % step, slice(i // step, i // step + rows)) for i in range(window_rows)]
    if transform and (column_transform or transform is not F_2_3):
        windows = _combine_rows_and_columns(cells, down, across, transform, column_transform)
    else:
        windows = _stack_pixels(cells, down, across, by_split)
        if transform:
            windows = winograd.combine(transform.windows, windows)
    groups = len(windows) if transform else 1
    if column_transform:
        groups *= len(column_transform.windows)
    return jnp.stack(windows).reshape(groups, -1, rows, columns, image.shape[0])


def _combine_rows_and_columns(
    cells: Array,
    down: _Pixels,
    across: _Pixels,
    transform: Transform,
    column_transform: Transform | None,
) -> list[Array]:
    """Combines the rows of all windows, and then, where asked, their columns.

    Returns:
      For each combination of rows float32 [columns of a window, C, rows of windows, W', B].
    """
    cells_by_row = jax.lax.split(cells, (1,) * len(cells))
    image_rows = [cells_by_row[i][0, :, :, y] for i, y in down]
    # Each value combines up to four rows. Without the barrier XLA does it for each column anew.
    combined = jax.lax.optimization_barrier(winograd.combine(transform.windows, image_rows))
    columns_of_cells = [jax.lax.split(row, (1, 1)) for row in combined]
    pixels = [[row[j][0, :, :, x] for j, x in across] for row in columns_of_cells]
    if column_transform:
        pixels = [winograd.combine(column_transform.windows, row) for row in pixels]
    return [jnp.stack(row) for row in pixels]


def _stack_pixels(cells: Array, down: _Pixels, across: _Pixels, by_split: bool) -> list[Array]:
    """Takes the pixels of all windows apart.

    Returns:
      For each row of a window float32 [columns of a window, C, rows of windows, W', B].
    """
    if by_split:
        halves = jax.lax.split(cells, (1, 1))
        corners = [jax.lax.split(half, (1, 1), axis=1) for half in halves]
        pixels = [[corners[i][j][0, 0, :, y, x] for j, x in across] for i, y in down]
    else:
        pixels = [[cells[i, j, :, y, x] for j, x in across] for i, y in down]
    return [jnp.stack(row) for row in pixels]


def _cut_into_cells(image: Array, before: int, rows: tuple[int, int], cell_columns: int) -> Array:
    """Pads an image, and takes the rows and the columns of its cells apart.

    Args:
      image: float32 [B, H, W, C].
      before: zeros added before it on both axes. The zeros after it reach to the end of the last
        cell. Their number is negative where an odd last row or column is not needed.
      rows: number of rows of a cell, and number of cells below each other.
      cell_columns: number of cells beside each other.

    Returns:
      float32 [rows of a cell, 2, C, cell rows, cell columns, B].
    """
    batch, height, width, channels = image.shape
    step, cell_rows = rows
    padded = jax.lax.pad(
        image.transpose(3, 1, 2, 0),
        jnp.zeros((), image.dtype),
        (
            (0, 0, 0),
            (before, step * cell_rows - before - height, 0),
            (before, 2 * cell_columns - before - width, 0),
            (0, 0, 0),
        ),
    )
    cells = padded.reshape(channels, cell_rows, step, cell_columns, 2, batch)
    return cells.transpose(2, 4, 0, 1, 3, 5)


def pooled_size(size: int, kernel_size: int, pads: tuple[int, int]) -> int:
    """Returns the height or width after pooling, from that of the image."""
    return output_size(size, kernel_size, pads, stride=1) // POOL_SIZE


def expand_kernel(kernel: Array, transforms: Transforms) -> Array:
    """Places the kernel into windows at all offsets on the axes that have no transform.

    Args:
      kernel: float32 [k, k, C, O].
      transforms: of Winograd.

    Returns:
      float32 [groups, offsets * O, pixels * C]: one group with the offsets (0, 0), (0, 1), (1, 0),
      (1, 1); with Winograd a group for each product, with the column offsets 0 and 1, or with none
      where the columns have a transform too.
    """
    size, _, _, filters = kernel.shape
    transform, column_transform = transforms
    if transform and column_transform:
        columns = winograd.transform_kernel(column_transform, kernel.swapaxes(0, 1))
        groups = winograd.transform_kernel(transform, columns.swapaxes(0, 1))
        return groups.swapaxes(2, 3).reshape(-1, filters, kernel.shape[2])
    spare = 2 * (size // 2 + 1) - size  # Pixels by which a window is larger than the kernel.
    shifted = [jnp.pad(kernel, ((0, 0), (q, spare - q), (0, 0), (0, 0))) for q in (0, 1)]
    columns = jnp.stack(shifted, axis=1)  # [kernel rows, q, window columns, C, O]
    if transform:
        groups = winograd.transform_kernel(transform, columns)
    else:
        shifted = [jnp.pad(columns, ((p, spare - p), *[(0, 0)] * 4)) for p in (0, 1)]
        windows = jnp.stack(shifted).swapaxes(1, 2)  # [p, q, window rows, window columns, C, O]
        groups = windows.reshape(1, 4, *windows.shape[2:])
    # [groups, offsets, O, window rows, window columns, C]: a row of the matrix is one filter.
    groups = jnp.moveaxis(groups, -1, 2)
    return groups.reshape(len(groups), groups.shape[1] * filters, -1)

"""`--mode=describe`: a config's network as a table, without data, training or JAX."""

from collections.abc import Iterator, Sequence

from ml_collections import ConfigDict

from cnn_jax.config import schema
from cnn_jax.errors import UserError
from cnn_jax.io.console import format_table
from cnn_jax.nn.shapes import Layer


def describe(config: ConfigDict) -> Iterator[str]:
    """Yields the table's text; where a layer leaves nothing, the rows up to it.

    Args:
      config: any config; it is checked first.

    Raises:
      UserError: for a config that is not allowed; for one that leaves nothing, after the table.
    """
    schema.check_fields(config)
    info = schema.describe_data(config)
    layers: list[Layer] = []
    try:
        layers.extend(schema.walk_layers(config, info))
    except UserError:
        yield _table(layers)
        raise
    yield _table(layers)


def _table(layers: Sequence[Layer]) -> str:
    """The layers as aligned text: one row each, and the sums of the two columns that add up."""
    header = (
        "layer",
        "output",
        "(w - k + 2p)/s + 1, rounded down",
        "parameters",
        "multiply-adds",
        "receptive field",
    )
    rows = [
        (
            layer.name,
            "x".join(map(str, layer.output_shape)),
            layer.arithmetic,
            f"{layer.num_parameters:,}",
            f"{layer.multiply_adds:,}",
            "x".join(map(str, layer.receptive_field)),
        )
        for layer in layers
    ]
    parameters = sum(layer.num_parameters for layer in layers)
    multiply_adds = sum(layer.multiply_adds for layer in layers)
    rows.append(("total", "", "", f"{parameters:,}", f"{multiply_adds:,}", ""))
    return format_table(header, rows, left=(0, 1, 2))

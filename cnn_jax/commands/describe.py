"""`--mode=describe`: prints the layers of a config's model, without data, training or JAX."""

from collections.abc import Iterator, Sequence

from ml_collections import ConfigDict

from cnn_jax.config import schema
from cnn_jax.errors import UserError
from cnn_jax.io.console import Console, format_table
from cnn_jax.nn.layer_table import Layer


def describe(config: ConfigDict) -> Iterator[str]:
    """Yields a line about a data set of files, and a table of the layers, as text.

    Args:
      config: config of a run, not yet checked.

    Raises:
      UserError: when the config is invalid. When a layer has no output left, it is raised after the
        table of the layers before it.
    """
    schema.check_fields(config)
    info = schema.describe_data(config, Console().err.isatty())
    if info.source:
        yield f"Data: {info.source}\n"
    layers: list[Layer] = []
    try:
        layers.extend(schema.walk_layers(config, info))
    except UserError:
        yield _format_layers(layers)
        raise
    yield _format_layers(layers)


def _format_layers(layers: Sequence[Layer]) -> str:
    """Formats one row for each layer, and a last row with total parameters and multiply-adds."""
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

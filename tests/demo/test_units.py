"""The numbers that the page shows behind each value: unit.js, geometry.js and their neighbours."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cnn_jax.evaluation import interpret
from cnn_jax.evaluation.trained import TrainedModel
from cnn_jax.export import numpy_forward
from cnn_jax.model import layers_of
from tests.demo.node import needs_node, run_node, tiny_model
from tests.support.random_models import model_options, random_images, random_model

pytestmark = needs_node


def javascript_model(trained: TrainedModel) -> dict[str, Any]:
    """Returns a model as in network.js."""
    flat = {
        layer: {name: np.asarray(array).ravel().tolist() for name, array in arrays.items()}
        for layer, arrays in trained.params.items()
    }
    convolutions = [
        {
            **flat[f"conv_{number}"],
            "size": stage.kernel_size,
            "filters": filters,
            "strides": stage.strides,
            "pool": stage.pool,
        }
        for number, (filters, stage) in enumerate(trained.model.convolutions, start=1)
    ]
    return {
        "imageShape": trained.image_shape,
        "classNames": trained.class_names,
        "convolutions": convolutions,
        "pads": trained.model.stage.pads,
        "activation": trained.model.activation,
        "linear": flat["linear_1"],
    }


def javascript_layers(maps: Mapping[str, npt.NDArray[np.float32]]) -> list[dict[str, Any]]:
    """Returns the layers of a forward pass as in network.js, from the output of each."""
    kinds = {"conv": "conv", "pool": "pool", "linear": "linear"}
    return [
        {
            "name": name,
            "kind": kinds.get(name.split("_")[0], "activation"),
            "shape": array.shape,
            "values": array.ravel().tolist(),
        }
        for name, array in maps.items()
    ]


def numpy_logits(trained: TrainedModel, image_u8: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """Returns the logits [classes] of an image, by the exported forward pass."""
    stages = [stage for _, stage in trained.model.convolutions]
    logits, _ = numpy_forward.forward(
        image_u8[None],
        {
            f"{layer}.{name}": np.asarray(array)
            for layer, arrays in trained.params.items()
            for name, array in arrays.items()
        },
        pads=trained.model.stage.pads,
        strides=tuple(stage.strides for stage in stages),
        activation=trained.model.activation,
        pools=tuple(stage.pool for stage in stages),
    )
    return logits[0]


@pytest.mark.parametrize("options", model_options(), ids=str)
def test_numbers_behind_every_value_give_that_value(options: dict[str, Any]) -> None:
    trained = random_model(**options)
    image_u8 = random_images(trained, 1)[0]
    batches = interpret.feature_maps(trained.model, trained.params, image_u8[None])
    maps = {name: batch[0] for name, batch in batches.items()}
    given = {
        "model": javascript_model(trained),
        "image": image_u8.ravel().tolist(),
        "result": {"layers": javascript_layers(maps)},
    }
    answers = run_node(
        """
        const valueOf = {
          conv: convolutionAt,
          activation: (model, layers, ...place) => activationAt(layers, ...place),
          pool: poolAt,
          linear: (model, layers, index, row, column, label) => logitAt(model, layers, label),
        };
        return layers.slice(1).map(({ kind, shape }, i) => {
          const [height, width, channels] = shape.length === 3 ? shape : [1, 1, shape[0]];
          return Array.from({ length: height * width * channels }, (_, j) => {
            const [cell, channel] = [Math.floor(j / channels), j % channels];
            const [row, column] = [Math.floor(cell / width), cell % width];
            return valueOf[kind](model, layers, i + 1, row, column, channel).value;
          });
        });
        """,
        given,
    )
    for values, (name, expected) in zip(answers, maps.items(), strict=True):
        actual = np.reshape(values, expected.shape)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(answers[-1], numpy_logits(trained, image_u8), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", model_options(), ids=str)
def test_receptive_fields_are_those_of_the_table_of_layers(options: dict[str, Any]) -> None:
    trained = random_model(**options)
    table = layers_of(trained.model, trained.image_shape)
    shapes = [layer.output_shape[:2] for layer in table[:-1]] + [(1, 1)]  # A logit sees it all.
    answers = run_node(
        """
        return given.shapes.map(([height, width], index) => {
          return Array.from({ length: height * width }, (_, i) => {
            const field = receptiveField(model, index, Math.floor(i / width), i % width);
            return [field.top, field.bottom, field.left, field.right];
          });
        });
        """,
        {"model": javascript_model(trained), "shapes": shapes},
    )
    for fields, layer, (height, width) in zip(answers, table, shapes, strict=True):
        expected = [
            [rows.start, rows.stop, columns.start, columns.stop]
            for row in range(height)
            for column in range(width)
            for rows, columns in [layer.receptive_field_at(row, column)]
        ]
        assert fields == expected, layer.name


def test_convolution_shows_window_kernel_and_products() -> None:
    unit = run_node("return convolutionAt(model, layers, 1, 0, 0, 0);", tiny_model())
    assert (unit["top"], unit["left"]) == (-1, -1)
    # The first row and column are zeros of the padding.
    np.testing.assert_allclose(unit["window"], [0, 0, 0, 0, 0.2, 0.4, 0, 0.6, 0.8], rtol=1e-6)
    assert unit["kernel"] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    np.testing.assert_allclose(unit["products"], [0, 0, 0, 0, 1, 2.4, 0, 4.8, 7.2], rtol=1e-6)
    assert unit["sum"] == pytest.approx(1 + 2.4 + 4.8 + 7.2, rel=1e-6)
    assert unit["bias"] == pytest.approx(-0.4)
    assert unit["value"] == pytest.approx(15, rel=1e-6)


@pytest.mark.parametrize(
    ("pool", "winner", "value"), [("max", 0, 15), ("avg", -1, (15 + 11 + 7 + 0) / 4)]
)
def test_pooling_shows_its_four_values(pool: str, winner: int, value: float) -> None:
    unit = run_node("return poolAt(model, layers, 3, 0, 0, 0);", tiny_model(pool=pool))
    assert unit["window"] == [15, 11, 7, 0]
    assert (unit["winner"], unit["value"]) == (winner, value)


def test_pooling_of_a_diverged_network_has_a_winner() -> None:
    # Math.max is NaN where any number is; the last of the four is the first NaN.
    script = "layers[2].values[3] = NaN; return poolAt(model, layers, 3, 0, 0, 0).winner;"
    assert run_node(script, tiny_model()) == 3


def test_logit_shows_products_and_bias() -> None:
    unit = run_node("return logitAt(model, layers, 1);", tiny_model())
    assert (unit["products"], unit["bias"], unit["value"]) == ([30], 0.5, 30.5)


def test_window_of_a_stride_begins_in_the_padding() -> None:
    # Row 2 and column 0 at stride 3 begin at 2 * 3 - 1 and 0 * 3 - 1.
    window = run_node("return windowAt(model, 1, 2, 0);", tiny_model(strides=3))
    assert window == {"top": 5, "left": -1, "size": 3}

"""The numbers that the page shows behind each value: unit.js, geometry.js and their neighbours."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cnn_jax.evaluation import interpret
from cnn_jax.evaluation.trained import TrainedModel
from cnn_jax.export import numpy_forward
from cnn_jax.model import layers_of
from tests.support.command_line import ROOT
from tests.support.random_models import model_options, random_images, random_model

pytestmark = pytest.mark.skipif(
    not shutil.which("node"), reason="node is not installed: apt-get install nodejs"
)

# What the tests import, and `read`, which turns the lists of JSON into typed arrays.
_PREAMBLE = """
import { readFileSync } from "node:fs";
import { formatterFor } from "./format.js";
import { receptiveField, windowAt } from "./geometry.js";
import { channelSums, largestParts } from "./ledger.js";
import { movePlace } from "./maps.js";
import { listSteps } from "./steps.js";
import { activationAt, convolutionAt, layersFromImage, logitAt, poolAt } from "./unit.js";
const isArray = (key) => ["kernel", "bias", "values", "image"].includes(key);
const { model, image, result, ...given } = JSON.parse(readFileSync(0, "utf8"), (key, value) =>
  isArray(key) && Array.isArray(value) ? Float32Array.from(value) : value);
const layers = result ? layersFromImage(model, image, result) : [];
"""


def run_node(script: str, given: Mapping[str, Any]) -> Any:
    """Runs the body of a function in Node.js, and returns what it returns.

    Args:
      script: JavaScript that knows the names of `_PREAMBLE`.
      given: JSON, with `model`, `image` and `result` as in network.js, or without them.
    """
    # Relative imports need a file; code on the command line has none.
    demo = (ROOT / "cnn_jax" / "demo").as_uri()
    code = _PREAMBLE.replace('"./', f'"{demo}/') + (
        "const answer = (() => {" + script + "})();\n"
        "console.log(JSON.stringify(answer, (_, value) => ArrayBuffer.isView(value) ? "
        "Array.from(value) : value));"
    )
    done = subprocess.run(
        ["node", "--no-warnings", "--input-type=module", "--eval", code],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


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


def tiny_model(**changes: Any) -> dict[str, Any]:
    """Returns a 2x2 image with 0.2 0.4 / 0.6 0.8, and a 3x3 filter with the weights 1 to 9."""
    convolution = {"kernel": [*range(1, 10)], "bias": [-0.4], "size": 3, "filters": 1}
    model = {
        "imageShape": [2, 2, 1],
        "classNames": ["no", "yes"],
        "convolutions": [{**convolution, "strides": 1, "pool": "max", **changes}],
        "pads": [1, 1],
        "activation": "relu",
        "linear": {"kernel": [1, 2], "bias": [0, 0.5]},
    }
    maps = [15, 11, 7, -5]  # Chosen at will: only the first one is the filter's.
    layers = [
        {"name": "conv_1", "kind": "conv", "shape": [2, 2, 1], "values": maps},
        {"name": "relu_1", "kind": "activation", "shape": [2, 2, 1], "values": [15, 11, 7, 0]},
        {"name": "pool_1", "kind": "pool", "shape": [1, 1, 1], "values": [15]},
        {"name": "linear_1", "kind": "linear", "shape": [2], "values": [15, 30.5]},
    ]
    return {"model": model, "image": [51, 102, 153, 204], "result": {"layers": layers}}


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


def test_shown_parts_and_their_rest_add_up() -> None:
    # Products [2, 2, 3]: three channels side by side.
    products = [1, -9, 0.5, 2, 3, 0.25, -4, 1, 0, 1, 2, 0]
    script = """
    const sums = channelSums(Float64Array.from(given.products), 3);
    return [sums, largestParts(sums, 2)];
    """
    sums, parts = run_node(script, {"products": products})
    assert sums == [1 + 2 - 4 + 1, -9 + 3 + 1 + 2, 0.5 + 0.25]
    # The sums are 0, -3 and 0.75.
    assert parts["largest"] == [{"index": 1, "part": -3}, {"index": 2, "part": 0.75}]
    assert (parts["numRest"], parts["rest"]) == (1, 0)


def test_numbers_of_a_sum_have_the_same_decimals() -> None:
    texts = run_node(
        "return given.sums.map((sum) => sum.map(formatterFor(sum)));",
        {
            "sums": [
                [1.234, -0.5, 0.001],
                [0.0123, -0.00456],
                [123.456, -0.004],
                [0, 0],
                [-2.5e12, 1],
            ]
        },
    )
    # Three digits of the largest number, but at least two decimals.
    assert texts == [
        ["1.23", "\N{MINUS SIGN}0.50", "0"],
        ["0.0123", "\N{MINUS SIGN}0.0046"],
        ["123.46", "0"],
        ["0", "0"],
        ["\N{MINUS SIGN}2.50e+12", "1.00e+0"],
    ]


def test_keys_move_in_a_map_and_to_its_neighbours() -> None:
    expected = {
        "ArrowUp": [1, 4, 1],
        "ArrowDown": [2, 4, 1],  # It is in the last row.
        "ArrowLeft": [2, 3, 1],
        "ArrowRight": [2, 0, 2],  # The neighbouring map.
        "PageUp": [2, 4, 0],
        "PageDown": [2, 4, 2],
        "Home": [2, 4, 0],
        "End": [2, 4, 3],
    }
    # Four maps of 3x5; from the last value of the second one.
    script = """
    return given.keys.map((key) => {
      const place = movePlace([3, 5, 4], { row: 2, column: 4, channel: 1 }, key);
      return [place.row, place.column, place.channel];
    });
    """
    assert run_node(script, {"keys": list(expected)}) == list(expected.values())


def test_steps_lead_from_the_image_to_the_bars() -> None:
    steps = run_node("return listSteps(model, layers);", tiny_model())
    # The image; the filter that slides, and all maps; activation; pooling; the linear layer.
    assert [step["index"] for step in steps] == [0, 1, 1, 2, 3, 4]
    # The first row value by value, then the largest value of the second one, 7.
    places = [(unit["row"], unit["column"]) for unit in steps[1]["units"]]
    assert places == [(0, 0), (0, 1), (1, 0)]
    # The logit of "yes" is the largest.
    assert steps[-1]["units"][0]["channel"] == 1

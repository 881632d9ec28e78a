import dataclasses
from typing import Any

import pytest

from cnn_jax.errors import UserError
from cnn_jax.nn.layer_table import Layer, walk_layers
from cnn_jax.nn.shapes import Stage, convolutions

REFERENCE = Stage(kernel_size=3, strides=1, padding="SAME", activation="relu", pool="max")


def layers_by_name(
    image_shape: tuple[int, int, int] = (28, 28, 1),
    features: tuple[int, ...] = (8, 16),
    stage_sizes: tuple[int, ...] = (1,),
    **changes: Any,
) -> dict[str, Layer]:
    """Returns the layers of the reference model, with changes, by their names."""
    stage = dataclasses.replace(REFERENCE, **changes)
    layers = walk_layers(image_shape, 10, convolutions(features, stage_sizes, stage))
    return {layer.name: layer for layer in layers}


def test_reference_shapes_match_the_tutorial() -> None:
    shape = {name: layer.output_shape for name, layer in layers_by_name().items()}
    assert shape == {
        "image": (28, 28, 1),
        "conv_1": (28, 28, 8),
        "relu_1": (28, 28, 8),
        "pool_1": (14, 14, 8),
        "conv_2": (14, 14, 16),
        "relu_2": (14, 14, 16),
        "pool_2": (7, 7, 16),
        "linear_1": (10,),
    }


def test_reference_model_has_9098_parameters() -> None:
    layers = layers_by_name()
    assert layers["conv_1"].num_parameters == 3 * 3 * 1 * 8 + 8  # 80
    assert layers["conv_2"].num_parameters == 3 * 3 * 8 * 16 + 16  # 1,168
    assert layers["linear_1"].num_parameters == 7 * 7 * 16 * 10 + 10  # 7,850
    assert sum(layer.num_parameters for layer in layers.values()) == 80 + 1168 + 7850 == 9098


def test_multiply_adds_of_the_reference_model() -> None:
    layers = layers_by_name()
    # Each of the 28 * 28 * 8 values of conv_1 is a sum of 3 * 3 * 1 products, and so on.
    assert layers["conv_1"].multiply_adds == 28 * 28 * 8 * 9
    assert layers["conv_2"].multiply_adds == 14 * 14 * 16 * 9 * 8
    assert layers["linear_1"].multiply_adds == 784 * 10
    assert layers["pool_1"].multiply_adds == 0


def test_receptive_field_grows_layer_by_layer() -> None:
    layers = layers_by_name()
    # The field of conv_1 is 3 pixels. pool_1 combines two neighbours, one pixel apart: 3 + 1 = 4.
    # From there neighbours are 2 pixels apart, so conv_2 adds 2 * 2 = 4 and pool_2 adds 1 * 2 = 2.
    # The field of linear_1 is the whole image: 7 fields of pool_2, 4 pixels apart, reach from -3 to
    # 31.
    fields = [layers[n].receptive_field[0] for n in ("conv_1", "pool_1", "conv_2", "pool_2")]
    assert fields == [3, 4, 8, 10]
    assert layers["linear_1"].receptive_field == (28, 28)


def test_linear_layer_sees_no_rows_that_pooling_drops() -> None:
    # Without padding: 28, conv_1 26, pool_1 13, conv_2 11, and pool_2 drops the last row: 5. Its 5
    # fields of 10 pixels, 4 apart, cover the first 26 rows.
    assert layers_by_name(padding="VALID")["linear_1"].receptive_field == (26, 26)


def test_receptive_field_moves_with_the_position() -> None:
    layers = layers_by_name()
    # The first value of conv_1 depends on the zero before the image and on pixels 0 and 1; the
    # field of its neighbour starts one pixel later. The first value of pool_1 depends on values 0
    # and 1 of conv_1, so on pixels -1..2, and its neighbour's field starts two pixels later. The
    # field of conv_2 starts one value of pool_1, which is two pixels, earlier: -3..4.
    starts = [(layers[n].field_start, layers[n].jump) for n in ("conv_1", "pool_1", "conv_2")]
    assert starts == [(-1, 1), (-1, 2), (-3, 2)]
    assert layers["conv_2"].receptive_field_at(0, 7) == (range(-3, 5), range(11, 19))
    assert layers["relu_2"].receptive_field_at(0, 7) == layers["conv_2"].receptive_field_at(0, 7)
    assert layers["image"].receptive_field_at(5, 6) == (range(5, 6), range(6, 7))


def test_strides_and_padding_move_the_receptive_fields() -> None:
    layers = layers_by_name(strides=2, padding="FULL", kernel_size=4, pool="none")
    # FULL padding adds three zeros before the image, and three before the map of conv_1, whose
    # values are two pixels apart.
    assert (layers["conv_1"].field_start, layers["conv_1"].jump) == (-3, 2)
    assert (layers["conv_2"].field_start, layers["conv_2"].jump) == (-3 - 3 * 2, 4)


def test_arithmetic_is_written_for_each_side_that_differs() -> None:
    assert layers_by_name()["conv_1"].arithmetic == "(28 - 3 + 2*1)/1 + 1 = 28"
    assert layers_by_name(kernel_size=4)["conv_1"].arithmetic == "(28 - 4 + 1 + 2)/1 + 1 = 28"
    wide = layers_by_name((8, 12, 3), features=(8,), padding="VALID")["conv_1"]
    assert wide.arithmetic == "(8 - 3 + 2*0)/1 + 1 = 6, (12 - 3 + 2*0)/1 + 1 = 10"
    assert wide.output_shape == (6, 10, 8)


def test_convolutions_of_a_stage_follow_each_other_and_then_pooling() -> None:
    layers = layers_by_name(stage_sizes=(2, 1), strides=2)
    # Strides of 2 halve 28 to 14, and only in the first convolution; pooling to 7. The last stage
    # halves 7 to 4, and pooling to 2.
    assert {name: layer.output_shape for name, layer in layers.items()} == {
        "image": (28, 28, 1),
        "conv_1": (14, 14, 8),
        "relu_1": (14, 14, 8),
        "conv_2": (14, 14, 8),
        "relu_2": (14, 14, 8),
        "pool_2": (7, 7, 8),
        "conv_3": (4, 4, 16),
        "relu_3": (4, 4, 16),
        "pool_3": (2, 2, 16),
        "linear_1": (10,),
    }
    assert layers["conv_2"].num_parameters == 3 * 3 * 8 * 8 + 8
    # Values of conv_1 are 2 pixels apart: conv_2 sees 3 + 2 * 2 = 7, pool_2 7 + 2 = 9. Its values
    # are 4 apart: conv_3 sees 9 + 2 * 4 = 17.
    fields = [layers[n].receptive_field[0] for n in ("conv_1", "conv_2", "pool_2", "conv_3")]
    assert fields == [3, 7, 9, 17]


def test_convolution_for_which_a_stage_leaves_no_pixels_is_named() -> None:
    # VALID: 28 -> 26 -> 24, pooling to 12, -> 10 -> 8 -> 6 -> 4 -> 2: no place for a 3x3 kernel.
    words = r"model\.kernel_size=3 is too large for conv_8, whose input is 2x2 \(VALID padding\)"
    with pytest.raises(UserError, match=words):
        layers_by_name(stage_sizes=(2, 6), padding="VALID")


def test_too_large_kernel_is_reported_with_the_layer_and_its_input() -> None:
    # VALID: 28 -> 14 -> 7, and a 15x15 kernel does not fit into 7x7.
    words = (
        r"model\.kernel_size=15 is too large for conv_2, whose input is 7x7 \(VALID padding\): it "
        r"must be at most 7\. "
    )
    with pytest.raises(UserError, match=words):
        layers_by_name(kernel_size=15, padding="VALID")
    # A kernel of 7, as the message suggests, is valid: 28 - 6 = 22 -> 11, 11 - 6 = 5 -> 2.
    assert layers_by_name(kernel_size=7, padding="VALID")["pool_2"].output_shape == (2, 2, 16)


def test_too_many_pooling_stages_are_reported() -> None:
    # 28 -> 14 -> 7 -> 3 -> 1 -> 0.
    words = r"model\.pool=max is invalid for pool_5, whose input is 1x1: it must be at least 2x2\. "
    with pytest.raises(UserError, match=words):
        layers_by_name(features=(1,) * 5)


def test_pool_none_has_no_pooling_layer() -> None:
    layers = layers_by_name(pool="none")
    assert "pool_1" not in layers
    assert layers["linear_1"].arithmetic == "28 * 28 * 16 = 12,544 inputs"

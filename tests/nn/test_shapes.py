import pytest

from cnn_jax.errors import UserError
from cnn_jax.nn import shapes
from cnn_jax.nn.shapes import Layer

REFERENCE = {
    "features": (8, 16),
    "kernel_size": 3,
    "strides": 1,
    "padding": "SAME",
    "activation": "relu",
    "pool": "max",
}


def walk(image_shape: tuple[int, int, int] = (28, 28, 1), **changes: object) -> dict[str, Layer]:
    layers = shapes.walk_layers(image_shape, 10, **(REFERENCE | changes))  # type: ignore[arg-type]
    return {layer.name: layer for layer in layers}


@pytest.mark.parametrize(
    ("padding", "kernel_size", "zeros", "size"),
    [
        ("VALID", 3, (0, 0), 5),  # 7 - 3 + 1
        ("SAME", 3, (1, 1), 7),
        ("SAME", 4, (1, 2), 7),  # An even kernel needs 3 zeros; the odd one goes to the end.
        ("FULL", 3, (2, 2), 9),  # 7 + 3 - 1
    ],
)
def test_paddings_of_the_tutorial_at_stride_1(
    padding: str, kernel_size: int, zeros: tuple[int, int], size: int
) -> None:
    assert shapes.padding_amounts(padding, kernel_size) == zeros
    assert shapes.output_size(7, kernel_size, zeros, 1) == size


def test_unknown_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="VALID, SAME and FULL"):
        shapes.padding_amounts("same", 3)


def test_output_size_rounds_down() -> None:
    # (8 - 3 + 0) / 2 + 1 = 3.5: the window's fourth place would stick out.
    assert shapes.output_size(8, 3, (0, 0), 2) == 3


def test_reference_shapes_are_those_of_the_tutorial() -> None:
    shape = {name: layer.output_shape for name, layer in walk().items()}
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


def test_reference_has_9098_parameters() -> None:
    layers = walk()
    assert layers["conv_1"].num_parameters == 3 * 3 * 1 * 8 + 8  # 80
    assert layers["conv_2"].num_parameters == 3 * 3 * 8 * 16 + 16  # 1,168
    assert layers["linear_1"].num_parameters == 7 * 7 * 16 * 10 + 10  # 7,850
    assert sum(layer.num_parameters for layer in layers.values()) == 80 + 1168 + 7850 == 9098


def test_reference_multiply_adds() -> None:
    layers = walk()
    # Each of the 28 * 28 * 8 values of conv_1 is a sum of 3 * 3 * 1 products, and so on.
    assert layers["conv_1"].multiply_adds == 28 * 28 * 8 * 9
    assert layers["conv_2"].multiply_adds == 14 * 14 * 16 * 9 * 8
    assert layers["linear_1"].multiply_adds == 784 * 10
    assert layers["pool_1"].multiply_adds == 0


def test_receptive_field_grows_layer_by_layer() -> None:
    layers = walk()
    # conv_1 sees 3 pixels; two neighbours of it see 3 + 1; from there on two neighbours are two
    # pixels apart, so conv_2 adds 2 * 2, and pool_2 once more 1 * 2. linear_1 sees it all.
    fields = [layers[n].receptive_field[0] for n in ("conv_1", "pool_1", "conv_2", "pool_2")]
    assert fields == [3, 4, 8, 10]
    assert layers["linear_1"].receptive_field == (28, 28)


def test_each_value_has_its_field_at_its_own_place() -> None:
    layers = walk()
    # conv_1's first value sees the zero before the image and the pixels 0 and 1; its neighbour's
    # field is one pixel on. Pooling takes the values 0 and 1, so the pixels -1..2, and every second
    # field. conv_2 begins one value of pool_1, two pixels, earlier: -3..4.
    starts = [(layers[n].field_start, layers[n].jump) for n in ("conv_1", "pool_1", "conv_2")]
    assert starts == [(-1, 1), (-1, 2), (-3, 2)]
    assert layers["conv_2"].field_of(0, 7) == (range(-3, 5), range(11, 19))
    assert layers["relu_2"].field_of(0, 7) == layers["conv_2"].field_of(0, 7)
    assert layers["image"].field_of(5, 6) == (range(5, 6), range(6, 7))


def test_a_stride_moves_fields_apart_and_padding_moves_the_first_one_out() -> None:
    layers = walk(strides=2, padding="FULL", kernel_size=4, pool="none")
    # Three zeros before the image; then three zeros, two pixels apart each, before the first map.
    assert (layers["conv_1"].field_start, layers["conv_1"].jump) == (-3, 2)
    assert (layers["conv_2"].field_start, layers["conv_2"].jump) == (-3 - 3 * 2, 4)


def test_arithmetic_is_spelled_out_for_each_different_side() -> None:
    assert walk()["conv_1"].arithmetic == "(28 - 3 + 2*1)/1 + 1 = 28"
    assert walk(kernel_size=4)["conv_1"].arithmetic == "(28 - 4 + 1 + 2)/1 + 1 = 28"
    wide = walk((8, 12, 3), features=(8,), padding="VALID")["conv_1"]
    assert wide.arithmetic == "(8 - 3 + 2*0)/1 + 1 = 6, (12 - 3 + 2*0)/1 + 1 = 10"
    assert wide.output_shape == (6, 10, 8)


def test_a_kernel_too_large_is_named_with_the_stage_and_its_input() -> None:
    # VALID: 28 -> 14 -> 7, and a 15x15 kernel does not fit into 7x7.
    with pytest.raises(UserError, match=r"model.kernel_size=15 leaves nothing after conv_2.*7x7"):
        walk(kernel_size=15, padding="VALID")
    # 7 was offered: 28 - 6 = 22 -> 11, 11 - 6 = 5 -> 2.
    assert walk(kernel_size=7, padding="VALID")["pool_2"].output_shape == (2, 2, 16)


def test_too_many_stages_are_named() -> None:
    # 28 -> 14 -> 7 -> 3 -> 1 -> nothing.
    with pytest.raises(UserError, match=r"model.pool=max leaves nothing after pool_5.*1x1"):
        walk(features=(1,) * 5)


def test_without_pooling_there_is_no_pooling_layer() -> None:
    layers = walk(pool="none")
    assert "pool_1" not in layers
    assert layers["linear_1"].arithmetic == "28 * 28 * 16 = 12544 inputs"

import dataclasses

import pytest

from cnn_jax.nn import shapes


@pytest.mark.parametrize(
    ("padding", "kernel_size", "amounts", "size"),
    [
        ("VALID", 3, (0, 0), 5),  # 7 - 3 + 1
        ("SAME", 3, (1, 1), 7),
        ("SAME", 4, (1, 2), 7),  # An even kernel needs 3 zeros: 1 before the input and 2 after it.
        ("FULL", 3, (2, 2), 9),  # 7 + 3 - 1
    ],
)
def test_output_size_of_each_padding_at_stride_1(
    padding: str, kernel_size: int, amounts: tuple[int, int], size: int
) -> None:
    assert shapes.padding_amounts(padding, kernel_size) == amounts
    assert shapes.output_size(7, kernel_size, amounts, 1) == size


def test_unknown_padding_is_refused() -> None:
    with pytest.raises(
        ValueError, match="padding='same' is invalid: it must be VALID, SAME or FULL"
    ):
        shapes.padding_amounts("same", 3)


STAGE = shapes.Stage(kernel_size=3, strides=2, padding="SAME", activation="relu", pool="max")


def test_strides_come_first_in_a_stage_and_pooling_last() -> None:
    first, last = dataclasses.replace(STAGE, pool="none"), dataclasses.replace(STAGE, strides=1)
    inner = dataclasses.replace(first, strides=1)
    expected = [(8, STAGE), (16, first), (16, inner), (16, last)]
    assert shapes.convolutions((8, 16), (1, 3), STAGE) == expected


def test_stage_sizes_of_one_stand_for_one_convolution_in_every_stage() -> None:
    expected = [(8, STAGE), (16, STAGE), (32, STAGE)]
    assert shapes.convolutions((8, 16, 32), (1,), STAGE) == expected


@pytest.mark.parametrize("stage_sizes", [(1, 1), (2,), ()])
def test_another_number_of_stage_sizes_is_refused(stage_sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shorter"):
        shapes.convolutions((8, 16, 32), stage_sizes, STAGE)


def test_output_size_rounds_down() -> None:
    # (8 - 3 + 0) / 2 + 1 = 3.5: at a fourth position, the window would extend beyond the input.
    assert shapes.output_size(8, 3, (0, 0), 2) == 3

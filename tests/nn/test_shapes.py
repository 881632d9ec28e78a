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


def test_output_size_rounds_down() -> None:
    # (8 - 3 + 0) / 2 + 1 = 3.5: at a fourth position, the window would extend beyond the input.
    assert shapes.output_size(8, 3, (0, 0), 2) == 3

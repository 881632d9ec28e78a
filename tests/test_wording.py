"""Counts with their nouns."""

import pytest

from cnn_jax.wording import pluralize


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "seed", "0 seeds"),
        (1, "class", "1 class"),
        (2, "class", "2 classes"),
        (2, "epoch", "2 epochs"),
        (1, "test image", "1 test image"),
        (10_000, "test image", "10,000 test images"),
    ],
)
def test_noun_is_in_the_plural_unless_the_count_is_one(count: int, noun: str, text: str) -> None:
    assert pluralize(count, noun) == text

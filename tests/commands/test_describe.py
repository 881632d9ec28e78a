"""`--mode=describe`: the table of the layers, and the errors of an invalid config."""

from importlib import import_module

import pytest

from cnn_jax.commands.describe import describe
from cnn_jax.errors import UserError

mnist = import_module("configs.mnist")


def test_table_has_a_row_per_layer_and_a_total() -> None:
    (table,) = describe(mnist.get_config())
    rows = {line.split()[0]: line.split() for line in table.splitlines()}
    expected = "conv_2 14x14x16 (14 - 3 + 2*1)/1 + 1 = 14 1,168 225,792 8x8"
    assert " ".join(rows["conv_2"]) == expected
    # Multiply-adds: 28*28*8*9 + 14*14*16*72 + 784*10 = 56,448 + 225,792 + 7,840.
    assert rows["total"] == ["total", "9,098", "290,080"]


def test_columns_are_aligned() -> None:
    (table,) = describe(mnist.get_config())
    header, rule, *rows = table.splitlines()
    right_edge = header.index("parameters") + len("parameters")
    assert set(rule) == {"-"}
    assert all(row[right_edge - 1].isdigit() for row in rows)
    assert all(len(row) <= len(rule) for row in rows)


def test_layers_before_the_invalid_one_are_shown_before_the_error() -> None:
    config = mnist.get_config()
    config.model.features = (1,) * 5
    tables = describe(config)
    assert next(tables).splitlines()[-2].startswith("relu_5")
    message = (
        r"model\.pool=max is invalid for pool_5, whose input is 1x1: it must be at least 2x2\."
    )
    with pytest.raises(UserError, match=message):
        next(tables)


def test_invalid_config_is_refused() -> None:
    config = mnist.get_config()
    config.batch_size = 0
    with pytest.raises(UserError, match="batch_size=0 is invalid: it must be an integer >= 1"):
        next(describe(config))

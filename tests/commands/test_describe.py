from importlib import import_module

import pytest

from cnn_jax.commands.describe import describe
from cnn_jax.errors import UserError

mnist = import_module("configs.mnist")


def test_the_table_has_a_row_for_each_layer_and_the_sums() -> None:
    (table,) = describe(mnist.get_config())
    rows = {line.split()[0]: line.split() for line in table.splitlines()}
    expected = "conv_2 14x14x16 (14 - 3 + 2*1)/1 + 1 = 14 1,168 225,792 8x8"
    assert " ".join(rows["conv_2"]) == expected
    # Multiply-adds: 28*28*8*9 + 14*14*16*72 + 784*10 = 56,448 + 225,792 + 7,840.
    assert rows["total"] == ["total", "9,098", "290,080"]


def test_columns_are_aligned() -> None:
    (table,) = describe(mnist.get_config())
    header, rule, *rows = table.splitlines()
    end = header.index("parameters") + len("parameters")
    assert set(rule) == {"-"}
    assert all(row[end - 1].isdigit() for row in rows)
    assert all(len(row) <= len(rule) for row in rows)


def test_what_leaves_nothing_is_shown_up_to_there_and_then_said() -> None:
    config = mnist.get_config()
    config.model.features = (1,) * 5
    texts = describe(config)
    assert next(texts).splitlines()[-2].startswith("relu_5")
    with pytest.raises(UserError, match="pool_5"):
        next(texts)


def test_a_config_that_is_not_allowed_is_refused() -> None:
    config = mnist.get_config()
    config.batch_size = 0
    with pytest.raises(UserError, match="batch_size=0"):
        next(describe(config))

"""The way through the layers: sums, numbers as text, keys, steps."""

from tests.demo.node import needs_node, run_node, tiny_model

pytestmark = needs_node


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

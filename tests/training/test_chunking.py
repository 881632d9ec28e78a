import pytest

from cnn_jax.training.chunking import ChunkTimer


def lengths(seconds_a_unit: float, start: int, stop: int, unit: int = 1) -> list[int]:
    now = 0.0
    found, at = [], start
    pace = ChunkTimer(lambda: now)
    for first, end in pace.chunks(start, stop, unit):
        assert first == at  # No gap and no overlap.
        now += seconds_a_unit * (end - first) / unit
        found.append(end - first)
        at = end
    assert at == stop
    return found


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.25, [1, 4, 4, 1]),  # Four in a second, once the first has been timed.
        (30.0, [1] * 10),  # Longer than a second: one by one.
        (0.0, [1, 9]),  # Too fast for the clock.
    ],
)
def test_pieces_take_about_a_second(seconds: float, expected: list[int]) -> None:
    assert lengths(seconds, 5, 15) == expected


def test_pieces_are_multiples_of_the_unit() -> None:
    assert lengths(0.5, 0, 1050, unit=200) == [200, 400, 400, 50]


def test_nothing_has_no_piece() -> None:
    assert lengths(1.0, 3, 3) == []


def test_what_was_learnt_stays() -> None:
    now = 0.0
    pace = ChunkTimer(lambda: now)
    for _ in pace.chunks(0, 1):
        now += 0.1
    assert next(pace.chunks(0, 12)) == (0, 10)

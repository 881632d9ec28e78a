import pytest

from cnn_jax.training.chunking import ChunkTimer


def chunk_lengths(seconds_per_unit: float, start: int, stop: int, unit: int = 1) -> list[int]:
    """Splits a range whose units take the given time; returns the lengths of the chunks."""
    now = 0.0
    lengths, expected_first = [], start
    timer = ChunkTimer(lambda: now)
    for first, end in timer.chunks(start, stop, unit):
        assert first == expected_first  # No gap and no overlap.
        now += seconds_per_unit * (end - first) / unit
        lengths.append(end - first)
        expected_first = end
    assert expected_first == stop
    return lengths


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.25, [1, 4, 4, 1]),  # Four per second, after the first one has been timed.
        (30.0, [1] * 10),  # Longer than a second: one at a time.
        (0.0, [1, 9]),  # Too fast for the clock.
    ],
)
def test_chunks_take_about_a_second(seconds: float, expected: list[int]) -> None:
    assert chunk_lengths(seconds, 5, 15) == expected


def test_chunks_are_multiples_of_the_unit() -> None:
    assert chunk_lengths(0.5, 0, 1050, unit=200) == [200, 400, 400, 50]


def test_empty_range_has_no_chunks() -> None:
    assert chunk_lengths(1.0, 3, 3) == []


def test_timer_keeps_its_size_for_the_next_range() -> None:
    now = 0.0
    timer = ChunkTimer(lambda: now)
    for _ in timer.chunks(0, 1):
        now += 0.1
    assert next(timer.chunks(0, 12)) == (0, 10)

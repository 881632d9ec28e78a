"""Hypothesis strategies and settings for files with damaged or invalid content."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# The profile in `conftest.py` sets the number of examples. Each example overwrites the files of the
# one before it, so it may share their folder, a fixture.
hostile = settings(
    deadline=2000,  # Milliseconds; a longer run counts as a hang.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def fraction_of_examples(divisor: int) -> int:
    """Returns the profile's number of examples divided by `divisor`, for slow properties."""
    return max(3, settings().max_examples // divisor)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -1, 2**63])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def damaged_bytes(intact: bytes) -> st.SearchStrategy[bytes]:
    """Returns a strategy for `intact` with bytes changed, truncated, removed or appended.

    Some of its examples equal `intact`.
    """
    offsets = st.integers(0, len(intact))

    def change(
        offsets_and_bytes: list[tuple[int, int]], start: int, stop: int, suffix: bytes
    ) -> bytes:
        content = bytearray(intact)
        for offset, value in offsets_and_bytes:
            content[offset % len(content)] = value
        del content[min(start, stop) : max(start, stop)]
        return bytes(content) + suffix

    changed = st.lists(st.tuples(offsets, st.integers(0, 255)), max_size=4)
    return st.one_of(
        st.builds(change, changed, offsets, st.just(len(intact)), st.just(b"")),
        st.builds(change, changed, offsets, offsets, st.binary(max_size=4)),
        st.builds(change, changed, st.just(0), st.just(0), st.binary(max_size=40)),
        st.binary(max_size=100),
    )

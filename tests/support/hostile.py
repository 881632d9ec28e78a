"""What somebody may have written into a file."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# The same examples in every run. Fixtures are folders that each example writes over.
hostile = settings(
    max_examples=300,
    derandomize=True,
    deadline=2000,  # Milliseconds: what takes longer hangs.
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

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


def spoilt(whole: bytes) -> st.SearchStrategy[bytes]:
    """A file with some of its bytes changed, cut off, left out or followed by others."""
    places = st.integers(0, len(whole))

    def change(
        places_and_bytes: list[tuple[int, int]], start: int, stop: int, more: bytes
    ) -> bytes:
        content = bytearray(whole)
        for place, value in places_and_bytes:
            content[place % len(content)] = value
        del content[min(start, stop) : max(start, stop)]
        return bytes(content) + more

    few = st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)
    return st.one_of(
        st.builds(change, few, places, st.just(len(whole)), st.just(b"")),
        st.builds(change, few, places, places, st.binary(max_size=4)),
        st.builds(change, few, st.just(0), st.just(0), st.binary(max_size=40)),
        st.binary(max_size=100),
    )

import signal
import threading
from types import FrameType

import pytest

from cnn_jax.errors import Stopped
from cnn_jax.io import signals

pytestmark = pytest.mark.durability


@pytest.mark.parametrize("number", signals.STOP_SIGNALS)
def test_a_request_is_held_until_it_is_answered(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with signals.defer_signals() as request:
        request.raise_if_requested("nothing has come yet")
        signal.raise_signal(number)
        assert request.number == number  # And the work goes on to this line.
        with pytest.raises(Stopped, match=f"stopped by {number.name}: after step 3") as stopped:
            request.raise_if_requested("after step 3")
    assert stopped.value.number == number
    assert signal.getsignal(number) is before


def test_a_second_request_is_obeyed_at_once_but_not_an_echo_of_the_first() -> None:
    now = 10.0
    with signals.defer_signals(lambda: now) as request:
        signal.raise_signal(signal.SIGINT)
        now = 10.9
        signal.raise_signal(signal.SIGTERM)
        assert request.number == signal.SIGINT
        now = 11.0
        with pytest.raises(Stopped, match="stopped by SIGTERM: a second time") as stopped:
            signal.raise_signal(signal.SIGTERM)
    assert stopped.value.number == signal.SIGTERM


def test_what_is_ignored_stays_ignored() -> None:
    # As SIGHUP is under nohup, and SIGINT in a shell's background.
    def handler(number: int, frame: FrameType | None) -> None:
        raise AssertionError

    before = {number: signal.getsignal(number) for number in signals.STOP_SIGNALS}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signals.install(handler)
        assert signal.getsignal(signal.SIGTERM) is handler
        with signals.defer_signals() as request:
            signal.raise_signal(signal.SIGHUP)
            assert request.number is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def test_in_another_thread_nothing_is_held() -> None:
    # Python would raise a ValueError there.
    found: list[int | None] = []

    def work() -> None:
        with signals.defer_signals() as request:
            found.append(request.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]

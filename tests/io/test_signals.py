import runpy
import signal
import threading
from types import FrameType

import pytest

from cnn_jax.errors import Stopped
from cnn_jax.io import signals


@pytest.mark.parametrize("number", signals.STOP_SIGNALS)
def test_stop_request_is_deferred_until_the_code_checks_it(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with signals.defer_signals() as request:
        request.raise_if_requested("no signal yet")
        signal.raise_signal(number)
        assert request.signal_number == number  # The signal did not interrupt the code.
        with pytest.raises(Stopped, match=f"stopped by {number.name}: after step 3") as stopped:
            request.raise_if_requested("after step 3")
    assert stopped.value.signal_number == number
    assert signal.getsignal(number) is before


def test_stop_signals_are_those_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_signals = ("SIGINT", "SIGTERM", "SIGHUP")
    assert tuple(number.name for number in signals.STOP_SIGNALS) == stop_signals
    monkeypatch.delattr(signal, "SIGHUP")
    monkeypatch.setattr(signal, "SIGBREAK", 21, raising=False)  # As on Windows.
    on_windows = runpy.run_path(signals.__file__)["STOP_SIGNALS"]
    assert on_windows == (signal.SIGINT, signal.SIGTERM, 21)


def test_second_stop_request_stops_at_once_unless_it_is_a_duplicate() -> None:
    now = 10.0
    with signals.defer_signals(lambda: now) as request:
        signal.raise_signal(signal.SIGINT)
        now = 10.9
        signal.raise_signal(signal.SIGTERM)
        assert request.signal_number == signal.SIGINT
        now = 11.0
        with pytest.raises(Stopped, match="stopped by SIGTERM: second stop request") as stopped:
            signal.raise_signal(signal.SIGTERM)
    assert stopped.value.signal_number == signal.SIGTERM


def test_ignored_signals_stay_ignored() -> None:
    # nohup ignores SIGHUP, and a shell ignores SIGINT in background jobs.
    def handler(number: int, frame: FrameType | None) -> None:
        raise AssertionError

    before = {number: signal.getsignal(number) for number in signals.STOP_SIGNALS}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signals.install(handler)
        assert signal.getsignal(signal.SIGTERM) is handler
        with signals.defer_signals() as request:
            signal.raise_signal(signal.SIGHUP)
            assert request.signal_number is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def test_defer_signals_does_nothing_outside_the_main_thread() -> None:
    # In other threads, `signal.signal` raises a ValueError.
    requests: list[int | None] = []

    def read_request() -> None:
        with signals.defer_signals() as request:
            requests.append(request.signal_number)

    thread = threading.Thread(target=read_request)
    thread.start()
    thread.join()
    assert requests == [None]

"""Graceful stop on signals."""

import os
import signal
import threading

import pytest

from glassformer.training.stop_signals import StopSignals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_only_recorded(number):
    before = signal.getsignal(number)
    with StopSignals() as stop:
        assert stop.received is None
        os.kill(os.getpid(), number)
        assert stop.received == number.name
        assert signal.getsignal(number) is before  # the second signal has its usual effect
    assert signal.getsignal(number) is before


def test_the_second_signal_has_its_usual_effect():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs of a shell
    try:
        with pytest.raises(KeyboardInterrupt), StopSignals():
            for _ in range(2):  # raised one after the other; two pending signals would count as one
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_are_restored_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), StopSignals():
        1 / 0  # noqa: B018
    assert signal.getsignal(signal.SIGTERM) is before


def test_nothing_happens_outside_the_main_thread():
    seen = []

    def enter():
        with StopSignals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]

"""The trap: an interrupt inside a callback of the garbage collector, printed and dropped."""

import contextlib
import gc
import os
import signal
import time

import pytest

from kneefair_jax.runtime import preemption


@pytest.fixture
def installed(monkeypatch):
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(preemption, "_is_interrupted", False)
    preemption.install_handlers()
    yield
    signal.signal(signal.SIGINT, handler)


def test_it_raises_at_once(installed):
    preemption.check()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL  # a second one ends the process


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_a_callback_swallowed_is_raised_at_the_next_check(installed):
    def callback(phase, info):
        if phase == "start":
            os.kill(os.getpid(), signal.SIGINT)

    gc.callbacks.append(callback)
    try:
        gc.collect()  # prints what the callback raised, and goes on
    finally:
        gc.callbacks.remove(callback)
    with pytest.raises(KeyboardInterrupt):
        preemption.check()


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (signal.SIGINT, KeyboardInterrupt),
        (signal.SIGTERM, preemption.Preempted),
        (signal.SIGUSR1, preemption.Preempted),
    ],
)
def test_a_signal_that_is_held_back_raises_at_the_end_of_the_block(number, error):
    steps = []
    with preemption.handle_signals():
        with preemption.hold_signals():
            steps.append("before")
        with pytest.raises(error), preemption.hold_signals():
            signal.raise_signal(number)
            steps.append("after")
        assert preemption.signal_of(RuntimeError()) in (number, signal.SIGTERM)
    assert steps == ["before", "after"]
    with preemption.handle_signals(), pytest.raises(error):
        signal.raise_signal(number)


def test_an_error_in_the_block_is_raised_in_place_of_the_signal():
    with preemption.handle_signals(), pytest.raises(ZeroDivisionError), preemption.hold_signals():
        signal.raise_signal(signal.SIGTERM)
        1 / 0  # noqa: B018


def swallow(number):
    """Send a signal whose exception a callback of the garbage collector drops."""

    def callback(phase, info):
        if phase == "start":
            os.kill(os.getpid(), number)

    gc.callbacks.append(callback)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(callback)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_exception_that_a_callback_dropped_is_raised_again(monkeypatch, number):
    monkeypatch.setattr(preemption, "_REPEAT", 0.02)
    with preemption.handle_signals():
        swallow(number)
        start = time.monotonic()
        with pytest.raises((KeyboardInterrupt, preemption.Preempted)):
            time.sleep(5)
        assert time.monotonic() - start < 4
        preemption.stop_timer()
        time.sleep(0.1)  # and no more after it has arrived


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_cleanup_after_a_signal_is_left_alone(monkeypatch, number):
    monkeypatch.setattr(preemption, "_REPEAT", 0.02)
    steps = []

    def rows():
        try:
            yield 1
        finally:
            time.sleep(0.1)
            steps.append("generator")

    with preemption.handle_signals():
        with pytest.raises((KeyboardInterrupt, preemption.Preempted)):
            for _ in rows():
                try:
                    signal.raise_signal(number)
                finally:
                    time.sleep(0.1)
                    steps.append("finally")
        preemption.stop_timer()
    gc.collect()
    assert steps == ["finally", "generator"]


def test_a_block_inside_another_holds_back_no_less():
    steps = []
    with preemption.handle_signals(), pytest.raises(KeyboardInterrupt), preemption.hold_signals():
        with preemption.hold_signals():
            signal.raise_signal(signal.SIGINT)
        steps.append("after the inner block")
    assert steps == ["after the inner block"]


def test_a_signal_of_a_block_whose_error_is_suppressed_still_raises(monkeypatch):
    monkeypatch.setattr(preemption, "_REPEAT", 0.02)
    with preemption.handle_signals():
        start = time.monotonic()
        with pytest.raises(preemption.Preempted):
            with contextlib.suppress(ZeroDivisionError), preemption.hold_signals():
                signal.raise_signal(signal.SIGTERM)
                1 / 0  # noqa: B018
            time.sleep(5)
        assert time.monotonic() - start < 4
        preemption.stop_timer()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_notice_that_was_dropped_does_not_raise_where_notices_wait(monkeypatch):
    monkeypatch.setattr(preemption, "_REPEAT", 0.02)
    with preemption.handle_signals():
        swallow(signal.SIGTERM)
        with preemption.defer_preemption():
            time.sleep(0.2)
        preemption.stop_timer()

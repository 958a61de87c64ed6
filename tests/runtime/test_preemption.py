"""The trap: an interrupt inside a callback of the garbage collector, printed and dropped."""

import gc
import os
import signal

import pytest

from kneefair_jax.runtime import preemption


@pytest.fixture
def installed(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(preemption, "_noted", False)
    preemption.install()
    yield
    signal.signal(signal.SIGINT, before)


def test_it_raises_at_once(installed):
    preemption.check()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL  # a second one ends the process


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_a_callback_swallowed_is_found_at_the_next_check(installed):
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

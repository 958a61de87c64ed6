"""Reliable handling of signals: Ctrl-C, and preemption by a scheduler.

Python raises `KeyboardInterrupt` in whatever code is running. In a callback of the garbage collector, such as XLA's, or
of the import system, the exception is printed and dropped, and the run continues. So the handler also records the
signal, long work calls `check`, and a timer raises the exception again until it is handled. A second Ctrl-C ends the
process at once.

SIGTERM (SLURM, Kubernetes and spot machines send it some seconds before SIGKILL) and SIGUSR1 (of `sbatch
--signal=USR1@120`) preempt a command, which the same command resumes: training saves after the current step, other work
stops at once.

The commands handle signals before they import JAX, which takes seconds, so this module imports JAX late.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

# EX_TEMPFAIL of sysexits.h, "try again later"; distinct from errors (1, 2) and from deaths by signal (128 and more).
PREEMPTED = 75
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_REPEAT = 0.5  # seconds after which a dropped exception is raised again

_is_interrupted = False  # SIGINT arrived
_has_notice = False  # SIGTERM or SIGUSR1 arrived
_is_deferred = False
_is_held = False
_has_peers = False  # the coordination service handles SIGTERM
_sync_calls = 0  # calls of JAX's preemption sync point by this process


class Preempted(BaseException):  # like KeyboardInterrupt: no `except Exception` catches it
    """The process was preempted; the same command resumes it."""


@contextlib.contextmanager
def handle_signals() -> Iterator[None]:
    """Handle the signals of this process within the block, and restore handlers and state afterwards.

    Does nothing outside the main thread, where Python allows no handlers.
    """
    global _is_interrupted, _has_notice
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (*_SIGNALS, signal.SIGALRM)}
    state = _is_interrupted, _has_notice
    hook = sys.unraisablehook
    sys.unraisablehook = lambda error: None if isinstance(error.exc_value, _EXCEPTIONS) else hook(error)
    install_handlers()
    signal.signal(signal.SIGALRM, _raise_again)
    try:
        yield
    finally:
        stop_timer()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
        _is_interrupted, _has_notice = state


def install_handlers() -> None:
    """Handle the signals of this process from now on; ignored signals, as by `nohup`, stay ignored."""
    handlers = dict.fromkeys(_SIGNALS, _handle_preemption) | {signal.SIGINT: _handle_interrupt}
    for number, handler in handlers.items():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def stop_timer() -> None:
    """Stop the timer, after the exception of a signal has been handled."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def share_notices() -> None:
    """Leave SIGTERM to JAX's coordination service, which informs all processes; call this after connecting."""
    global _has_peers
    _has_peers = True


def check() -> None:
    """Raise the exception of a signal between two units of work; every process calls this at the same places.

    Raises:
        KeyboardInterrupt: SIGINT arrived, even if its exception was dropped.
        Preempted: SIGTERM or SIGUSR1 arrived, outside `defer_preemption`.
    """
    if _is_interrupted:
        raise KeyboardInterrupt
    if not _is_deferred and is_preempted():
        raise Preempted


@contextlib.contextmanager
def defer_preemption() -> Iterator[None]:
    """Do not raise `Preempted` within the block; the caller calls `is_preempted` after each step."""
    global _is_deferred
    _is_deferred = True
    try:
        yield
    finally:
        _is_deferred = False


@contextlib.contextmanager
def hold_signals() -> Iterator[None]:
    """Hold signals during a short step that must not stop halfway, such as renaming a set of files.

    Signals raise at the end of the block. A second Ctrl-C still ends the process at once. Does nothing outside
    `handle_signals`.

    Raises:
        KeyboardInterrupt: SIGINT arrived within the block.
        Preempted: SIGTERM or SIGUSR1 arrived within the block, outside `defer_preemption`.
    """
    global _is_held
    was_interrupted, was_preempted, was_held = _is_interrupted, _has_notice, _is_held
    _is_held = True
    try:
        yield
    finally:
        _is_held = was_held
        # The timer raises the signal even if the block fails and its error is suppressed.
        if (_is_interrupted or _has_notice) and not _is_held:
            _start_timer()
    if _is_held:
        return
    if _is_interrupted and not was_interrupted:
        raise KeyboardInterrupt
    if _has_notice and not (was_preempted or _is_deferred):
        raise Preempted


def is_preempted() -> bool:
    """Return whether to save and stop; every process calls this equally often and gets the same answer.

    A signal may reach only one process. JAX's coordination service then determines the first call that no process has
    passed; calls are counted over the lifetime of the process, as every process has to take part in each call.
    """
    global _sync_calls
    if not _has_peers:
        return _has_notice
    from jax.experimental import multihost_utils

    _sync_calls += 1
    return multihost_utils.reached_preemption_sync_point(_sync_calls)


def signal_of(error: BaseException) -> signal.Signals | None:
    """Return the signal that caused this exception; None if no signal did.

    A library may convert the exception of a signal to another one, so any error after a signal counts as its effect.
    """
    if isinstance(error, KeyboardInterrupt) or _is_interrupted:
        return signal.SIGINT
    if isinstance(error, Preempted) or _has_notice:
        return signal.SIGTERM
    return None


_EXCEPTIONS = (KeyboardInterrupt, Preempted)


def _handle_interrupt(number: int, frame: FrameType | None) -> None:
    global _is_interrupted
    del number, frame
    _is_interrupted = True
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second SIGINT ends the process
    if not _is_held:
        _start_timer()
        raise KeyboardInterrupt


def _handle_preemption(number: int, frame: FrameType | None) -> None:
    global _has_notice
    del frame
    if _has_peers:
        # The coordination service handles SIGTERM.
        if number != signal.SIGTERM:
            os.kill(os.getpid(), signal.SIGTERM)
        return
    is_repeated, _has_notice = _is_interrupted or _has_notice, True
    if not (_is_deferred or _is_held or is_repeated):  # a repeated signal must not disturb the saving
        _start_timer()
        raise Preempted


def _start_timer() -> None:
    if signal.getsignal(signal.SIGALRM) is _raise_again:
        signal.setitimer(signal.ITIMER_REAL, _REPEAT, _REPEAT)


def _raise_again(number: int, frame: FrameType | None) -> None:
    """Raise the exception of a signal again if it was dropped, but not during the cleanup that it causes."""
    del number, frame
    error = sys.exception()
    while error is not None:
        if isinstance(error, (*_EXCEPTIONS, GeneratorExit)):
            return
        error = error.__context__
    if not _is_held and (_is_interrupted or not _is_deferred):
        raise KeyboardInterrupt if _is_interrupted else Preempted

"""Signals that are not lost: Ctrl-C, and a scheduler's notice that a process has to stop.

Python raises `KeyboardInterrupt` wherever it happens to be. Inside a callback of the garbage collector, of which XLA
has one, or of the import system, the exception is printed and dropped, and the run continues. So the signal is noted as
well, long work calls `check`, and a timer raises the exception again until it is handled. A second Ctrl-C ends the
process at once.

SIGTERM (SLURM, Kubernetes and spot machines send it some seconds before SIGKILL) and SIGUSR1 (of `sbatch
--signal=USR1@120`) stop a command that the same command resumes: training saves after the current step, everything else
stops at once.

The commands handle signals before they import JAX, which takes seconds, so this module imports it late.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

# EX_TEMPFAIL of sysexits.h: "try again later". Apart from errors (1, 2) and from deaths by signal (128 and more).
PREEMPTED = 75
_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_REPEAT = 0.5  # seconds after which an exception that was dropped is raised again

_noted = False
_preempted = False
_deferred = False
_held = False
_several_hosts = False
_asked = 0  # times that the hosts were asked, of this process


class Preempted(BaseException):  # like KeyboardInterrupt it is no error, and no `except Exception` catches it
    """The process has to stop; the same command resumes it."""


@contextlib.contextmanager
def handle_signals() -> Iterator[None]:
    """Handle the signals of this process within the block, and restore the handlers and the state after it.

    Outside of the main thread, where Python allows no handlers, signals stay as they are.
    """
    global _noted, _preempted
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*_HANDLED, signal.SIGALRM)}
    state = _noted, _preempted
    hook = sys.unraisablehook
    sys.unraisablehook = lambda error: None if isinstance(error.exc_value, _EXCEPTIONS) else hook(error)
    install_handlers()
    signal.signal(signal.SIGALRM, _raise_again)
    try:
        yield
    finally:
        stop_timer()
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
        _noted, _preempted = state


def install_handlers() -> None:
    """Note the signals of this process from now on; one that is ignored, as by `nohup`, stays ignored."""
    handlers = dict.fromkeys(_HANDLED, _note_preemption) | {signal.SIGINT: _note}
    for number, handler in handlers.items():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def stop_timer() -> None:
    """Stop the timer: the exception of a signal has arrived where it is handled."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def share_notices() -> None:
    """Leave SIGTERM to JAX's coordination service, which tells all hosts; to be called once it is connected."""
    global _several_hosts
    _several_hosts = True


def check() -> None:
    """Stop between two units of work, the same ones on every host.

    Raises:
        KeyboardInterrupt: there was one, whether or not it got through.
        Preempted: likewise, outside of `deferred`.
    """
    if _noted:
        raise KeyboardInterrupt
    if not _deferred and is_preempted():
        raise Preempted


@contextlib.contextmanager
def defer_preemption() -> Iterator[None]:
    """Within it a notice does not raise; the holder calls `preempted` after each step."""
    global _deferred
    _deferred = True
    try:
        yield
    finally:
        _deferred = False


@contextlib.contextmanager
def hold_signals() -> Iterator[None]:
    """Hold signals back during a short step that must not stop halfway, such as renaming a set of files.

    They raise at its end. A second Ctrl-C ends the process at once nevertheless. Outside of `handled` it does nothing.

    Raises:
        KeyboardInterrupt: SIGINT arrived within the block.
        Preempted: SIGTERM or SIGUSR1 arrived within the block, outside of `deferred`.
    """
    global _held
    before, outer = (_noted, _preempted), _held
    _held = True
    try:
        yield
    finally:
        _held = outer
        # Where the block fails and its error is suppressed, the signal still raises.
        if (_noted or _preempted) and not _held:
            _start_timer()
    if _held:
        return
    if _noted and not before[0]:
        raise KeyboardInterrupt
    if _preempted and not (before[1] or _deferred):
        raise Preempted


def is_preempted() -> bool:
    """Return whether to save and stop; every host calls this equally often and gets the same answer.

    A notice may reach one host alone. JAX's coordination service then finds the first call that no host has passed;
    calls are counted over the whole process, since a host that does not call would not be found.
    """
    global _asked
    if not _several_hosts:
        return _preempted
    from jax.experimental import multihost_utils

    _asked += 1
    return multihost_utils.reached_preemption_sync_point(_asked)


def signal_of(error: BaseException) -> signal.Signals | None:
    """Return the signal that ended the work with this exception; None where it was none.

    A library may turn the exception of a signal into one of its own, so every error after a signal counts as its.
    """
    if isinstance(error, KeyboardInterrupt) or _noted:
        return signal.SIGINT
    if isinstance(error, Preempted) or _preempted:
        return signal.SIGTERM
    return None


_EXCEPTIONS = (KeyboardInterrupt, Preempted)


def _note(number: int, frame: FrameType | None) -> None:
    global _noted
    del number, frame
    _noted = True
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends the process, whatever it is doing
    if not _held:
        _start_timer()
        raise KeyboardInterrupt


def _note_preemption(number: int, frame: FrameType | None) -> None:
    global _preempted
    del frame
    if _several_hosts:
        # The coordination service has taken SIGTERM over.
        if number != signal.SIGTERM:
            os.kill(os.getpid(), signal.SIGTERM)
        return
    repeated, _preempted = _noted or _preempted, True
    if not (_deferred or _held or repeated):  # a repeated notice must not disturb the saving
        _start_timer()
        raise Preempted


def _start_timer() -> None:
    if signal.getsignal(signal.SIGALRM) is _raise_again:
        signal.setitimer(signal.ITIMER_REAL, _REPEAT, _REPEAT)


def _raise_again(number: int, frame: FrameType | None) -> None:
    """Raise the exception of a signal again where it was dropped, and not in the cleanup that it causes."""
    del number, frame
    error = sys.exception()
    while error is not None:
        if isinstance(error, (*_EXCEPTIONS, GeneratorExit)):
            return
        error = error.__context__
    if not _held and (_noted or not _deferred):
        raise KeyboardInterrupt if _noted else Preempted

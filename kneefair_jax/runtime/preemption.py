"""Signals that are not lost: Ctrl-C, and a scheduler's notice that the machine is wanted back.

Python raises `KeyboardInterrupt` wherever it happens to be. Inside a callback of the garbage collector, of which XLA
has one, the exception is printed and dropped, and the run goes on. So the signal is noted as well, and long work asks.

SIGTERM (SLURM, Kubernetes and spot machines send it some seconds before SIGKILL) and SIGUSR1 (of `sbatch
--signal=USR1@120`) stop a run where it can go on later: training saves after the step at hand, everything else stops at
once.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

import jax
from jax.experimental import multihost_utils

# EX_TEMPFAIL of sysexits.h: "try again later". Apart from errors (1, 2) and from deaths by signal (128 and more).
PREEMPTED = 75

_noted = False
_preempted = False
_deferred = False
_asked = 0  # times that the hosts were asked, of this process


class Preempted(BaseException):  # like KeyboardInterrupt it is no error, and nobody catches it by chance
    """The machine is wanted back; the same command goes on."""


def install() -> None:
    """Notes the signals of this process from now on; SIGINT raises as Python does by itself."""
    signal.signal(signal.SIGINT, _note)
    signal.signal(signal.SIGTERM, _note_preemption)
    signal.signal(signal.SIGUSR1, _note_preemption)


def check() -> None:
    """Between two pieces of work, the same ones on every host.

    Raises:
        KeyboardInterrupt: there was one, whether or not it got through.
        Preempted: likewise, outside of `deferred`.
    """
    if _noted:
        raise KeyboardInterrupt
    if not _deferred and preempted():
        raise Preempted


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Within it a notice does not raise; who holds it asks `preempted` after each step."""
    global _deferred
    _deferred = True
    try:
        yield
    finally:
        _deferred = False


def preempted() -> bool:
    """Whether to stop here, and save; every host asks as often, and all are told the same.

    A notice may reach one host alone. JAX's coordination service then finds the first asking that no host has passed;
    askings are counted over the whole process, since one that is not asked for would not be found.
    """
    global _asked
    if jax.process_count() == 1:
        return _preempted
    _asked += 1
    return multihost_utils.reached_preemption_sync_point(_asked)


def _note(number: int, frame: FrameType | None) -> None:
    global _noted
    _noted = True
    signal.default_int_handler(number, frame)


def _note_preemption(number: int, frame: FrameType | None) -> None:
    global _preempted
    del frame
    if jax.distributed.is_initialized():
        # The coordination service has taken SIGTERM over.
        if number != signal.SIGTERM:
            os.kill(os.getpid(), signal.SIGTERM)
        return
    _preempted = True
    if not _deferred:
        raise Preempted

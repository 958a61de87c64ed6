"""Ctrl-C that is not lost.

Python raises `KeyboardInterrupt` wherever it happens to be. Inside a callback of the garbage collector, of which XLA
has one, the exception is printed and dropped, and the run goes on. So the signal is noted as well, and long work asks.
"""

import signal
from types import FrameType

_noted = False


def install() -> None:
    """Notes every SIGINT of this process from now on, and raises as Python does by itself."""
    signal.signal(signal.SIGINT, _note)


def check() -> None:
    """Between two pieces of work.

    Raises:
        KeyboardInterrupt: there was one, whether or not it got through.
    """
    if _noted:
        raise KeyboardInterrupt


def _note(number: int, frame: FrameType | None) -> None:
    global _noted
    _noted = True
    signal.default_int_handler(number, frame)

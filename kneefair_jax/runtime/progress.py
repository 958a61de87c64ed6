"""Progress of long tasks and the remaining time, on stderr.

Nothing is written in the first five seconds, so short tasks write nothing. After that a terminal shows one line that
is updated; a log file gets at most one line every five seconds.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, TextIO

from kneefair_jax.safe_text import printable

PATIENCE = 5.0  # seconds before the first line, and between two lines of a log
_TERMINAL = 0.5  # seconds between two changes of the line of a terminal


def duration(seconds: float) -> str:
    """Format seconds: `1h02m05s` for 3725, `1m05s` for 65."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}h{minute:02d}m{second:02d}s" if hours else f"{minute}m{second:02d}s"


def time_left(done: int, total: int, seconds: float) -> str:
    """Return `, 1m05s left` by the mean speed so far, or "" in the first five seconds and after the last step.

    Args:
        done: number of finished steps.
        total: number of all steps.
        seconds: time since the first step began.
    """
    if seconds < PATIENCE or not 0 < done < total:
        return ""
    return f", {duration(seconds / done * (total - done))} left"


class Progress:
    """Shows the progress of one task, as a context manager; a thread updates the line during long steps.

    Several threads may call `advance` concurrently.
    """

    def __init__(
        self,
        task: str,
        total: int = 0,
        unit: str = "cases",
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Start the clock.

        Args:
            task: a verb with its object, such as `scoring masks`.
            total: number of all steps; 0 if unknown, then the line shows the elapsed time.
            unit: the unit of a step, plural.
            stream: None for stderr.
            clock: seconds.
        """
        self._task, self._total, self._unit = task, total, unit
        target = stream or sys.stderr
        self._stream = getattr(target, "unfiltered", target)
        self._is_terminal = self._stream.isatty()
        self._clock = clock
        self._start = self._last = clock()
        self._done = self._width = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._refresh_regularly, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._width:
            self._stream.write(f"\r{' ' * self._width}\r")
            self._stream.flush()

    def advance(self, steps: int = 1) -> None:
        """Count finished steps."""
        with self._lock:
            self._done += steps
        self.refresh()

    def refresh(self) -> None:
        """Write the line if it is due."""
        with self._lock:
            now = self._clock()
            if now - self._start < PATIENCE or (
                now - self._last < (_TERMINAL if self._is_terminal else PATIENCE)
            ):
                return
            self._last = now
            text = self._line(now - self._start)
            if self._is_terminal:
                self._stream.write(f"\r{text.ljust(self._width)}")
                self._width = len(text)
            else:
                self._stream.write(f"{text}\n")
            self._stream.flush()

    def _line(self, seconds: float) -> str:
        if not self._total:
            return printable(f"{self._task}: {duration(seconds)} so far")
        left = time_left(self._done, self._total, seconds)
        return printable(f"{self._task}: {self._done}/{self._total} {self._unit}{left}")

    def _refresh_regularly(self) -> None:
        while not self._stop.wait(_TERMINAL):
            self.refresh()


def track[T](items: Iterable[T], total: int, task: str, unit: str = "cases", **options: Any) -> Iterator[T]:
    """Yield the items; each counts as a finished step (`Progress`) when the caller requests the next one."""
    with Progress(task, total, unit, **options) as progress:
        for item in items:
            yield item
            progress.advance()

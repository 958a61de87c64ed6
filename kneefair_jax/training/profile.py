"""A trace of some steps for TensorBoard's profiler, in the run's folder `profile`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import distributed


def check(steps: Sequence[int]) -> None:
    """Refuses what is neither () nor the first and last step of a trace.

    Raises:
        InputError: saying what to give.
    """
    if steps and not (len(steps) == 2 and 1 <= steps[0] <= steps[1]):
        raise InputError(
            f"config.train.profile={tuple(steps)}: give the first and the last step to trace, such as (10, 12), or ()"
        )


class Trace:
    """Starts before the first of the steps and stops when the last one is done; the first host's devices alone."""

    def __init__(self, directory: Path, steps: Sequence[int]):
        self._directory = directory
        self._steps = range(steps[0], steps[1] + 1) if steps and distributed.is_first() else range(0)
        self._open = False

    def before(self, step: int) -> None:
        """To be called before each step."""
        if step in self._steps and not self._open:
            jax.profiler.start_trace(str(self._directory))
            self._open = True

    def after(self, step: int, result: Any) -> None:
        """To be called after each step with something that it computed."""
        if self._open and step == self._steps[-1]:
            jax.block_until_ready(result)
            self.close()
            print(f"the trace of steps {self._steps[0]} to {step} is in {self._directory}", flush=True)

    def close(self) -> None:
        """Stops it, if it runs."""
        if self._open:
            self._open = False
            jax.profiler.stop_trace()

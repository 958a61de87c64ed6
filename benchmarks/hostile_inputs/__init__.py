"""Bad inputs and faults, one module a family; each has a tuple `KINDS` that `benchmarks/hostile.py` runs."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of bad input.

    Attributes:
        name: unique, a few words.
        make: writes the input into an empty folder and returns the command line after `python`, such as
            `["-m", "kneefair_jax.predict", ...]`. The command runs in that folder and writes to `out` in it.
        outcome: `refused` (exit status 2 and one line that starts with "error:"), `reported` (exit status 1, the bad
            file in a line, the others processed), `works` (exit status 0).
        mention: text that the lines for a person must contain, such as the file's name; "" for none.
        seconds: within which the command must end; None for the usual limit.
    """

    name: str
    make: Callable[[Path], list[str]]
    outcome: str
    mention: str = ""
    seconds: float | None = None

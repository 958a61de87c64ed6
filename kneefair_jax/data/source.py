"""What every source of cases gives: a table of cases, and their arrays in the table's order."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd


class Example(NamedTuple):
    """One case on the working grid.

    Attributes:
        image: u8[H, W, C].
        label: u8[H, W]; 0 is background, i + 1 is `structures[i]`.
        spacing: f32[2], mm per pixel down and across; NaN where it is unknown.
    """

    image: np.ndarray
    label: np.ndarray
    spacing: np.ndarray


class Source(NamedTuple):
    """Cases to train on or to score.

    Attributes:
        cases: a row per case: `case_id`, `patient_id` (strings), categorical attribute columns, and `split`
            where the source fixes it.
        structures: names of labels 1, 2, ...
        settings: JSON-able; with the files it names, it determines every stored array. A change of it means
            that a prepared store is rebuilt.
        examples: yields the arrays in the order of `cases`.
        check: raises `InputError` when any case's arrays cannot be used; called before anything is written.
            Nothing to check by default.
    """

    cases: pd.DataFrame
    structures: tuple[str, ...]
    settings: dict[str, Any]
    examples: Callable[[], Iterator[Example]]
    check: Callable[[], None] = lambda: None

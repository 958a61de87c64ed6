"""What every source of cases gives: a table of cases, and their arrays row by row."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax.errors import InputError


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
        cases: a row per case: `case_id`, `patient_id` (strings), categorical attribute columns, what there is of
            `groups.COVARIATES` beside them, and `split` where the source fixes it.
        structures: names of labels 1, 2, ...
        settings: JSON-able; with the files it names, it determines every stored array. A change of it means
            that a prepared store is rebuilt.
        read: rows of `cases` -> for each, in order, its arrays, or the `InputError` (file, what is wrong, remedy)
            that says why it has none. A function of the rows alone.
        portable: whether `read` can be pickled and called in other processes.
        left_out: `(what, why)` of everything that the source itself left out of `cases`.
        notes: what is odd about `cases`, though they can be used.
        whole: as `read`, at the files' own size and spacing; None where the working grid is the cases' own.
    """

    cases: pd.DataFrame
    structures: tuple[str, ...]
    settings: dict[str, Any]
    read: Callable[[Sequence[int]], Iterator[Example | InputError]]
    portable: bool = False
    left_out: tuple[tuple[str, str], ...] = ()
    whole: Callable[[Sequence[int]], Iterator[Example | InputError]] | None = None
    notes: tuple[str, ...] = ()

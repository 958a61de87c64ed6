"""What every source of cases gives: a table of cases, their arrays row by row, and what it left out of the table."""

import contextlib
import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax.data.inspection import Inspection
from kneefair_jax.data.readers import limits
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic
from kneefair_jax.safe_text import spreadsheet_cell, strip_paths

# What was left out (a case, a film, a row of a table), and why.
LeftOut = tuple[str, str]

_SHOWN = 5  # reasons, or cases


class Example(NamedTuple):
    """One case, on the working grid or at its files' own size.

    Attributes:
        image: u8[H, W, C].
        label: u8[H, W]; 0 is background, i + 1 is `structures[i]`, `anatomy.VOID` a pixel that nobody annotated.
        spacing: f32[2], mm per pixel down and across; NaN where it is unknown.
        inspection: what its files show beside these arrays; None of a case without files.
    """

    image: np.ndarray
    label: np.ndarray
    spacing: np.ndarray
    inspection: Inspection | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {name: getattr(self, name) for name in ARRAYS}


ARRAYS = ("image", "label", "spacing")  # of an `Example`, as a store keeps them


class Online(NamedTuple):
    """How training cases are drawn in the training step, a new one every time.

    Attributes:
        inputs: rows of a cohort table -> arrays [N, ...] that `draw` takes of each in a batch, by name: what the
            population fixes of a case, not the case.
        draw: `(stage, seed u32[], step i32[], batch) -> batch` with `image` and `label`. Pure; a case is a function of
            the stage's number (an int, static), seed, step, its `position` in the global batch and its inputs, so the
            number of devices does not change it.
        drawn: columns of the cohort table whose value `draw` decides anew.
    """

    inputs: Callable[[pd.DataFrame], dict[str, np.ndarray]]
    draw: Callable[[int, Any, Any, dict[str, Any]], dict[str, Any]]
    drawn: tuple[str, ...] = ()


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
        left_out: `(what, why)` of every case that the source itself left out of `cases`; reports count them.
        unused: `(what, why)` of files that are no cases, such as masks without a film; no report counts them.
        notes: what is odd about `cases`, though they can be used.
        files: row of `cases` -> the files that its arrays are read from; None where there are none.
        whole: as `read`, at the files' own size and spacing; None where the working grid is the cases' own.
        void: whether labels may hold `anatomy.VOID`.
        online: how training cases are drawn in the step; None where they are read.
    """

    cases: pd.DataFrame
    structures: tuple[str, ...]
    settings: dict[str, Any]
    read: Callable[[Sequence[int]], Iterator[Example | InputError]]
    portable: bool = False
    left_out: tuple[LeftOut, ...] = ()
    unused: tuple[LeftOut, ...] = ()
    whole: Callable[[Sequence[int]], Iterator[Example | InputError]] | None = None
    notes: tuple[str, ...] = ()
    files: Callable[[int], tuple[Path, ...]] | None = None
    void: bool = False
    online: Online | None = None


def read_subset[T](
    read: Callable[[Sequence[int]], Iterator[T]], kept: np.ndarray, rows: Sequence[int]
) -> Iterator[T]:
    """Read some of the rows that were kept of a source; it stands here since reading processes import it.

    Args:
        read: `read` or `whole` of the source.
        kept: i[K], the source's rows that were kept.
        rows: numbers from 0 to K - 1.
    """
    return read([int(kept[row]) for row in rows])


def describe_excluded(left_out: Sequence[LeftOut], table: Path) -> str:
    """How much was left out for which reason, the most frequent first; `table` is where all of it is listed."""
    reasons = Counter(_reason(why) for _, why in left_out).most_common()
    lines = [f"left out: {len(left_out)} (listed in {table.name})"]
    lines += [f"{count:>6} x {reason}" for reason, count in reasons[:_SHOWN]]
    if (more := len(reasons) - _SHOWN) > 0:
        lines.append(f"       and {more} more reasons")
    return "\n".join(lines)


def public_reasons(left_out: Sequence[LeftOut]) -> list[tuple[str, int]]:
    """Return how much was left out for which reason, without paths, quoted names and numbers of identifiers."""
    return Counter(_public(_reason(why)) for _, why in left_out).most_common()


def write_excluded(left_out: Sequence[LeftOut], table: Path, folders: Sequence[Path] = ()) -> None:
    """A CSV file with the columns `what` and `why`; no file where nothing is left out.

    `folders` are known ones, as for `safe_text.strip_paths`.
    """
    if not left_out:
        table.unlink(missing_ok=True)
        return
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(("what", "why"))
    writer.writerows(
        [spreadsheet_cell(cell) for cell in (what, strip_paths(why, *folders))] for what, why in left_out
    )
    atomic.write_text(table, buffer.getvalue())


@contextlib.contextmanager
def naming_unreadable(left_out: Sequence[LeftOut]) -> Iterator[None]:
    """Adds the cases that cannot be read, the first five and how many there are, to an error that follows from them.

    Raises:
        InputError: as within the block, with the cases.
    """
    try:
        yield
    except InputError as error:
        lines = [why for _, why in left_out[:_SHOWN]]
        text = f"{error}\nthis is without {len(left_out)} cases that cannot be read:"
        raise InputError("\n".join([text, *lines])) from error


def files_sha256(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of the bytes of files, one after another, in hex digits.

    Raises:
        InputError: one cannot be read any more.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with limits.open_regular(path) as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())  # type: ignore[arg-type]
        except OSError as error:
            raise InputError(f"{path}: cannot be read any more ({error.strerror}); put it back") from error
    return digest.hexdigest()


def _reason(why: str) -> str:
    """`m.csv row 5: 3.png: unreadable file (truncated); export it again` -> `unreadable file`."""
    return re.sub(r" \([^()]*\)", "", why).split("; ")[0].rsplit(": ", 1)[-1]


def _public(reason: str) -> str:
    """`no mask for 'p0012'` -> `no mask for ...`: a report may be shared."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\S*/\S*|\S*\d{4,}\S*", "...", reason)

"""A source of cases: its table, the arrays of each row, the cases it excludes, and files that changed since."""

import contextlib
import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax.data.inspection import Inspection
from kneefair_jax.data.readers import limits
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic, memory
from kneefair_jax.safe_text import spreadsheet_cell, strip_paths

# What is excluded (a case, a film, a row of a table), and why.
Exclusion = tuple[str, str]
# Row of a source -> the files that its arrays are read from.
Files = Callable[[int], tuple[Path, ...]]

_LISTED = 5  # reasons, or cases, in a message


class Example(NamedTuple):
    """One case, at working or native resolution.

    Attributes:
        image: u8[H, W, C].
        label: u8[H, W]; 0 is background, i + 1 is `structures[i]`, `anatomy.VOID` an unlabeled pixel.
        spacing: f32[2], mm per pixel down and across; NaN where it is unknown.
        inspection: facts about its files; None for a case without files.
    """

    image: np.ndarray
    label: np.ndarray
    spacing: np.ndarray
    inspection: Inspection | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {name: getattr(self, name) for name in ARRAYS}


ARRAYS = ("image", "label", "spacing")  # of an `Example`, as a store holds them


class Online(NamedTuple):
    """Functions that draw training cases in the training step, a new case each time.

    Attributes:
        inputs: rows of a cohort table -> arrays [N, ...] by name, which `draw` takes for each row of a batch: what the
            population fixes of a case, not the case itself.
        draw: `(stage, seed u32[], step i32[], batch) -> batch` with `image` and `label`. Pure; a case is a function of
            the stage's number (an int, static), seed, step, its `position` in the global batch and its inputs, so the
            number of devices does not change it.
        redrawn: columns of the cohort table whose value `draw` draws again.
    """

    inputs: Callable[[pd.DataFrame], dict[str, np.ndarray]]
    draw: Callable[[int, Any, Any, dict[str, Any]], dict[str, Any]]
    redrawn: tuple[str, ...] = ()


class Source(NamedTuple):
    """Cases to train on or to score.

    Attributes:
        cases: a row per case: `case_id`, `patient_id` (strings), categorical attribute columns, those of
            `groups.COVARIATES` that the source has, and `split` where the source fixes it.
        structures: names of labels 1, 2, ...
        settings: JSON-serializable; with the files it names, it determines every stored array. If it changes, a
            prepared store is rebuilt.
        read: rows of `cases` -> for each, in order, its arrays, or the `InputError` (file, what is wrong, remedy)
            that says why it has none. A function of the rows only.
        portable: whether `read` can be pickled and called in other processes.
        excluded: `(what, why)` for every case that the source excludes from `cases`; reports count them.
        unused: `(what, why)` for files that are no cases, such as masks without a film; no report counts them.
        notes: warnings about `cases`, which are usable.
        files: row of `cases` -> the files that its arrays are read from; None where there are none.
        read_native: as `read`, at native resolution and spacing; None where the working resolution is the native one.
        void: whether labels may hold `anatomy.VOID`.
        online: how training cases are drawn in the step; None where they are read.
    """

    cases: pd.DataFrame
    structures: tuple[str, ...]
    settings: dict[str, Any]
    read: Callable[[Sequence[int]], Iterator[Example | InputError]]
    portable: bool = False
    excluded: tuple[Exclusion, ...] = ()
    unused: tuple[Exclusion, ...] = ()
    read_native: Callable[[Sequence[int]], Iterator[Example | InputError]] | None = None
    notes: tuple[str, ...] = ()
    files: Files | None = None
    void: bool = False
    online: Online | None = None


def read_subset[T](
    read: Callable[[Sequence[int]], Iterator[T]], subset: np.ndarray, rows: Sequence[int]
) -> Iterator[T]:
    """Read rows of a subset of a source. Reading processes import this module, so the function is defined in it.

    Args:
        read: `read` or `read_native` of the source.
        subset: i[K], the source's rows in the subset.
        rows: numbers from 0 to K - 1.
    """
    return read([int(subset[row]) for row in rows])


def describe_excluded(excluded: Sequence[Exclusion], table: Path) -> str:
    """Return the number of exclusions by reason, the most frequent first; `table` is the file that lists them all."""
    reasons = Counter(_reason(why) for _, why in excluded).most_common()
    lines = [f"excluded: {len(excluded)} (listed in {table.name})"]
    lines += [f"{count:>6} x {reason}" for reason, count in reasons[:_LISTED]]
    if (more := len(reasons) - _LISTED) > 0:
        lines.append(f"       and {more} more reasons")
    return "\n".join(lines)


def public_reasons(excluded: Sequence[Exclusion]) -> list[tuple[str, int]]:
    """Return the number of exclusions by reason, without paths, quoted names and identifiers."""
    return Counter(_public(_reason(why)) for _, why in excluded).most_common()


def write_excluded(excluded: Sequence[Exclusion], table: Path, folders: Sequence[Path] = ()) -> None:
    """Write a CSV file with the columns `what` and `why`, or delete it if nothing is excluded.

    Args:
        excluded: what is excluded, and why.
        table: the file.
        folders: whose paths are shortened, as by `safe_text.strip_paths`.
    """
    if not excluded:
        table.unlink(missing_ok=True)
        return
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(("what", "why"))
    writer.writerows(
        [spreadsheet_cell(cell) for cell in (what, strip_paths(why, *folders))] for what, why in excluded
    )
    atomic.write_text(table, buffer.getvalue())


@contextlib.contextmanager
def naming_unreadable(excluded: Sequence[Exclusion]) -> Iterator[None]:
    """Add the number of unreadable cases, and the first five, to an `InputError` of the block.

    Raises:
        InputError: the error of the block, with the cases.
    """
    try:
        yield
    except InputError as error:
        lines = [why for _, why in excluded[:_LISTED]]
        text = f"{error}\nthis is without {len(excluded)} cases that cannot be read:"
        raise InputError("\n".join([text, *lines])) from error


def files_sha256(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of the bytes of files, one after another, in hex digits.

    Raises:
        InputError: a file can no longer be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with limits.open_regular(path) as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())  # type: ignore[arg-type]
        except OSError as error:
            raise InputError(f"{path}: can no longer be read ({error.strerror}); put it back") from error
    return digest.hexdigest()


def _reason(why: str) -> str:
    """Return `unreadable file` for `m.csv row 5: 3.png: unreadable file (truncated); export it again`."""
    return re.sub(r" \([^()]*\)", "", why).split("; ")[0].rsplit(": ", 1)[-1]


def _public(reason: str) -> str:
    """Return `no mask for ...` for `no mask for 'p0012'`, since a report may be shared."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\S*/\S*|\S*\d{4,}\S*", "...", reason)


def changed_cases(
    ids: Sequence[str], rows: Sequence[int], files: Files, recorded: Sequence[str]
) -> list[tuple[str, str]]:
    """Return `(case_id, why)` for the cases whose files changed. Every file's bytes are read; none is decoded.

    Args:
        ids: case ids, N.
        rows: the same cases' rows in the source.
        files: row of the source -> its files.
        recorded: SHA-256 of each source row's files when they were prepared; "" where it is not recorded.
    """
    with ThreadPoolExecutor(memory.core_count()) as pool:
        changes = pool.map(lambda row: _change(files(row), recorded[row]), rows)
        return [(case_id, why) for case_id, why in zip(ids, changes, strict=True) if why]


def read_unchanged(
    read: Callable[[Sequence[int]], Iterator[Example | InputError]],
    files: Files,
    recorded: Sequence[str],
    ids: Sequence[str],
    rows: Sequence[int],
) -> Iterator[Example | InputError]:
    """Read rows of a source, with an error in place of each whose files changed since they were prepared.

    Args:
        read: the source's `read_native`.
        files: row of the source -> its files.
        recorded: as for `changed_cases`.
        ids: case ids of the source's rows.
        rows: to read.
    """
    for row, case in zip(rows, read(rows), strict=True):
        # The check follows the reading, so it also detects a change between the two.
        if not isinstance(case, InputError) and (why := _change(files(row), recorded[row])):
            yield InputError(
                f"case {ids[row]!r}: {why}, so its score would not be that of the run's pixels; restore the files "
                "and rerun, or train on the new ones in another --workdir"
            )
        else:
            yield case


def _change(files: Sequence[Path], recorded: str) -> str:
    """Return why files differ from those of a recorded SHA-256; "" if they do not."""
    try:
        if not recorded or files_sha256(files) == recorded:
            return ""
    except InputError as error:
        return strip_paths(str(error), *(path.parent for path in files))
    names = " or ".join("/".join(path.parts[-2:]) for path in files)
    return f"{names} changed since the cases were prepared"

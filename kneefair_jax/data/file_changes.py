"""Files that changed, or cannot be read any more, since their cases were prepared."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kneefair_jax.data.source import Example, files_sha256
from kneefair_jax.errors import InputError
from kneefair_jax.safe_text import strip_paths

Files = Callable[[int], tuple[Path, ...]]


def of_cases(
    ids: Sequence[str], rows: Sequence[int], files: Files, recorded: Sequence[str]
) -> list[tuple[str, str]]:
    """Return `(case_id, why)` of the cases whose files changed. Every file's bytes are read; none is decoded.

    Args:
        ids: of N cases.
        rows: of the same cases in the source.
        files: row of the source -> its files.
        recorded: SHA-256 of each source row's files as they were prepared; "" where it is not recorded.
    """
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
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
        read: the source's `whole`.
        files: row of the source -> its files.
        recorded: as for `of_cases`.
        ids: case ids of the source's rows.
        rows: to read.
    """
    for row, case in zip(rows, read(rows), strict=True):
        # After the reading: whoever changes a file between the two is noticed.
        if not isinstance(case, InputError) and (why := _change(files(row), recorded[row])):
            yield InputError(
                f"case {ids[row]!r}: {why}, so its score would be of other pixels than the run's; put the files back "
                "and rerun, or train on the new ones in another --workdir"
            )
        else:
            yield case


def _change(files: Sequence[Path], recorded: str) -> str:
    """Why files are not those of a recorded SHA-256; "" where they are."""
    try:
        if not recorded or files_sha256(files) == recorded:
            return ""
    except InputError as error:
        return strip_paths(str(error), *(path.parent for path in files))
    names = " or ".join("/".join(path.parts[-2:]) for path in files)
    return f"{names} changed since the cases were prepared"

"""Every case of a source read once: in chunks of rows, in several processes, each finished chunk kept for a restart.

Nothing here imports JAX or TFDS, so that the reading processes start fast and hold no device.
"""

import contextlib
import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kneefair_jax.data import inspection
from kneefair_jax.data.source import ARRAYS, Example, files_sha256
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic, checked_files, preemption, progress
from kneefair_jax.safe_text import strip_paths

Read = Callable[[Sequence[int]], Iterator[Example | InputError]]
Files = Callable[[int], tuple[Path, ...]]
Record = tuple[int, dict[str, np.ndarray]]

_REMEDY = "delete this file, and its cases are read again"
CHUNK = 64  # cases read, and kept for a restart, at a time


class Outcome(NamedTuple):
    """What became of a row.

    Attributes:
        row: of the source's table.
        sha256: hex digits, of its arrays; "" where it has none.
        why: why it has none; "" where it has.
        files: hex digits, of the bytes of its files; "" where it has none.
        inspection: of its files, by `inspection.encode`; "" where it has none.
    """

    row: int
    sha256: str
    why: str
    files: str = ""
    inspection: str = ""


def outcome(row: int, result: Example | InputError, files: Files | None = None) -> Outcome:
    """The outcome of a row that was read; `files` names the files that it was read from, which may be gone by now."""
    own = files(row) if files else ()
    try:
        if isinstance(result, InputError):
            raise result
        of_files = files_sha256(own) if files else ""
    except InputError as error:
        return Outcome(row, "", strip_paths(str(error), *(path.parent for path in own)))
    digest = hashlib.sha256()
    for array in result.arrays().values():
        digest.update(np.ascontiguousarray(array).tobytes())
    return Outcome(row, digest.hexdigest(), "", of_files, inspection.encode(result.inspection))


def read_all(
    read: Read,
    rows: int,
    folder: Path,
    *,
    workers: int,
    say: Callable[[str], None],
    chunk: int = CHUNK,
    files: Files | None = None,
) -> list[Path]:
    """Reads rows 0, ..., rows - 1 into files of a chunk each; chunks that are there already are not read again.

    A chunk's file appears whole or not at all, so the folder may be left at any moment and gone on with later.

    Args:
        read: a source's; with workers, it is pickled.
        rows: how many there are.
        folder: where the chunks go; made if need be.
        workers: processes to read in; 0 reads here. No more are started than there are chunks, and none for one.
        say: gets a line of progress every few seconds.
        chunk: rows of a chunk.
        files: row -> its files, whose bytes are summed beside the arrays; with workers, it is pickled.

    Returns:
        The chunks' files in the order of the rows.

    Raises:
        InputError: a reading process was killed; what it had finished stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spans = [range(start, min(start + chunk, rows)) for start in range(0, rows, chunk)]
    paths = [folder / f"{span.start:09d}-{span.stop:09d}.npz" for span in spans]
    waiting = [(span, path) for span, path in zip(spans, paths, strict=True) if not path.exists()]
    if workers and len(waiting) > 1:
        finished = _in_processes(read, files, waiting, min(workers, len(waiting)))
    else:
        finished = (_keep(read, files, *task) for task in waiting)
    done = before = rows - sum(len(span) for span, _ in waiting)
    start = last = time.monotonic()
    for count in finished:
        done += count
        now = time.monotonic()
        if now - last >= progress.PATIENCE:
            last = now
            rate = (done - before) / (now - start)
            say(
                f"preparing: {done}/{rows} cases, {rate:.1f} cases/s"
                + progress.time_left(done - before, rows - before, now - start)
            )
    return paths


def outcomes(chunks: Iterable[Path]) -> Iterator[Outcome]:
    """The outcome of every row, in order."""
    for path in chunks:
        chunk = checked_files.read_npz(path, _REMEDY, ("row", "sha256", "why"))
        names = [name for name in Outcome._fields if name in chunk]  # earlier versions had no `files`
        columns = [chunk[name].tolist() for name in names]
        yield from (Outcome(*cells) for cells in zip(*columns, strict=True))


def records(chunks: Iterable[Path]) -> Iterator[Record]:
    """Row and arrays of every case that has them, in order."""
    for path in chunks:
        chunk = checked_files.read_npz(path, _REMEDY, ("row", "why", *ARRAYS))
        kept = chunk["row"][chunk["why"] == ""].tolist()
        for place, row in enumerate(kept):
            yield row, {name: chunk[name][place] for name in ARRAYS}


def _keep(read: Read, files: Files | None, rows: Sequence[int], path: Path) -> int:
    """Reads a chunk and writes its file."""
    results = list(read(rows))
    rows_are = [outcome(row, result, files) for row, result in zip(rows, results, strict=True)]
    examples = [
        result
        for result, one in zip(results, rows_are, strict=True)
        if not (isinstance(result, InputError) or one.why)
    ]
    arrays = {
        name: np.stack([getattr(example, name) for example in examples]) if examples else np.empty(0)
        for name in ARRAYS
    }
    columns = {name: np.array([getattr(row, name) for row in rows_are]) for name in Outcome._fields}
    # Synchronised, or a power cut could leave the name without the bytes.
    with atomic.replacement(path, sync=True) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays, **columns)
    return len(rows)


def _in_processes(
    read: Read, files: Files | None, tasks: Sequence[tuple[range, Path]], workers: int
) -> Iterator[int]:
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks that JAX holds
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(workers, context, _begin, (read, files)) as pool:
        try:
            # A process whose start is cut off would end in a traceback of its own.
            with preemption.hold_signals(), _without_interrupts(), _no_main_module():
                futures = [pool.submit(_keep_here, *task) for task in tasks]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise InputError(
                f"one of the {workers} reading processes was killed, perhaps for want of memory; the same command "
                "goes on where they were, and a smaller config.data.workers needs less"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # The end of the block waits for what they read: minutes, when a scheduler grants 30 seconds. A chunk's file
            # is written whole or not at all.
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


# Of a reading process; sent once, not with every chunk.
_read_here: Read
_files_here: Files | None


def _begin(read: Read, files: Files | None) -> None:
    global _read_here, _files_here
    _read_here, _files_here = read, files
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    # A pool's processes outlive a parent that was killed.
    threading.Thread(target=follow, daemon=True).start()


def _keep_here(rows: Sequence[int], path: Path) -> int:
    return _keep(_read_here, _files_here, rows, path)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that start meanwhile block SIGINT: Ctrl-C reaches every process, and the parent stops the others."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _no_main_module() -> Iterator[None]:
    """Processes that start meanwhile do not import launch.py, and with it JAX and all the rest."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main

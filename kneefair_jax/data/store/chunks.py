"""Reads every case of a source once, in chunks of rows and in several processes; finished chunks survive a restart.

Nothing here imports JAX or TFDS, so that the reading processes start fast and hold no device.
"""

import contextlib
import hashlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kneefair_jax.data import inspection
from kneefair_jax.data.source import ARRAYS, Example, Files, files_sha256
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic, checked_files, preemption, progress
from kneefair_jax.safe_text import strip_paths

Read = Callable[[Sequence[int]], Iterator[Example | InputError]]
Record = tuple[int, dict[str, np.ndarray]]

_REMEDY = "delete this file; its cases are then read again"
CHUNK = 64  # cases in a file


class Outcome(NamedTuple):
    """The result of reading a row.

    Attributes:
        row: of the source's table.
        sha256: hex digits, of its arrays; "" if it has none.
        why: why it has no arrays; "" if it has them.
        files: hex digits, of the bytes of its files; "" if it has none.
        inspection: of its files, by `inspection.encode`; "" if it has none.
    """

    row: int
    sha256: str
    why: str
    files: str = ""
    inspection: str = ""


def outcome(row: int, result: Example | InputError, files: Files | None = None) -> Outcome:
    """Return the outcome of a row that was read.

    Args:
        row: of the source's table.
        result: from the source's `read`.
        files: row -> the files that it was read from, which another process may have deleted since.
    """
    paths = files(row) if files else ()
    try:
        if isinstance(result, InputError):
            raise result
        files_digest = files_sha256(paths) if files else ""
    except InputError as error:
        return Outcome(row, "", strip_paths(str(error), *(path.parent for path in paths)))
    digest = hashlib.sha256()
    for array in result.arrays().values():
        digest.update(np.ascontiguousarray(array).tobytes())
    return Outcome(row, digest.hexdigest(), "", files_digest, inspection.encode(result.inspection))


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
    """Read rows 0, ..., rows - 1 into files of a chunk each; existing chunks are not read again.

    A chunk's file is written atomically, so the reading may stop at any moment and resume later.

    Args:
        read: of the source; with workers, it is pickled.
        rows: number of rows.
        folder: of the chunks' files; created if absent.
        workers: processes to read in; 0 reads in this process. There are at most as many as chunks, and none for one.
        say: receives a line of progress every few seconds.
        chunk: rows of a chunk.
        files: row -> its files, whose bytes get a digest beside that of the arrays; with workers, it is pickled.

    Returns:
        The chunks' files in the order of the rows.

    Raises:
        InputError: a reading process was killed; the chunks that it had finished remain.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spans = [range(start, min(start + chunk, rows)) for start in range(0, rows, chunk)]
    paths = [folder / f"{span.start:09d}-{span.stop:09d}.npz" for span in spans]
    tasks = [(span, path) for span, path in zip(spans, paths, strict=True) if not path.exists()]
    if workers and len(tasks) > 1:
        counts = _read_in_processes(read, files, tasks, min(workers, len(tasks)))
    else:
        counts = (_write_chunk(read, files, *task) for task in tasks)
    total = sum(len(span) for span, _ in tasks)
    finished = 0
    start = report_time = time.monotonic()
    for count in counts:
        finished += count
        now = time.monotonic()
        if now - report_time >= progress.PATIENCE:
            report_time = now
            say(
                f"preparing: {rows - total + finished}/{rows} cases, {finished / (now - start):.1f} cases/s"
                + progress.time_left(finished, total, now - start)
            )
    return paths


def outcomes(chunks: Iterable[Path]) -> Iterator[Outcome]:
    """Yield the outcome of every row, in order."""
    for path in chunks:
        chunk = checked_files.read_npz(path, _REMEDY, Outcome._fields)
        columns = [chunk[name].tolist() for name in Outcome._fields]
        yield from (Outcome(*cells) for cells in zip(*columns, strict=True))


def records(chunks: Iterable[Path]) -> Iterator[Record]:
    """Yield row and arrays of every case that has arrays, in order."""
    for path in chunks:
        chunk = checked_files.read_npz(path, _REMEDY, ("row", "why", *ARRAYS))
        rows = chunk["row"][chunk["why"] == ""].tolist()
        for position, row in enumerate(rows):
            yield row, {name: chunk[name][position] for name in ARRAYS}


def write_pickle(path: Path, value: Any) -> str:
    """Pickle a value into a file and return the SHA-256 of the file, in hex digits.

    Others may be able to write to the folder, and loading a pickle runs code, so `read_pickle` compares the digest.
    """
    content = pickle.dumps(value)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_pickle(path: Path, sha256: str) -> Any:
    """Return the value that `write_pickle` pickled.

    Raises:
        InputError: the file has another digest; nothing in it has run.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(
            f"{path}: another process changed this file after it was written, so it is not loaded; allow no other "
            "user to write to the folder of config.data.store, and start again"
        )
    return pickle.loads(content)


def _write_chunk(read: Read, files: Files | None, rows: Sequence[int], path: Path) -> int:
    """Read a chunk, write its file and return its number of rows."""
    results = list(read(rows))
    row_outcomes = [outcome(row, result, files) for row, result in zip(rows, results, strict=True)]
    examples = [
        result
        for result, row_outcome in zip(results, row_outcomes, strict=True)
        if not (isinstance(result, InputError) or row_outcome.why)
    ]
    arrays = {
        name: np.stack([getattr(example, name) for example in examples]) if examples else np.empty(0)
        for name in ARRAYS
    }
    columns = {name: np.array([getattr(row, name) for row in row_outcomes]) for name in Outcome._fields}
    # Without `sync`, a power failure could leave the name without the bytes.
    with atomic.replacement(path, sync=True) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays, **columns)
    return len(rows)


def _read_in_processes(
    read: Read, files: Files | None, tasks: Sequence[tuple[range, Path]], workers: int
) -> Iterator[int]:
    """Yield the number of rows of each chunk when a process has written it."""
    context = multiprocessing.get_context("spawn")  # a fork would copy locks that JAX's threads hold
    earlier_children = set(multiprocessing.active_children())
    with ProcessPoolExecutor(workers, context, _initialize, (read, files)) as pool:
        try:
            # A process that is interrupted during its start would print a traceback.
            with preemption.hold_signals(), _without_interrupts(), _no_main_module():
                futures = [pool.submit(_write_chunk_in_process, *task) for task in tasks]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise InputError(
                f"one of the {workers} reading processes was killed, perhaps because memory ran out; rerun the same "
                "command to resume, with a smaller config.data.workers to use less memory"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # The end of the block waits until they have read their chunk: minutes, when a scheduler grants 30 seconds.
            # A chunk's file is written atomically.
            for process in set(multiprocessing.active_children()) - earlier_children:
                process.terminate()
            raise


# A reading process receives these once, not with every chunk.
_process_read: Read
_process_files: Files | None


def _initialize(read: Read, files: Files | None) -> None:
    global _process_read, _process_files
    _process_read, _process_files = read, files
    parent = multiprocessing.parent_process()
    assert parent is not None

    def exit_with_parent() -> None:
        parent.join()
        os._exit(1)

    # Without this thread, a pool's processes outlive a parent that was killed.
    threading.Thread(target=exit_with_parent, daemon=True).start()


def _write_chunk_in_process(rows: Sequence[int], path: Path) -> int:
    return _write_chunk(_process_read, _process_files, rows, path)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block SIGINT in processes that start in the block: Ctrl-C reaches them too, and the parent stops them."""
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)


@contextlib.contextmanager
def _no_main_module() -> Iterator[None]:
    """Hide `__main__` in the block, so that processes that start in it do not import launch.py and, with it, JAX."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main

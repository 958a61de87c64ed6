"""Prepares a source of cases once as array_record by TFDS, and reads it at random, without TensorFlow."""

import contextlib
import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kneefair_jax.data import inspection
from kneefair_jax.data.inspection import Inspection
from kneefair_jax.data.source import Source
from kneefair_jax.data.store import chunks, tfds_builder
from kneefair_jax.data.store.chunks import Outcome
from kneefair_jax.data.store.tfds_builder import CaseStore
from kneefair_jax.errors import InputError, describe
from kneefair_jax.runtime import atomic, checked_files, output_folder, progress
from kneefair_jax.runtime.schema import Anything, Integer, ListOf, Omittable, Row, Table, Text

DIGEST_FILE = "content.json"
ON_READ_ERROR = ("stop", "skip")
_ROW_BYTES = 16_384  # of the digest file, for each case of the source
_REMEDY = "delete this store's folder; the cases are then prepared again"

# A source and its working resolution, (H, W, C).
SourceOnGrid = tuple[Source, tuple[int, int, int]]


class UnreadableCasesError(InputError):
    """Some cases are unreadable and `on_read_error` is "stop", or every case is unreadable."""


class Options(NamedTuple):
    """Options of the preparation; only `on_read_error` changes the stored cases.

    Attributes:
        workers: processes to read in if the source is portable; 0 reads in this process.
        on_read_error: "stop" refuses a source with an unreadable case; "skip" excludes such cases.
        beam: flags of an Apache Beam pipeline that reads and packs, `--runner=DirectRunner`; "" for none.
        say: receives lines of progress.
        chunk: rows read at a time.
    """

    workers: int = 0
    on_read_error: str = "stop"
    beam: str = ""
    say: Callable[[str], None] = lambda line: None
    chunk: int = chunks.CHUNK


def fingerprint(source: Source, grid: tuple[int, int, int]) -> str:
    """Return sixteen hex digits of everything that determines the stored arrays."""
    text = json.dumps([source.settings, grid], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Cases:
    """The prepared cases, by row: `cases[k]` -> `{"image", "label", "spacing"}`.

    Attributes:
        digest: SHA-256 of every stored array; the same on any machine, for the same pixels.
        excluded: `(case_id, why)` for the source's unreadable cases, which have no row.
        files: SHA-256 of each source row's files when they were read, "" for a row without files; () if not recorded.
        inspections: of the files of each record, None for a record without files; () if not recorded.
    """

    def __init__(
        self,
        records: Any,
        digest: str,
        excluded: tuple[tuple[str, str], ...] = (),
        ids: Sequence[str] = (),
        folder: Path | None = None,
        files: Sequence[str] = (),
        inspections: Sequence[Inspection | None] = (),
    ):
        self._records = records
        self._ids = ids
        self._folder = folder
        self.digest = digest
        self.excluded = excluded
        self.files = files
        self.inspections = inspections
        self._columns: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        try:
            record: dict[str, np.ndarray] = self._records[int(row)]
            return record | {name: np.asarray(values[int(row)]) for name, values in self._columns.items()}
        except MemoryError:
            raise
        except Exception as error:
            if not self._folder:
                raise
            raise InputError(
                f"{self._folder}: the record of case {self._ids[int(row)]!r} cannot be read "
                f"({describe(error)}); delete this folder; the cases are then prepared again"
            ) from error

    def with_columns(self, columns: dict[str, np.ndarray]) -> "Cases":
        """Return the cases with the entry of each column, [N, ...], beside the stored arrays.

        Raises:
            ValueError: a column has another length.
        """
        for name, values in columns.items():
            if len(values) != len(self):
                raise ValueError(f"{name}: {len(values)} entries for {len(self)} cases")
        other = copy.copy(self)
        other._columns = self._columns | columns
        return other


def is_prepared(source: Source, grid: tuple[int, int, int], directory: Path) -> bool:
    """Return whether a complete store exists, so that `prepare` reads no case."""
    return _is_complete(_store_folder(source, grid, directory))


def prepare(source: Source, grid: tuple[int, int, int], directory: Path, **options: Any) -> Cases:
    """Prepare one source by `prepare_all`; `options` are fields of `Options`."""
    return prepare_all([(source, grid)], directory, Options(**options))[0]


def prepare_all(sources: Sequence[SourceOnGrid], directory: Path, options: Options) -> list[Cases]:
    """Open the stores of sources below `directory`, and write those that do not exist.

    Every case is read once, into chunks beside the final folder; an interrupted preparation resumes from its chunks.
    TFDS packs the chunks in a temporary folder and renames it, and the digest file is written last, so an incomplete
    store is never opened. Of several processes that prepare one source, one works and the others wait. A Beam pipeline
    writes no chunks: the runner repeats failed steps, and a stopped pipeline starts again from the beginning.

    Args:
        sources: each with its grid.
        directory: of all stores.
        options: of the preparation.

    Raises:
        UnreadableCasesError: with the first five problems and their number; files that this call wrote are deleted.
        InputError: an option is invalid, or a store on disk is damaged.
    """
    check_options(options)
    if options.beam:
        _check_beam(sources, options.beam)
    new_folders = [path for path in (directory, *directory.parents) if not path.exists()]
    folders = [_store_folder(source, grid, directory) for source, grid in sources]
    parent = directory / CaseStore.name
    if parent.is_symlink():
        raise InputError(f"{parent} is a symbolic link; remove it, or give another config.data.store")
    output_folder.require_regular_files(parent, [folder.name for folder in folders])
    say_waiting = partial(options.say, "waiting for another process that prepares the same cases")
    with contextlib.ExitStack() as locks:
        # All locks are held to the end: no other process starts to use what this call may delete again.
        for folder in sorted({folder for folder in folders if not _is_complete(folder)}):
            locks.enter_context(
                output_folder.exclusive_lock(folder, "config.data.store", wait=True, on_wait=say_waiting)
            )
        new_stores: list[Path] = []
        try:
            for (source, grid), folder in zip(sources, folders, strict=True):
                if not _is_complete(folder):
                    new_stores.append(folder)
                    _write(source, grid, directory, options)
            return [_open_store(source, grid, directory, options.on_read_error) for source, grid in sources]
        except UnreadableCasesError:
            only_locked = [
                folder for folder in folders if {path.name for path in folder.glob("*")} == {".lock"}
            ]
            for folder in (*new_stores, *only_locked):
                shutil.rmtree(folder, ignore_errors=True)
            for path in (parent, *new_folders):
                with contextlib.suppress(OSError):  # the folder is not empty
                    path.rmdir()
            raise


def check_options(options: Options) -> None:
    """Require valid options.

    Raises:
        InputError: an option is invalid.
    """
    if options.on_read_error not in ON_READ_ERROR:
        raise InputError(
            f"config.data.on_read_error={options.on_read_error!r}: give one of {', '.join(ON_READ_ERROR)}"
        )
    if options.workers < 0:
        raise InputError(f"config.data.workers={options.workers}: give a number of processes, or 0 for none")


def _store_folder(source: Source, grid: tuple[int, int, int], directory: Path) -> Path:
    return Path(directory, CaseStore.name, fingerprint(source, grid))


def _version_folder(store_folder: Path) -> Path:
    return store_folder / str(CaseStore.VERSION)


def _scratch_folder(store_folder: Path) -> Path:
    return store_folder / f"{CaseStore.VERSION}.partial"


def _is_complete(store_folder: Path) -> bool:
    return (_version_folder(store_folder) / DIGEST_FILE).exists()


def _check_beam(sources: Sequence[SourceOnGrid], flags: str) -> None:
    try:
        from kneefair_jax.data.store import beam
    except ImportError as error:
        raise InputError(
            f"config.data.beam needs Apache Beam ({error}); install it in an environment of its own: "
            "pip install -c constraints-beam.txt '.[beam]'"
        ) from error
    if not all(source.portable for source, _ in sources):
        raise InputError("config.data.beam: these cases are drawn in this process; leave data.beam empty")
    beam.options(flags)


def _write(source: Source, grid: tuple[int, int, int], directory: Path, options: Options) -> None:
    folder = _store_folder(source, grid, directory)
    final, scratch = _version_folder(folder), _scratch_folder(folder)
    # A killed packing may leave these. TFDS would accept a renamed folder without its digest file as complete.
    for stale in (final, *folder.glob("incomplete*")):
        shutil.rmtree(stale, ignore_errors=True)
    write = _write_by_beam if options.beam else _write_by_chunks
    new_store = partial(CaseStore, name=folder.name, grid=grid, data_dir=directory)
    content = write(source, scratch, new_store, options)
    # The last file: a store without it is incomplete.
    atomic.write_text(final / DIGEST_FILE, json.dumps(content))
    shutil.rmtree(scratch, ignore_errors=True)  # a process that opens the store now removes it too


def _write_by_chunks(
    source: Source, scratch: Path, new_store: Callable[..., CaseStore], options: Options
) -> dict[str, Any]:
    files = chunks.read_all(
        source.read,
        len(source.cases),
        scratch,
        workers=options.workers if source.portable else 0,
        say=options.say,
        chunk=options.chunk,
        files=source.files,
    )
    content = _content(source, chunks.outcomes(files))
    _refuse_unreadable(content, options.on_read_error)
    records = progress.track(chunks.records(files), content["cases"], "packing the prepared cases")
    tfds_builder.pack(new_store(records=records), scratch)
    return content


def _write_by_beam(
    source: Source, scratch: Path, new_store: Callable[..., CaseStore], options: Options
) -> dict[str, Any]:
    from kneefair_jax.data.store import beam

    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    records = beam.ReadCases(source.read, len(source.cases), scratch, options.chunk, source.files)
    try:
        tfds_builder.pack(new_store(records=records), scratch, beam_options=beam.options(options.beam))
    except Exception as error:
        if "generated examples is 0" not in str(error):  # TFDS's message for a pipeline without records
            raise
        first_rows = range(min(5, len(source.cases)))
        reasons = [str(result) for result in source.read(first_rows)]
        head = f"none of {len(source.cases)} cases can be read:"
        raise UnreadableCasesError("\n".join([head, *reasons])) from None
    content = _content(source, beam.outcomes(scratch))
    _refuse_unreadable(content, options.on_read_error)
    return content


def _content(source: Source, outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Return the content of the digest file: SHA-256 of all records and of the files by row, and unreadable cases."""
    digest = hashlib.sha256()
    unreadable: list[tuple[str, str]] = []
    files: list[str] = []
    inspections: list[str] = []
    for row, sha256, why, files_digest, inspection_text in outcomes:
        files.append(files_digest)
        if why:
            unreadable.append((source.cases["case_id"].iloc[row], why))
        else:
            digest.update(bytes.fromhex(sha256))
            inspections.append(inspection_text)
    content = {"sha256": digest.hexdigest(), "cases": len(inspections), "broken": unreadable}
    content |= {"inspections": inspections} if any(inspections) else {}
    return content | ({"files": files} if source.files else {})


def _refuse_unreadable(content: dict[str, Any], on_read_error: str) -> None:
    unreadable, readable_count = content["broken"], content["cases"]
    if not readable_count or (unreadable and on_read_error != "skip"):
        raise UnreadableCasesError(unreadable_message(unreadable, readable_count))


def unreadable_message(unreadable: Sequence[tuple[str, str]], readable_count: int) -> str:
    """Return the error message for unreadable cases: their number, the first five, and the remedy.

    Args:
        unreadable: `(case_id, why)`.
        readable_count: number of the other cases.
    """
    head = f"{len(unreadable)} of {readable_count + len(unreadable)} cases cannot be read:"
    remedy = ["otherwise --config.data.on_read_error=skip excludes such cases"] if readable_count else []
    return "\n".join([head, *(why for _, why in unreadable[:5]), *remedy])


def _open_store(source: Source, grid: tuple[int, int, int], directory: Path, on_read_error: str) -> Cases:
    folder = _store_folder(source, grid, directory)
    final = _version_folder(folder)
    content = _read_content(final / DIGEST_FILE, len(source.cases))
    # A preparation killed at its last step leaves it.
    shutil.rmtree(_scratch_folder(folder), ignore_errors=True)
    _refuse_unreadable(content, on_read_error)
    try:
        records = tfds_builder.open_store(folder.name, grid, directory)
        record_count = len(records)
    except (MemoryError, InputError):
        raise
    except Exception as error:
        raise InputError(
            f"{final} cannot be read ({describe(error)}); delete this folder; the cases are then prepared again"
        ) from error
    if not record_count == content["cases"] == len(source.cases) - len(content["broken"]):
        raise InputError(f"{final}: {record_count} records for {len(source.cases)} cases; delete this folder")
    unreadable = {case: why for case, why in content["broken"]}
    ids = [case for case in source.cases["case_id"] if case not in unreadable]
    return Cases(
        records,
        content["sha256"],
        tuple(unreadable.items()),
        ids,
        final,
        content.get("files", ()),
        content["inspections"],
    )


def _read_content(path: Path, rows: int) -> dict[str, Any]:
    """Read and check the digest file of a store; `rows` is the number of the source's rows."""
    max_bytes = checked_files.MAX_DESCRIPTION_BYTES + rows * _ROW_BYTES
    content: dict[str, Any] = checked_files.read_json(
        path, _content_schema(rows), _REMEDY, max_bytes=max_bytes
    )
    if (
        len(content.get("files", ())) not in (0, rows)
        or len(content.get("inspections", ())) > content["cases"]
    ):
        raise InputError(f"{path}: its digests are not those of {rows} cases; {_REMEDY}")
    try:
        bytes.fromhex(content["sha256"])
        inspections = tuple(inspection.decode(text) for text in content.get("inspections", ()))
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({describe(error)}); {_REMEDY}") from error
    unreadable = [(case, why) for case, why in content["broken"]]
    return content | {"broken": unreadable, "inspections": inspections}


def _content_schema(rows: int) -> Table:
    text = Text(_ROW_BYTES, printable=False)
    return Table(
        {
            "sha256": text,
            "cases": Integer(0, rows),
            "broken": ListOf(Row((text, text)), 0, rows),
            "files": Omittable(ListOf(text, 0, rows)),
            "inspections": Omittable(ListOf(text, 0, rows)),
        },
        Anything(),
    )

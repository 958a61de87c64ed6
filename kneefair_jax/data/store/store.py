"""A source of cases is prepared once into array_record by TFDS, then read at random; no TensorFlow involved."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

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
ON_BROKEN = ("stop", "skip")
_LOCK = ".lock"
_ROW_BYTES = 16_384  # of the digest file, for each case of the source
_REMEDY = "delete this store's folder, and the cases are prepared again"


class BrokenCasesError(InputError):
    """Cases that cannot be read, where the config says to stop, or where no case is left."""


class Options(NamedTuple):
    """How a store is prepared; none of it changes what is stored, but for the cases that `on_broken` leaves out.

    Attributes:
        workers: processes to read in where the source allows it; 0 reads in this one.
        on_broken: "stop" refuses a source with a case that cannot be read; "skip" leaves such cases out.
        beam: flags of an Apache Beam pipeline to read and to pack in, `--runner=DirectRunner`; "" for none.
        say: gets lines of progress.
        chunk: rows read at a time.
    """

    workers: int = 0
    on_broken: str = "stop"
    beam: str = ""
    say: Callable[[str], None] = lambda line: None
    chunk: int = chunks.CHUNK


def fingerprint(source: Source, grid: tuple[int, int, int]) -> str:
    """Sixteen hex digits that change with anything that changes a stored array."""
    text = json.dumps([source.settings, grid], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Cases:
    """The prepared cases, by row: `cases[k]` -> `{"image", "label", "spacing"}`.

    Attributes:
        digest: SHA-256 of every stored array; the same on any machine, for the same pixels.
        left_out: `(case_id, why)` of the source's cases that could not be read and are not among the rows.
        files: SHA-256 of each source row's files as they were read, "" of a row without; () where it is not recorded.
        inspections: what the files of each record showed, None of a record without files; () where it is not recorded.
    """

    def __init__(
        self,
        records: Any,
        digest: str,
        left_out: tuple[tuple[str, str], ...] = (),
        ids: Sequence[str] = (),
        folder: Path | None = None,
        files: Sequence[str] = (),
        inspections: Sequence[Inspection | None] = (),
    ):
        self._records = records
        self._ids = ids
        self._folder = folder
        self.digest = digest
        self.left_out = left_out
        self.files = files
        self.inspections = inspections

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        try:
            return self._records[int(row)]
        except MemoryError:
            raise
        except Exception as error:
            if not self._folder:
                raise
            raise InputError(
                f"{self._folder}: the record of case {self._ids[int(row)]!r} cannot be read "
                f"({describe(error)}); delete this folder, and the cases are prepared again"
            ) from error


def is_prepared(source: Source, grid: tuple[int, int, int], directory: Path) -> bool:
    """Whether there is a whole store of it, so that `prepare` reads nothing."""
    return _is_whole(_folder(source, grid, directory))


def prepare(source: Source, grid: tuple[int, int, int], directory: Path, **options: Any) -> Cases:
    """`prepare_all` of one source; `options` are fields of `Options`."""
    return prepare_all([(source, grid)], directory, Options(**options))[0]


def prepare_all(
    sources: Sequence[tuple[Source, tuple[int, int, int]]], directory: Path, options: Options
) -> list[Cases]:
    """Opens the stores of sources on their grids (H, W, C) below `directory`, and writes those that are not there.

    Every case is read once, into chunks beside the final folder: an interrupted preparation goes on where it was.
    TFDS then packs the chunks beside the final folder too and renames it, and the digest is written last, so nothing
    that is not whole is ever taken for whole. Of several processes that prepare one source, one does and the others
    wait for it. With Beam there are no chunks to go on from: the runner repeats what fails, and a pipeline that was
    stopped starts anew.

    Args:
        sources: each with its grid.
        directory: of all stores.
        options: see there.

    Raises:
        BrokenCasesError: the first five problems and how many there are; what this call made is removed.
        InputError: an option is not one, or a store on disk is damaged.
    """
    check_options(options)
    if options.beam:
        _check_beam(sources, options.beam)
    absent = [path for path in (directory, *directory.parents) if not path.exists()]
    folders = [_folder(source, grid, directory) for source, grid in sources]
    if (directory / CaseStore.name).is_symlink():
        raise InputError(
            f"{directory / CaseStore.name} is a symbolic link; remove it, or give another config.data.store"
        )
    output_folder.require_regular_files(directory / CaseStore.name, [folder.name for folder in folders])
    with contextlib.ExitStack() as locks:
        # All of them, to the end: what this call may have to remove again, nobody else has begun to use.
        for folder in sorted({folder for folder in folders if not _is_whole(folder)}):
            locks.enter_context(_alone(folder, options.say))
        written: list[Path] = []
        try:
            for (source, grid), folder in zip(sources, folders, strict=True):
                if not _is_whole(folder):
                    written.append(folder)
                    _write(source, grid, directory, options)
            return [_open(source, grid, directory, options.on_broken) for source, grid in sources]
        except BrokenCasesError:
            for folder in written:
                shutil.rmtree(folder, ignore_errors=True)
            for folder in folders:  # where only a lock was laid
                with contextlib.suppress(OSError):
                    if {path.name for path in folder.iterdir()} == {_LOCK}:
                        shutil.rmtree(folder)
            for path in (directory / CaseStore.name, *absent):
                with contextlib.suppress(OSError):  # not empty
                    path.rmdir()
            raise


def check_options(options: Options) -> None:
    """Raises an InputError at an option that is not one."""
    if options.on_broken not in ON_BROKEN:
        raise InputError(f"config.data.on_broken={options.on_broken!r}: give one of {', '.join(ON_BROKEN)}")
    if options.workers < 0:
        raise InputError(f"config.data.workers={options.workers}: give a number of processes, or 0 for none")


def _folder(source: Source, grid: tuple[int, int, int], directory: Path) -> Path:
    return directory / CaseStore.name / fingerprint(source, grid)


def _final(folder: Path) -> Path:
    return folder / str(CaseStore.VERSION)


def _partial(folder: Path) -> Path:
    return folder / f"{CaseStore.VERSION}.partial"


def _is_whole(folder: Path) -> bool:
    return (_final(folder) / DIGEST_FILE).exists()


@contextlib.contextmanager
def _alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds a lock that ends with the process, however that ends."""
    while (file := _lock(folder / _LOCK, say)) is None:
        pass
    with file:
        yield


def _lock(path: Path, say: Callable[[str], None]) -> IO[str] | None:
    """The file, locked; None if whoever had the lock removed it with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as opened:
        try:
            file = opened.enter_context(atomic.open_in_place(path, "r+"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another process that prepares the same cases")
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:
                pass  # a file system without locks
            if not os.path.samefile(file.fileno(), path):
                return None
        except FileNotFoundError:
            return None
        opened.pop_all()
        return file


def _check_beam(sources: Sequence[tuple[Source, tuple[int, int, int]]], flags: str) -> None:
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
    folder = _folder(source, grid, directory)
    final, scratch = _final(folder), _partial(folder)
    # A packing that was killed: without its digest it is nothing, and TFDS would take the renamed folder for whole.
    for stale in (final, *folder.glob("incomplete*")):
        shutil.rmtree(stale, ignore_errors=True)
    write = _write_by_beam if options.beam else _write_here
    content = write(
        source, scratch, partial(CaseStore, name=folder.name, grid=grid, data_dir=directory), options
    )
    # Last: a store without this file is not finished.
    atomic.write_text(final / DIGEST_FILE, json.dumps(content))
    shutil.rmtree(scratch, ignore_errors=True)  # whoever opens the store meanwhile removes it too


def _write_here(
    source: Source, scratch: Path, store: Callable[..., CaseStore], options: Options
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
    _refuse(content, options.on_broken)
    records = progress.track(chunks.records(files), content["cases"], "packing the prepared cases")
    tfds_builder.pack(store(records=records), scratch)
    return content


def _write_by_beam(
    source: Source, scratch: Path, store: Callable[..., CaseStore], options: Options
) -> dict[str, Any]:
    from kneefair_jax.data.store import beam

    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    records = beam.ReadCases(source.read, len(source.cases), scratch, options.chunk, source.files)
    try:
        tfds_builder.pack(store(records=records), scratch, beam_options=beam.options(options.beam))
    except Exception as error:
        if "generated examples is 0" not in str(error):  # TFDS's words for a pipeline without a record
            raise
        some = range(min(5, len(source.cases)))
        why = [str(result) for result in source.read(some)]
        raise BrokenCasesError("\n".join([f"none of {len(source.cases)} cases can be read:", *why])) from None
    content = _content(source, beam.outcomes(scratch))
    _refuse(content, options.on_broken)
    return content


def _content(source: Source, outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """What the digest file says: SHA-256 over those of the records and of files by row, and what is broken."""
    digest, kept = hashlib.sha256(), 0
    broken: list[tuple[str, str]] = []
    files: list[str] = []
    inspections: list[str] = []
    for row, sha256, why, of_files, inspected in outcomes:
        files.append(of_files)
        if why:
            broken.append((source.cases["case_id"].iloc[row], why))
        else:
            digest.update(bytes.fromhex(sha256))
            inspections.append(inspected)
            kept += 1
    content = {"sha256": digest.hexdigest(), "cases": kept, "broken": broken}
    content |= {"inspections": inspections} if any(inspections) else {}
    return content | ({"files": files} if source.files else {})


def _refuse(content: dict[str, Any], on_broken: str) -> None:
    broken, kept = content["broken"], content["cases"]
    if kept and (on_broken == "skip" or not broken):
        return
    raise BrokenCasesError(refusal(broken, kept))


def refusal(broken: Sequence[tuple[str, str]], kept: int) -> str:
    """What to say of `(case_id, why)` beside `kept` others: how many there are, the first five, how to do without."""
    head = f"{len(broken)} of {kept + len(broken)} cases cannot be read:"
    last = ["otherwise --config.data.on_broken=skip leaves such cases out"] if kept else []
    return "\n".join([head, *(why for _, why in broken[:5]), *last])


def _open(source: Source, grid: tuple[int, int, int], directory: Path, on_broken: str) -> Cases:
    folder = _folder(source, grid, directory)
    final = _final(folder)
    content = _read_content(final / DIGEST_FILE, len(source.cases))
    shutil.rmtree(_partial(folder), ignore_errors=True)  # of a preparation that was killed at its last step
    _refuse(content, on_broken)
    try:
        records = tfds_builder.open_store(folder.name, grid, directory)
        stored = len(records)
    except (MemoryError, InputError):
        raise
    except Exception as error:
        raise InputError(
            f"{final} cannot be read ({describe(error)}); delete this folder, and the cases are prepared again"
        ) from error
    if not stored == content["cases"] == len(source.cases) - len(content["broken"]):
        raise InputError(f"{final}: {stored} records for {len(source.cases)} cases; delete this folder")
    broken = {case: why for case, why in content["broken"]}
    ids = [case for case in source.cases["case_id"] if case not in broken]
    return Cases(
        records,
        content["sha256"],
        tuple(broken.items()),
        ids,
        final,
        content.get("files", ()),
        content["inspections"],
    )


def _read_content(path: Path, rows: int) -> dict[str, Any]:
    """Return the checked digest file of a store; `rows` are those of the source."""
    most = checked_files.MAX_DESCRIPTION_BYTES + rows * _ROW_BYTES
    content = checked_files.read_json(path, _content_schema(rows), _REMEDY, max_bytes=most)
    if (
        len(content.get("files", ())) not in (0, rows)
        or len(content.get("inspections", ())) > content["cases"]
    ):
        raise InputError(f"{path}: digests of other than {rows} cases; {_REMEDY}")
    try:
        bytes.fromhex(content["sha256"])
        inspections = tuple(inspection.decode(text) for text in content.get("inspections", ()))
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({describe(error)}); {_REMEDY}") from error
    broken = [(case, why) for case, why in content["broken"]]
    return content | {"broken": broken, "inspections": inspections}


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

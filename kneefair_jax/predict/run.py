"""Segments files and writes the results; a file that fails is reported in one line, and the others are processed."""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import batched
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from kneefair_jax.errors import InputError
from kneefair_jax.predict import bilateral, films, inputs, outputs, resume, stated_spacing, writers
from kneefair_jax.predict.areas import AREA, AREAS, MASK, WARNING, Areas, file_id
from kneefair_jax.predict.films import Film
from kneefair_jax.predict.predictor import Prediction, Predictor
from kneefair_jax.runtime import output_folder, preemption, progress
from kneefair_jax.safe_text import is_formula, printable, strip_paths

_FOLDERS = ("masks", "outlines", "overlays")
WRITTEN = (".lock", resume.RECORD, AREAS, *_FOLDERS)
KNEES = ("auto", "one", "both")
# Films read at a time: 32 of the largest allowed, of a byte a pixel, take 1.6 GB.
MOST_READ = 32


class Settings(NamedTuple):
    """How files are segmented.

    Attributes:
        format: of masks, a key of `writers.FORMATS`.
        overlays: whether they are drawn.
        knees: how many a film shows; `auto` asks its DICOM header.
        group: of all patients, for group-specific networks.
        batch: files read at a time, at most `MOST_READ`.
        groups: case id, a file's name without ending -> its group; None where all are of `group`.
        anonymous: whether DICOM-SEG is written without the patient's identity.
        spacing: f32[2], mm per pixel down and across of films whose files state none; None leaves it unknown.
    """

    format: str = "png"
    overlays: bool = True
    knees: str = "auto"
    group: str | None = None
    batch: int = 8
    groups: Mapping[str, str] | None = None
    anonymous: bool = False
    spacing: np.ndarray | None = None


class Tally(NamedTuple):
    """How many files were segmented, with a warning or without, how many failed, and how many have no spacing.

    Attributes:
        done: files that were segmented, in this run or an earlier one.
        warned: of those, files with a warning.
        failed: files that were not segmented.
        without_spacing: of those that were segmented, files whose areas are in pixels only.
        kept: of those that were segmented, files that an earlier run finished.
    """

    done: int
    warned: int
    failed: int
    without_spacing: int = 0
    kept: int = 0


def run(
    predictor: Predictor,
    given: Sequence[str],
    out: Path,
    settings: Settings,
    *,
    say: Callable[[str], None],
    complain: Callable[[str], None],
) -> Tally:
    """Writes `masks/`, `overlays/`, `areas.csv` and, of whole bones, `outlines/` into a folder.

    Files that an earlier run finished are kept. What an earlier run with other options wrote of a file is deleted once
    its new results are written, or once it fails.

    Args:
        predictor: segments.
        given: files, folders, globs.
        out: the folder; made if need be.
        settings: how.
        say: gets a line a finished file.
        complain: gets a line a failed one.

    Raises:
        InputError: nothing can be begun: no network for the group, both knees of a network that knows sides, a
            file as folder, a folder that another process writes to, or films in it.
        OSError: the disk is full or cannot be written; what was finished before is kept.
    """
    if settings.groups is None:
        predictor.require_group(settings.group)
    if settings.knees == "both" and _knows_sides(predictor):
        raise InputError("--knees both: this network segments both knees by itself; leave it out")
    found = list(inputs.find(given, out))
    film_paths = {os.path.realpath(item.path) for item in found if isinstance(item, inputs.Input)}
    network = predictor.digest()
    done = warned = failed = without_spacing = kept = 0
    with contextlib.ExitStack() as stack:
        output_folder.require_regular_files(out, WRITTEN)
        stack.enter_context(output_folder.exclusive_lock(out, "--out", _FOLDERS))
        table = stack.enter_context(Areas(out))
        record = stack.enter_context(resume.Record(out))
        started = time.monotonic()
        for several in batched(found, min(settings.batch, MOST_READ)):
            sources = [_source(item, network, settings) for item in several]
            finished = [
                _is_finished(item, source, record, table, out, settings)
                for item, source in zip(several, sources, strict=True)
            ]
            results = _segmented(predictor, several, finished, settings)
            for item, source, result in zip(several, sources, results, strict=True):
                preemption.check()
                try:
                    if isinstance(item, InputError):
                        raise item
                    if isinstance(result, InputError):
                        raise result
                    if result is None:
                        lines, note = table.rows(item.path), "  kept"
                        path = _shown(out, item, settings)
                        kept += 1
                    else:
                        mask = _mask(item, settings)
                        table.require_own(item.path, mask.as_posix())
                        path, outlines = _write(out, item, *result, settings)
                        table.add(list(_areas(item, mask, *result, out, outlines)))
                        lines, note = table.rows(item.path), ""
                        current = (out / mask, path, *(file for _, file in outlines.values()))
                        outputs.delete(out, item, table, films=film_paths, current=current)
                        record.add(file_id(item.path), source, _result(item, table, out, settings))
                except InputError as error:
                    failed += 1
                    complain(" ".join(str(error).split()))  # of several lines one
                    # A file that cannot be read, as on a drive that is gone, keeps its results.
                    if isinstance(item, InputError) or source is None:
                        continue
                    if not _is_finished(item, source, record, table, out, settings):
                        outputs.discard(out, item, table, record, films=film_paths)
                    continue
                done, warning = done + 1, lines[0][WARNING]
                warned += bool(warning)
                without_spacing += not lines[0][AREA]
                new, total = done + failed - kept, len(found) - kept
                left = progress.time_left(new, total, time.monotonic() - started)
                say(
                    f"{done + failed}/{len(found)}{left}  {path}{note}"
                    + (f"  warning: {warning}" if warning else "")
                )
    return Tally(done, warned, failed, without_spacing, kept)


Result = tuple[Film, Prediction]


class _Read(NamedTuple):
    """A film, what of it the network sees (the whole or its halves), and its patient's group."""

    film: Film
    parts: list[np.ndarray]
    group: str | None


def _segmented(
    predictor: Predictor,
    items: Sequence[inputs.Input | InputError],
    finished: Sequence[bool],
    settings: Settings,
) -> Iterator[Result | InputError | None]:
    """Yield the prediction of each file, an error, or None of a finished one, in order.

    A batch with a file that is not finished is segmented as a whole: in a smaller batch the last bits of a probability
    could differ from those of an uninterrupted run.
    """
    read = [
        None if is_finished else _read(item, predictor, settings)
        for item, is_finished in zip(items, finished, strict=True)
    ]
    if any(isinstance(one, _Read) for one in read):
        read = [
            _read(item, predictor, settings) if one is None else one
            for item, one in zip(items, read, strict=True)
        ]
    parts = [(part, found.group) for found in read if isinstance(found, _Read) for part in found.parts]
    predictions = iter(_by_group(predictor, parts))
    for found in read:
        if found is None or isinstance(found, InputError):
            yield found
        else:
            halves = [next(predictions) for _ in found.parts]
            prediction = bilateral.joined(*halves) if len(halves) == 2 else halves[0]
            film = bilateral.with_side_notes(found.film, tuple(prediction.confidence), found.group)
            yield film, prediction


def _by_group(predictor: Predictor, parts: Sequence[tuple[np.ndarray, str | None]]) -> list[Prediction]:
    """The prediction of each, by its group's network, in order."""
    of_place: dict[int, Prediction] = {}
    for group in dict.fromkeys(group for _, group in parts):
        places = [place for place, (_, its) in enumerate(parts) if its == group]
        predicted = predictor.segment([parts[place][0] for place in places], group)
        of_place.update(zip(places, predicted, strict=True))
    return [of_place[place] for place in range(len(parts))]


def _read(item: inputs.Input | InputError, predictor: Predictor, settings: Settings) -> _Read | InputError:
    """A film as it is to be segmented, or why it cannot be."""
    if isinstance(item, InputError):
        return item
    try:
        group = _group(item, settings)
        film = films.read(item.path)
        if settings.spacing is not None:
            film = stated_spacing.applied(film, settings.spacing)
        if not _both(film, predictor, settings):
            return _Read(film, [film.image], group)
        halves = bilateral.halves(film.image)
        for side, half in zip(bilateral.SIDES, halves, strict=True):
            try:
                films.require_picture(half)
            except InputError as error:
                raise InputError(f"{item.path}: {side} half: {error}; or --knees one") from error
        return _Read(film, halves, group)
    except InputError as error:
        return error
    except MemoryError:
        return InputError(f"{item.path}: too large for this machine's memory; make it smaller")


def _group(item: inputs.Input, settings: Settings) -> str | None:
    if settings.groups is None:
        return settings.group
    for case in (item.name, Path(item.name).name):
        if case in settings.groups:
            return settings.groups[case]
    raise InputError(
        f"{item.path}: --metadata has no case {item.name!r}, so its group is not known; add a row"
    )


def _both(film: Film, predictor: Predictor, settings: Settings) -> bool:
    if settings.knees == "auto":
        return film.bilateral and not _knows_sides(predictor)
    return settings.knees == "both"


def _knows_sides(predictor: Predictor) -> bool:
    return any(name.split()[0] in bilateral.SIDES for name in predictor.structures)


def _source(item: inputs.Input | InputError, network: str, settings: Settings) -> str | None:
    """Return the digest of what determines a file's result, but for the batch size; None where it has none."""
    if isinstance(item, InputError):
        return None
    try:
        group = _group(item, settings)
    except InputError:
        return None
    spacing = None if settings.spacing is None else settings.spacing.tolist()
    options = settings.format, settings.overlays, settings.knees, settings.anonymous, spacing
    return resume.source_digest(item.path, [network, group, item.name, _cell(item), options])


def _is_finished(
    item: inputs.Input | InputError,
    source: str | None,
    record: resume.Record,
    table: Areas,
    out: Path,
    settings: Settings,
) -> bool:
    if isinstance(item, InputError) or (file := file_id(item.path)) not in record:
        return False
    return record.is_finished(file, source, _result(item, table, out, settings))


def _result(item: inputs.Input, table: Areas, out: Path, settings: Settings) -> str | None:
    """Return the digest of what is written of a file; None where a part is missing."""
    rows = table.rows(item.path)
    # The mask, what a person looks at, and whole bones, whose rows name their files.
    paths = [out / _mask(item, settings), _shown(out, item, settings)]
    paths += [out / row[MASK] for row in rows if row[MASK].startswith("outlines/")]
    return resume.result_digest(rows, list(dict.fromkeys(paths))) if rows else None


def _write(
    out: Path, item: inputs.Input, film: Film, prediction: Prediction, settings: Settings
) -> tuple[Path, writers.Written]:
    """Writes what is wanted of one file; the path of what a person looks at, and where each whole bone is."""
    _, write = writers.FORMATS[settings.format]
    if settings.anonymous:
        write = writers.ANONYMOUS.get(settings.format, write)
    structures = tuple(prediction.confidence)
    if not out.is_dir():  # deleted or unmounted meanwhile; a new folder would lack the masks of its own table
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(out / AREAS))
    writers.whole(write, out / _mask(item, settings), prediction.mask, film, structures)
    bones = {name: outline.mask for name, outline in prediction.outlines.items()}
    whole = out / "outlines" / _mask(item, settings).relative_to("masks")
    outlines = writers.outlines(write, whole, bones, film) if bones else {}
    if settings.overlays:
        overlay = partial(writers.overlay, bones=bones)
        writers.whole(overlay, _shown(out, item, settings), prediction.mask, film, structures)
    return _shown(out, item, settings), outlines


def _shown(out: Path, item: inputs.Input, settings: Settings) -> Path:
    """Return the path of what a person looks at: the overlay, or the mask where overlays are not wanted."""
    return out / "overlays" / f"{item.name}.png" if settings.overlays else out / _mask(item, settings)


def _mask(item: inputs.Input, settings: Settings) -> Path:
    """Where the mask of a file goes in the output folder."""
    return Path("masks", f"{item.name}{writers.FORMATS[settings.format][0]}")


def _areas(
    item: inputs.Input,
    mask: Path,
    film: Film,
    prediction: Prediction,
    out: Path,
    outlines: writers.Written = MappingProxyType({}),
) -> Iterator[list[str]]:
    """A row of `areas.COLUMNS` a structure, and a whole bone; empty where unknown or undefined.

    The first row has the film's warning, the others refer to it.
    """
    pixels = np.bincount(prediction.mask.ravel(), minlength=len(prediction.confidence) + 1)
    folders = (out.absolute(), item.path.absolute().parent)
    warning = strip_paths("; ".join(filter(None, (*film.notes, prediction.warning))), *folders)
    reference = f"see {next(iter(prediction.confidence))}" if warning else ""

    def row(name: str, label: str, count: int, confidence: float, warning: str, path: str) -> list[str]:
        area = float(count * film.spacing.prod())
        return [
            _cell(item),
            file_id(item.path),
            name,
            label,
            f"{area:.2f}" if np.isfinite(area) else "",
            str(count),
            film.spacing_kind,
            f"{confidence:.4f}" if np.isfinite(confidence) else "",
            warning,
            path,
        ]

    for label, (name, confidence) in enumerate(prediction.confidence.items(), start=1):
        note = warning if label == 1 else reference
        yield row(name, str(label), int(pixels[label]), confidence, note, printable(mask.as_posix()))
    for name, outline in prediction.outlines.items():
        number, path = outlines.get(name, ("", None))
        place = printable(path.relative_to(out).as_posix()) if path else ""
        yield row(name, str(number), int(outline.mask.sum()), outline.confidence, reference, place)


def _cell(item: inputs.Input) -> str:
    """A path that no spreadsheet runs as a formula: `=1.png` and `./=1.png` are the same file.

    An absolute path, which names people and machines, is cut to its part below the folder that was given.
    """
    parts = len(Path(item.name).parts)
    text = printable(str(Path(*item.path.parts[-parts:]) if item.path.is_absolute() else item.path))
    return f"./{text}" if is_formula(text) else text

"""Segment files and write the results; a file that fails is reported in one line, and the others are processed."""

import contextlib
import errno
import logging
import os
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import batched
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kneefair_jax.errors import InputError
from kneefair_jax.predict import areas, films, measuring, writers
from kneefair_jax.predict.areas import AREAS, Areas, file_id
from kneefair_jax.predict.films import Film, Input
from kneefair_jax.predict.measuring import FilmMeasurements, Measurements
from kneefair_jax.predict.prediction import (
    Prediction,
    halves_of,
    has_sides,
    join_halves,
    with_side_notes,
)
from kneefair_jax.predict.predictor import Predictor
from kneefair_jax.predict.quality import SIDES
from kneefair_jax.predict.session import RECORD, Record, Session, Settings, require_same_sources
from kneefair_jax.runtime import output_folder, preemption, progress

logger = logging.getLogger(__name__)
_FOLDERS = ("masks", "outlines", "overlays")
WRITTEN = (".lock", RECORD, AREAS, measuring.FILE, *_FOLDERS)
# Films in memory at a time: 32 of the largest allowed, of a byte a pixel, take 1.6 GB.
MOST_READ = 32
_MOST_NAMED = 5  # files that were left out, and films with a warning


class Tally(NamedTuple):
    """Counts of files.

    Attributes:
        segmentations: files that were segmented, in this run or an earlier one.
        warnings: segmentations with a warning.
        failures: files that were not segmented.
        unknown_spacings: segmentations with areas in pixels only.
        earlier_segmentations: segmentations of an earlier run, whose results are kept.
        label_images: masks in a folder, which were left out.
    """

    segmentations: int = 0
    warnings: int = 0
    failures: int = 0
    unknown_spacings: int = 0
    earlier_segmentations: int = 0
    label_images: int = 0


class _Outcome(NamedTuple):
    """The outcome of one file.

    Attributes:
        view: the path of the picture to look at.
        warning: on the mask or the film; "" if there is none.
        has_area: whether its areas are in mm2.
        is_kept: whether an earlier run segmented the file.
        error: why the file could not be segmented; "" if it was.
        is_label_image: whether it was left out as a mask, which is no failure.
    """

    view: Path = Path()
    warning: str = ""
    has_area: bool = False
    is_kept: bool = False
    error: str = ""
    is_label_image: bool = False


def run(predictor: Predictor, arguments: Sequence[str], out: Path, settings: Settings) -> Tally:
    """Write `masks/`, `overlays/`, `areas.csv` and, if asked for, `outlines/` and `measurements.csv` into a folder.

    The results of files that an earlier run finished are kept. The results that an earlier run with other options wrote
    of a file are deleted once its new results are written, or once it fails. The log gets a line for each segmented
    file (INFO), the first five with their warnings, and for each file that fails (ERROR). Masks in a folder are left
    out, with one line for all; the results of one that an earlier run segmented by its name are kept.

    Args:
        predictor: segments.
        arguments: files, folders and globs.
        out: the output folder; it is created if absent.
        settings: the options.

    Raises:
        InputError: the run cannot start: there is no network for the group, `--knees both` is given for a network that
            segments both knees, the output folder is a file, holds films, or another process writes to it.
        OSError: the disk is full or cannot be written; finished files are kept.
    """
    if settings.groups is None:
        predictor.require_group(settings.group)
    if settings.knees == "both" and has_sides(predictor.structures):
        raise InputError("--knees both: this network segments both knees; omit --knees")
    items = list(films.find(arguments, out))
    film_paths = frozenset(os.path.realpath(item.path) for item in items if isinstance(item, Input))
    network = predictor.digest()
    tally = Tally()
    with contextlib.ExitStack() as stack:
        output_folder.require_regular_files(out, WRITTEN)
        stack.enter_context(output_folder.exclusive_lock(out, "--out", _FOLDERS))
        table = stack.enter_context(Areas(out))
        measurements = None
        if settings.measure or measuring.is_table(out):
            measurements = stack.enter_context(Measurements(out))
        record = stack.enter_context(Record(out))
        session = Session(predictor, settings, out, table, record, network, film_paths, measurements)
        if not settings.overwrite:
            require_same_sources(session, items)
        start = time.monotonic()
        label_images: list[str] = []
        warning_count = 0
        for outcome in _process(session, items):
            tally = _count(tally, outcome)
            if outcome.is_label_image:
                label_images.append(outcome.error)
            elif outcome.error:
                logger.error("failed: %s", outcome.error)
            elif not outcome.is_kept:
                count, total = tally.segmentations + tally.failures + tally.label_images, len(items)
                left = progress.time_left(
                    count - tally.earlier_segmentations,
                    total - tally.earlier_segmentations,
                    time.monotonic() - start,
                )
                warning_count += bool(outcome.warning)
                is_shown = outcome.warning and warning_count <= _MOST_NAMED
                warning = f"  warning: {outcome.warning}" if is_shown else ""
                logger.info("%d/%d%s  %s%s", count, total, left, outcome.view, warning)
        if (more := warning_count - _MOST_NAMED) > 0:
            logger.info("and %d more films with a warning; %s lists all", more, out / AREAS)
        if label_images:
            logger.info("%s", _describe_excluded(label_images))
    return tally


def _describe_excluded(errors: Sequence[str]) -> str:
    """Return the line on the files that were left out as masks: their number, and the first of them."""
    noun = "file" if len(errors) == 1 else "files"
    more = f"; and {len(errors) - _MOST_NAMED} more" if len(errors) > _MOST_NAMED else ""
    names = "; ".join(errors[:_MOST_NAMED])
    return f"left out: {len(errors)} {noun} ({names}{more}); name a file itself to segment it"


def _count(tally: Tally, outcome: _Outcome) -> Tally:
    if outcome.is_label_image:
        return tally._replace(label_images=tally.label_images + 1)
    if outcome.error:
        return tally._replace(failures=tally.failures + 1)
    return tally._replace(
        segmentations=tally.segmentations + 1,
        warnings=tally.warnings + bool(outcome.warning),
        unknown_spacings=tally.unknown_spacings + (not outcome.has_area),
        earlier_segmentations=tally.earlier_segmentations + outcome.is_kept,
    )


def _process(session: Session, items: Sequence[Input | InputError]) -> Iterator[_Outcome]:
    """Segment and write the files in batches; yield an outcome for each, in order."""
    for batch in batched(items, min(session.settings.batch, MOST_READ)):
        sources = [session.source_digest(item) for item in batch]
        is_finished = [session.is_finished(item, source) for item, source in zip(batch, sources, strict=True)]
        results = _segment(session.predictor, batch, is_finished, session.settings)
        for item, source, result in zip(batch, sources, results, strict=True):
            preemption.check()
            try:
                if isinstance(item, InputError):
                    raise item
                yield _finish(session, item, source, result)
            except InputError as error:
                # A file that cannot be read, as on an unmounted drive, keeps its results.
                # So does a file that is left out as a mask: the user named it to segment it.
                is_label_image = isinstance(error, films.LabelImageError)
                has_failed = source is not None and not is_label_image
                if isinstance(item, Input) and has_failed and not session.is_finished(item, source):
                    session.discard(item)
                yield _Outcome(error=" ".join(str(error).split()), is_label_image=is_label_image)


class _Segmented(NamedTuple):
    """A film and its prediction."""

    film: Film
    prediction: Prediction


def _finish(
    session: Session, item: Input, source: str | None, result: _Segmented | InputError | None
) -> _Outcome:
    """Write the results of one file, and delete outdated ones; None is the result of a file that is kept.

    Raises:
        InputError: the file could not be segmented, or its results cannot be written.
    """
    if isinstance(result, InputError):
        raise result
    table, out, settings = session.table, session.out, session.settings
    view = out / settings.view_path(item)
    if result is not None:
        mask = settings.mask_path(item)
        table.require_own(item.path, mask.as_posix())
        measurements = None
        if settings.measure:
            measurements = measuring.measure_film(result.film, result.prediction, settings.magnification)
        bones = _write(out, item, result, settings, measurements)
        table.add(list(areas.rows_of(item, mask, result.film, result.prediction, out, bones)))
        if measurements is not None and session.measurements is not None:
            session.measurements.add(item, measurements)
        elif session.measurements is not None:
            session.measurements.discard(item.path)
        current = (out / mask, view, *(file for _, file in bones.values()))
        session.delete_outdated(item, current)
        session.record.add(file_id(item.path), source, session.result_digest(item))
    first = table.rows(item.path)[0]
    return _Outcome(view, first[areas.WARNING], bool(first[areas.AREA]), is_kept=result is None)


class _Reading(NamedTuple):
    """A film, the images of it that the network sees (the whole film or its halves), and its patient's group."""

    film: Film
    images: list[np.ndarray]
    group: str | None


def _segment(
    predictor: Predictor,
    items: Sequence[Input | InputError],
    is_finished: Sequence[bool],
    settings: Settings,
) -> Iterator[_Segmented | InputError | None]:
    """Yield the prediction of each file, an error, or None for a finished file, in order.

    A batch with an unfinished file is segmented in full: in a smaller batch the last bits of a probability could differ
    from those of an uninterrupted run.
    """
    readings = [
        None if finished else _read(item, predictor, settings)
        for item, finished in zip(items, is_finished, strict=True)
    ]
    if any(isinstance(reading, _Reading) for reading in readings):
        readings = [
            _read(item, predictor, settings) if reading is None else reading
            for item, reading in zip(items, readings, strict=True)
        ]
    images = [
        (image, reading.group)
        for reading in readings
        if isinstance(reading, _Reading)
        for image in reading.images
    ]
    predictions = iter(_segment_by_group(predictor, images))
    for reading in readings:
        if reading is None or isinstance(reading, InputError):
            yield reading
            continue
        halves = [next(predictions) for _ in reading.images]
        prediction = join_halves(*halves) if len(halves) == 2 else halves[0]
        film = with_side_notes(reading.film, tuple(prediction.confidence), reading.group)
        yield _Segmented(film, prediction)


def _segment_by_group(
    predictor: Predictor, images: Sequence[tuple[np.ndarray, str | None]]
) -> list[Prediction]:
    """Return the prediction of each image by its group's network, in order."""
    predictions: dict[int, Prediction] = {}
    for group in dict.fromkeys(group for _, group in images):
        indices = [index for index, (_, of_image) in enumerate(images) if of_image == group]
        batch = predictor.segment([images[index][0] for index in indices], group)
        predictions.update(zip(indices, batch, strict=True))
    return [predictions[index] for index in range(len(images))]


def _read(item: Input | InputError, predictor: Predictor, settings: Settings) -> _Reading | InputError:
    """Read a film and cut it if it shows both knees; return the error if that fails."""
    if isinstance(item, InputError):
        return item
    try:
        film = films.read(item.path, item.name if item.is_from_folder else None)
        group = settings.group_of(item)
        if settings.spacing is not None:
            film = films.with_stated_spacing(film, settings.spacing)
        is_cut = settings.knees == "both"
        if settings.knees == "auto":
            is_cut = film.is_bilateral and not has_sides(predictor.structures)
        if not is_cut:
            return _Reading(film, [film.image], group)
        halves = halves_of(film.image)
        for side, half in zip(SIDES, halves, strict=True):
            try:
                films.require_picture(half)
            except InputError as error:
                raise InputError(f"{item.path}: {side} half: {error}; or --knees one") from error
        return _Reading(film, halves, group)
    except InputError as error:
        return error


def _write(
    out: Path,
    item: Input,
    result: _Segmented,
    settings: Settings,
    measurements: FilmMeasurements | None,
) -> writers.BoneFiles:
    """Write the mask, the whole bones and the overlay of one file; return the files of the whole bones."""
    film, prediction = result
    _, write = writers.FORMATS[settings.format]
    if settings.anonymous:
        write = writers.ANONYMOUS.get(settings.format, write)
    structures = tuple(prediction.confidence)
    if not out.is_dir():  # deleted or unmounted meanwhile; a new folder would lack the masks of its own table
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(out / AREAS))
    writers.write_file(write, out / settings.mask_path(item), prediction.mask, film, structures)
    bones = {name: outline.mask for name, outline in prediction.outlines.items()}
    path = out / "outlines" / settings.mask_path(item).relative_to("masks")
    files = writers.write_bones(write, path, bones, film) if bones else {}
    if settings.overlays:
        overlay = partial(writers.overlay, bones=bones, measurements=measurements)
        writers.write_file(overlay, out / settings.view_path(item), prediction.mask, film, structures)
    return files

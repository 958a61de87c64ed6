"""An audit of masks, and an audit of a table of scores."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kneefair_jax.audit import (
    cases,
    equivalence_margin,
    files,
    film_headers,
    ignored_pixels,
    label_error_table,
    label_map,
    mask_faults,
    observations,
    pictures,
    result,
    score_table,
    scoring,
    structure_discovery,
)
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.film_headers import FilmHeader
from kneefair_jax.audit.label_map import Labels
from kneefair_jax.audit.mask_pair import Reading
from kneefair_jax.audit.result import Audit, Settings
from kneefair_jax.audit.scoring import Case
from kneefair_jax.data import layouts
from kneefair_jax.data.mask_files import MaskPath
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import bootstrap, endpoints, family, reference_ser
from kneefair_jax.fairness.equivalence import ReaderAgreement
from kneefair_jax.report.notes import one_spacing
from kneefair_jax.report.text import formatting
from kneefair_jax.runtime.progress import Progress

ON_MISSING = ("stop", "skip", "zero")
type Folder = str | Path


def masks(
    truth: Folder,
    pred: Folder | Mapping[str, Folder],
    metadata: Folder,
    attributes: Sequence[str],
    *,
    labels: Labels | None = None,
    pred_labels: Labels | None = None,
    orientation: str = "none",
    bins: Mapping[str, Sequence[float]] | None = None,
    split: str | None = None,
    images: Folder | None = None,
    on_missing: str = "stop",
    readers: Folder | None = None,
    suspicious: str = "",
    allow_similar_ids: bool = False,
    settings: Settings | None = None,
) -> Audit:
    """Audits predicted masks against reference masks of the same size.

    Args:
        truth: folder of the reference masks, by case id or by the column `mask` of the table.
        pred: folder of the predicted masks, by case id; or model -> folder, to compare them on the same cases.
        metadata: the table of cases (`cases.read`).
        attributes: its columns to report by.
        labels: structure -> its values in the masks; None takes the values as found.
        pred_labels: the same of the predictions, where theirs are others.
        orientation: of `data.layouts.FLAGS`, for the predicted masks whose relation to the reference mask the headers
            leave open; where both headers state an orientation, they decide.
        bins: attribute -> ascending edges, for numbers.
        split: the value of the table's column `split` to keep.
        images: folder of the radiographs to draw on, by case id or by the column `image`.
        on_missing: what to do with a case without a prediction: `stop` refuses it, `skip` leaves it out for every
            model (as it does a case without a reference mask), `zero` scores it as an empty mask.
        readers: a table of two readers, whose mean difference gives the equivalence margin
            (`equivalence_margin.of_readers`).
        suspicious: the checkpoint whose masks of `images` the reference masks are compared with, for those that look
            wrong (`label_error_table.table`); `auto` is the network that ships, "" compares nothing.
        allow_similar_ids: whether identifiers and levels may look alike, such as 7 and 0007.
        settings: how the numbers are made; its `delta` goes before the readers'.

    Raises:
        InputError: something cannot be used; the message names file, row and remedy.
    """
    settings = settings or Settings()
    _check(settings, on_missing, attributes)
    if orientation not in layouts.FLAGS:
        raise InputError(f"--orientation {orientation!r}: give one of {', '.join(layouts.FLAGS)}")
    folders = (
        {name: Path(path) for name, path in pred.items()} if isinstance(pred, Mapping) else {"": Path(pred)}
    )
    settings = settings.with_folders(truth, *folders.values(), metadata, images, readers)
    cohort = cases.read(Path(metadata), attributes, bins or {}, split, allow_similar_ids)
    names = label_map.structure_names(label_map.checked(labels, "--labels")) if labels else ()
    true, predicted, cohort = _files(cohort, Path(truth), folders, on_missing, names)
    films = _images(cohort, Path(images)) if images is not None else {}
    reading = _reading(cohort, Path(truth), true, labels, pred_labels)._replace(orientation=orientation)
    if readers is not None:
        agreements = equivalence_margin.of_readers(
            Path(readers), cohort, true, reading, allow_similar_ids, settings.endpoints.failure_dice
        )
        settings = _with_readers(settings, agreements, cohort)
    suspects = None
    headers: dict[str, FilmHeader] = {}
    if suspicious:
        errors = label_error_table.table(cohort, true, films, reading, suspicious)
        suspects, headers = errors.suspects, errors.headers
        cohort.notes.append(label_error_table.note(suspects))
    results = scoring.over_cases(cohort, true, predicted, reading)
    odd = observations.of_references(cohort, results)
    of_truth, faults = odd.faults, odd.faults
    cohort.notes.extend(odd.notes)
    tables, examples, apart = {}, {}, {}
    about: dict[str, dict[str, Any]] = {}
    spacing = np.stack([one.spacing for one in results])
    spacing_kinds = Counter(
        "table" if np.isfinite(stated).all() else one.truth.spacing_kind
        for stated, one in zip(cohort.spacing, results, strict=True)
    )
    for model, paths in predicted.items():
        scored = [one.by_model[model] for one in results]
        tables[model] = scoring.table(cohort, scored, reading.scored, model, split or "all")
        if tables[model]["dice"].isna().all():
            raise InputError(
                f"{truth}: no mask holds any of {', '.join(reading.structures)}; correct --labels"
            )
        odd = observations.of_model(cohort, results, model, tables[model], reading, of_truth)
        faults = faults + odd.faults
        cohort.notes.extend(odd.notes)
        about[model] = {
            "fingerprint": scoring.fingerprint(cohort, scored),
            "spacing": one_spacing(spacing),
            "spacing_kinds": dict(spacing_kinds),
            "labels": label_map.described(reading.truth),
            "classes": list(reading.structures),
        }
        if label_map.IGNORE in reading.truth:
            ignored = _ignored(cohort, results, model, reading)
            about[model]["ignored"] = ignored.as_dict()
            cohort.notes.append(ignored_pixels.note(ignored, len(results), f" by {model}" if model else ""))
        shown = pictures.views(
            tables[model], cohort, true, paths, films, reading, settings.endpoints.failure_dice
        )
        examples[model], headers = shown.views, headers | shown.headers
        apart[model] = reference_ser.boundary_offset_mm(tables[model], spacing)
    faults = observations.combined(faults)
    by_size = scoring.sizes(cohort, true, results, reading, apart)
    cohort.notes.extend([*film_headers.notes(headers), *mask_faults.notes(faults, len(results))])
    audit = result.audit(cohort, tables, reading.scored, settings, about, examples, by_size)
    return audit._replace(suspects=suspects, mask_faults=mask_faults.table(faults))


def _ignored(cohort: Cohort, results: Sequence[Case], model: str, reading: Reading) -> ignored_pixels.Ignored:
    """What is left out of the scores of a model."""
    return ignored_pixels.of_model(
        cohort.frame["case_id"].tolist(),
        [one.ignored for one in results],
        np.stack([one.by_model[model].ignored for one in results]),
        reading.structures,
    )


def table(
    scores: Folder | pd.DataFrame,
    attributes: Sequence[str],
    *,
    metadata: Folder | None = None,
    bins: Mapping[str, Sequence[float]] | None = None,
    split: str | None = None,
    on_missing: str = "stop",
    readers: Folder | None = None,
    allow_similar_ids: bool = False,
    settings: Settings | None = None,
) -> Audit:
    """Audits a table of scores by case, of any tool.

    Args:
        scores: CSV or parquet, or the table itself, long or wide (`score_table`).
        attributes: columns to report by, of this table or of `metadata`.
        metadata: a table of cases with the attributes.
        bins: attribute -> ascending edges, for numbers.
        split: the value of the column `split` to keep.
        on_missing: what to do with cases of `metadata` without scores: `stop` or `skip`.
        readers: a table of two readers' scores, whose mean difference gives the equivalence margin.
        allow_similar_ids: whether identifiers and levels may look alike, such as 7 and 0007.
        settings: how the numbers are made; its `delta` goes before the readers'.

    Raises:
        InputError: something cannot be used; the message names file, row and remedy.
    """
    settings = settings or Settings()
    _check(settings, on_missing, attributes)
    source = scores if isinstance(scores, pd.DataFrame) else Path(scores)
    settings = settings.with_folders(None if isinstance(source, pd.DataFrame) else source, metadata, readers)
    if on_missing == "zero":
        raise InputError(
            "--on-missing zero: an empty mask's distances are not known without masks; write its scores"
        )
    who = None if metadata is None else Path(metadata)
    with Progress(f"reading {source.name if isinstance(source, Path) else 'the table'}"):
        read = score_table.read(source, who, attributes, bins or {}, split, on_missing, allow_similar_ids)
    if readers is not None:
        agreements = equivalence_margin.of_readers(
            Path(readers), read.cohort, {}, None, allow_similar_ids, settings.endpoints.failure_dice
        )
        settings = _with_readers(settings, agreements, read.cohort)
    return result.audit(read.cohort, read.tables, read.structures, settings, {}, {}, {})


def _check(settings: Settings, on_missing: str, attributes: Sequence[str]) -> None:
    if on_missing not in ON_MISSING:
        raise InputError(f"on_missing={on_missing!r}: give one of {', '.join(ON_MISSING)}")
    if settings.min_group_patients < 1:
        raise InputError("min_group_patients counts patients: give 1 or more")
    bootstrap.check_draws(settings.draws, "--draws")
    endpoints.check(settings.endpoints, "--failure-dice", "--endpoint")
    family.resolve(settings.primary, attributes)


def _with_readers(settings: Settings, agreements: Mapping[str, ReaderAgreement], cohort: Cohort) -> Settings:
    """Take the readers' margins where none is stated; notes say where each comes from, and which say little."""
    margins = {score: one.margin for score, one in agreements.items() if one.margin}
    from_readers = [score for score in margins if score not in settings.delta]
    if from_readers:
        what = formatting.listing(formatting.margin(score, margins[score]) for score in from_readers)
        cohort.notes.append(
            f"the equivalence margin comes from two readers, the end of the interval of their mean difference that is "
            f"nearest to zero: {what}"
        )
    if uncertain := [s for s, one in agreements.items() if not one.margin and s not in settings.delta]:
        what = formatting.listing(
            f"{formatting.TITLES[score]} (95 % interval {formatting.interval(agreements[score].interval, 4)})"
            for score in uncertain
        )
        cohort.notes.append(
            f"the readers' mean difference is not distinguishable from zero in {what}, so it gives no margin; state "
            f"one with --delta {uncertain[0]}=MARGIN"
        )
    if stated := sorted(set(margins) & set(settings.delta)):
        cohort.notes.append(f"the margin of {formatting.listing(stated)} is the one stated, not the readers'")
    return settings._replace(delta={**margins, **settings.delta}, readers=agreements)


def _files(
    cohort: Cohort, truth: Path, folders: Mapping[str, Path], on_missing: str, structures: Sequence[str]
) -> tuple[dict[str, MaskPath], dict[str, dict[str, MaskPath]], Cohort]:
    """Reference masks, predictions by model, and the cases that are left."""
    ids = list(cohort.frame["case_id"])
    paths = dict(zip(ids, cohort.paths["mask"], strict=True))
    true = files.listed(truth, paths, cohort.frame.index, "--truth", cohort.path)
    if not true.of:
        if (cohort.paths["mask"] != "").any():
            cohort.notes.append(
                f"no path of {cohort.path.name}'s column mask is below --truth, so masks were found by case_id"
            )
        true = files.find(truth, ids, "--truth", structures)
    kept = [case for case in ids if case in true.of]
    if len(kept) < len(ids):
        without = [case for case in ids if case not in true.of]
        text = f"no reference mask for {len(without)} of {len(ids)} cases (such as {without[0]})"
        if on_missing != "skip" or not kept:
            raise InputError(
                f"--truth {truth}: {text}; correct the case ids or the folder, or leave such cases out with "
                "--on-missing skip"
            )
        cohort.notes.append(f"{text}: left out")
    _note_links(cohort, truth, true.of, "--truth")
    if true.extra:
        cohort.notes.append(_unlisted(true.extra, "reference mask", cohort))
    found = {model: files.find(folder, kept, "--pred", structures) for model, folder in folders.items()}
    for model, folder in folders.items():
        of = f" by {model}" if model else ""
        _note_links(cohort, folder, found[model].of, f"--pred{of}")
        lacking = [case for case in kept if case not in found[model].of]
        text = (
            f"no prediction{of} for {len(lacking)} of {len(kept)} cases (such as {lacking[0]})"
            if lacking
            else ""
        )
        if lacking and (on_missing == "stop" or len(lacking) == len(kept)):
            raise InputError(
                f"--pred {folder}: {text}; add them, or choose --on-missing skip (leave them out) or zero (score "
                "them as empty masks)"
            )
        if lacking:
            cohort.notes.append(f"{text}: {'left out' if on_missing == 'skip' else 'scored as empty masks'}")
        if found[model].extra:
            cohort.notes.append(_unlisted(found[model].extra, f"prediction{of}", cohort))
    if on_missing == "skip":  # for every model, so that all are scored on the same cases
        kept = [case for case in kept if all(case in files_of.of for files_of in found.values())]
        if not kept:
            raise InputError("no case has a prediction by every model; correct the folders given as --pred")
    cohort = cohort.of(list(true.of), "no reference mask").of(kept, "no prediction")
    return true.of, {model: files_of.of for model, files_of in found.items()}, cohort


def _unlisted(extra: Sequence[Path], what: str, cohort: Cohort) -> str:
    return f"left out, since no row of {cohort.path.name} is theirs: {len(extra)} x {what} (such as {extra[0].name})"


def _images(cohort: Cohort, folder: Path) -> dict[str, Path]:
    ids = list(cohort.frame["case_id"])
    paths = dict(zip(ids, cohort.paths["image"], strict=True))
    named = files.listed(folder, paths, cohort.frame.index, "--images", cohort.path).of
    found = named or files.find(folder, ids, "--images").of
    _note_links(cohort, folder, found, "--images")
    return {case: path for case, path in found.items() if isinstance(path, Path)}


def _note_links(cohort: Cohort, folder: Path, found: Mapping[str, MaskPath], option: str) -> None:
    if linked := files.linked_outside(folder, found):
        cohort.notes.append(
            f"{len(linked)} files of {option} are reached through symbolic links that lead out of the folder (such as "
            f"that of case {linked[0]})"
        )


def _reading(
    cohort: Cohort, folder: Path, truth: Mapping[str, MaskPath], own: Labels | None, theirs: Labels | None
) -> Reading:
    values = label_map.checked(own or structure_discovery.labels(cohort, truth, folder), "--labels")
    in_predictions = label_map.of_prediction(values)
    if theirs is None:
        return Reading(values, in_predictions)
    others = label_map.checked(theirs, "--pred-labels")
    if label_map.IGNORE in others:
        raise InputError(
            "--pred-labels: ignore is for the reference masks, or else a model would choose the pixels that count; "
            "give it in --labels, and what is no structure in predictions as background"
        )
    if differing := sorted(set(others) ^ set(in_predictions)):
        raise InputError(
            f"--pred-labels and --labels name different structures ({differing[0]!r} is in one alone); name the same "
            "in both, and what is in one alone background"
        )
    return Reading(values, {name: others[name] for name in in_predictions})

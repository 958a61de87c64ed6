"""An audit of masks, and an audit of a table of scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kneefair_jax.audit import (
    cases,
    equivalence_margin,
    files,
    label_errors,
    label_map,
    mask_alignment,
    pictures,
    result,
    score_table,
    scoring,
)
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.label_map import Labels
from kneefair_jax.audit.result import Audit, Settings
from kneefair_jax.audit.scoring import Reading, Scored
from kneefair_jax.data.readers import ORIENTATIONS
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import reference_ser
from kneefair_jax.report import notes
from kneefair_jax.report.notes import one_spacing
from kneefair_jax.report.text import formatting

ON_MISSING = ("stop", "skip", "zero")
type Folder = str | Path
_OBSERVED = ("true_pixels", "pred_pixels", "spacing")  # of `Scored`


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
        orientation: a name of `data.readers.ORIENTATIONS` that every predicted mask is laid out by, after its header.
        bins: attribute -> ascending edges, for numbers.
        split: the value of the table's column `split` to keep.
        images: folder of the radiographs to draw on, by case id or by the column `image`.
        on_missing: what to do with a case without a prediction: `stop` refuses it, `skip` leaves it out for every
            model (as it does a case without a reference mask), `zero` scores it as an empty mask.
        readers: a table of two readers, whose difference is the equivalence margin (`equivalence_margin.of_readers`).
        suspicious: the checkpoint whose masks of `images` the reference masks are compared with, for those that look
            wrong (`label_errors.table`); `auto` is the network that ships, "" compares nothing.
        settings: how the numbers are made; its `delta` goes before the readers'.

    Raises:
        InputError: something cannot be used; the message names file, row and remedy.
    """
    settings = settings or Settings()
    _check(settings, on_missing)
    if orientation not in ORIENTATIONS:
        raise InputError(f"--orientation {orientation!r}: give one of {', '.join(ORIENTATIONS)}")
    folders = (
        {name: Path(path) for name, path in pred.items()} if isinstance(pred, Mapping) else {"": Path(pred)}
    )
    cohort = cases.read(Path(metadata), attributes, bins or {}, split)
    true, predicted, cohort = _files(cohort, Path(truth), folders, on_missing)
    shown = _images(cohort, Path(images)) if images is not None else {}
    reading = _reading(cohort, Path(truth), true, labels, pred_labels)._replace(orientation=orientation)
    wrong = label_errors.table(cohort, true, shown, reading, suspicious) if suspicious else None
    if wrong is not None:
        cohort.notes.append(label_errors.note(wrong))
    tables, about, examples, by_size = {}, {}, {}, {}
    for model, paths in predicted.items():
        scored = scoring.over_cases(cohort, true, paths, reading)
        tables[model] = scoring.table(cohort, scored, reading.structures, model, split or "all")
        if tables[model]["dice"].isna().all():
            raise InputError(
                f"{truth}: no mask holds any of {', '.join(reading.structures)}; correct --labels"
            )
        cohort.notes.extend(_observations(cohort, scored, model))
        cohort.notes.extend(mask_alignment.notes(cohort, tables[model], true, paths, reading, model))
        spacing = one_spacing(one.spacing for one in scored)
        about[model] = {"fingerprint": scoring.fingerprint(cohort, scored), "spacing": spacing}
        about[model]["labels"] = label_map.described(reading.truth)
        examples[model] = pictures.views(tables[model], cohort, true, paths, shown, reading)
        apart = reference_ser.apart(tables[model], np.stack([one.spacing for one in scored]))
        by_size[model] = scoring.sizes(cohort, true, scored, reading, apart)
    if readers is not None:
        delta = equivalence_margin.of_readers(Path(readers), cohort, true, reading)
        settings = _with_readers(settings, delta, cohort)
    audit = result.audit(cohort, tables, reading.structures, settings, about, examples, by_size)
    return audit._replace(suspects=wrong)


def table(
    scores: Folder,
    attributes: Sequence[str],
    *,
    metadata: Folder | None = None,
    bins: Mapping[str, Sequence[float]] | None = None,
    split: str | None = None,
    on_missing: str = "stop",
    readers: Folder | None = None,
    settings: Settings | None = None,
) -> Audit:
    """Audits a table of scores by case, of any tool.

    Args:
        scores: CSV or parquet, long or wide (`score_table`).
        attributes: columns to report by, of this table or of `metadata`.
        metadata: a table of cases with the attributes.
        bins: attribute -> ascending edges, for numbers.
        split: the value of the column `split` to keep.
        on_missing: what to do with cases of `metadata` without scores: `stop` or `skip`.
        readers: a table of two readers' scores, whose difference is the equivalence margin.
        settings: how the numbers are made; its `delta` goes before the readers'.

    Raises:
        InputError: something cannot be used; the message names file, row and remedy.
    """
    settings = settings or Settings()
    _check(settings, on_missing)
    if on_missing == "zero":
        raise InputError(
            "--on-missing zero: an empty mask's distances are not known without masks; write its scores"
        )
    who = None if metadata is None else Path(metadata)
    given = score_table.read(Path(scores), who, attributes, bins or {}, split, on_missing)
    if readers is not None:
        delta = equivalence_margin.of_readers(Path(readers), given.cohort, {}, None)
        settings = _with_readers(settings, delta, given.cohort)
    return result.audit(given.cohort, given.tables, given.structures, settings, {}, {}, {})


def _check(settings: Settings, on_missing: str) -> None:
    if on_missing not in ON_MISSING:
        raise InputError(f"on_missing={on_missing!r}: give one of {', '.join(ON_MISSING)}")
    if settings.min_group_patients < 1 or settings.draws < 1:
        raise InputError("min_group_patients and draws count something: give 1 or more")


def _with_readers(settings: Settings, delta: Mapping[str, float], cohort: Cohort) -> Settings:
    """The readers' margins where none is stated; a note says which are whose."""
    theirs = {score: value for score, value in delta.items() if score not in settings.delta}
    if theirs:
        what = formatting.listing(formatting.margin(score, value, 4) for score, value in theirs.items())
        cohort.notes.append(f"the margin of equivalence is the mean difference between two readers: {what}")
    if stated := sorted(set(delta) & set(settings.delta)):
        cohort.notes.append(f"the margin of {formatting.listing(stated)} is the one stated, not the readers'")
    return settings._replace(delta={**delta, **settings.delta})


def _files(
    cohort: Cohort, truth: Path, folders: Mapping[str, Path], on_missing: str
) -> tuple[dict[str, Path], dict[str, dict[str, Path]], Cohort]:
    """Reference masks, predictions by model, and the cases that are left."""
    ids = list(cohort.frame["case_id"])
    true = files.listed(truth, dict(zip(ids, cohort.paths["mask"], strict=True)), "--truth", cohort.path)
    if not true.of:
        if (cohort.paths["mask"] != "").any():
            cohort.notes.append(
                f"no path of {cohort.path.name}'s column mask is below --truth, so masks were found by case_id"
            )
        true = files.find(truth, ids, "--truth")
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
    if true.extra:
        cohort.notes.append(_unlisted(true.extra, "reference mask", cohort))
    found = {model: files.find(folder, kept, "--pred") for model, folder in folders.items()}
    for model, folder in folders.items():
        of = f" by {model}" if model else ""
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
    return true.of, {model: files_of.of for model, files_of in found.items()}, cohort.of(kept)


def _unlisted(extra: Sequence[Path], what: str, cohort: Cohort) -> str:
    return f"left out, since no row of {cohort.path.name} is theirs: {len(extra)} x {what} (such as {extra[0].name})"


def _images(cohort: Cohort, folder: Path) -> dict[str, Path]:
    ids = list(cohort.frame["case_id"])
    paths = dict(zip(ids, cohort.paths["image"], strict=True))
    named = files.listed(folder, paths, "--images", cohort.path).of
    return named or files.find(folder, ids, "--images").of


def _reading(
    cohort: Cohort, folder: Path, truth: Mapping[str, Path], own: Labels | None, theirs: Labels | None
) -> Reading:
    values = label_map.checked(own or label_map.found(scoring.values_of(cohort, truth), folder), "--labels")
    if theirs is None:
        return Reading(values, values)
    others = label_map.checked(theirs, "--pred-labels")
    if differing := sorted(set(others) ^ set(values)):
        raise InputError(
            f"--pred-labels and --labels name different structures ({differing[0]!r} is in one alone); name the same "
            "in both, and what is in one alone background"
        )
    return Reading(values, {name: others[name] for name in values})


def _observations(cohort: Cohort, scored: Sequence[Scored], model: str) -> list[str]:
    """What is odd about a model's cases, though it can be scored."""
    of = f" by {model}" if model else ""
    given: dict[str, Any] = {name: np.array([getattr(one, name) for one in scored]) for name in _OBSERVED}

    def differ(stated: np.ndarray) -> bool:
        return bool(np.isfinite(stated).all() and not np.allclose(stated[0], stated[1], rtol=0.01))

    found = {
        f"the headers of reference mask and prediction{of} state different spacings in {{}}; the table's, or else the "
        "reference's, was taken": [differ(one.stated) for one in scored],
        f"the prediction{of} equals the reference mask pixel by pixel in {{}}; is it a copy?": [
            one.same and one.true_pixels > 0 for one in scored
        ],
    }
    told = notes.observations(cohort.frame, cohort.attributes, of=of, **given)
    return told + [
        text.format(notes.some(cohort.frame, chosen)) for text, chosen in found.items() if any(chosen)
    ]

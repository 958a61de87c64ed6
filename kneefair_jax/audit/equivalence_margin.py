"""Determine the equivalence margin of each score: stated, or from the mean difference between two readers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from kneefair_jax.audit import files, score_table, scoring
from kneefair_jax.audit.cases import Cohort
from kneefair_jax.audit.mask_pair import Reading
from kneefair_jax.audit.options import CaseOptions, Settings
from kneefair_jax.data import cell_text, identifiers, label_map, metadata, typed_tables
from kneefair_jax.data.mask_files import MaskSource
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import patient_table
from kneefair_jax.fairness.equivalence import MIN_READER_PATIENTS, ReaderAgreement, reader_agreement
from kneefair_jax.report.text import formatting

_REMEDY = "state a margin with --equivalence-margin dice=MARGIN in place of --readers"


def parse(words: Sequence[str]) -> dict[str, float]:
    """Parse `["dice=0.01"]` to score -> margin.

    Raises:
        InputError: a word does not have this form, or the margin is out of range.
    """
    margins: dict[str, float] = {}
    for word in words:
        score, _, text = word.partition("=")
        try:
            margins[score] = cell_text.parse_number(text)
        except ValueError:
            margins[score] = float("nan")
        if score not in patient_table.SCORES or not 0 < margins[score] < float("inf"):
            raise InputError(
                f"--equivalence-margin {word!r}: write score=margin, such as dice=0.01; scores: "
                f"{', '.join(patient_table.SCORES)}"
            )
        if margins[score] >= 1 and not score.endswith("_mm"):
            raise InputError(
                f"--equivalence-margin {word!r}: {score} is between 0 and 1, so every gap would count as none"
            )
    return margins


def of_readers(
    path: Path,
    cohort: Cohort,
    truth: Mapping[str, MaskSource],
    reading: Reading | None,
    allow_similar: bool = False,
    failure_dice: float = patient_table.FAILURE_DICE,
) -> dict[str, ReaderAgreement]:
    """Return the agreement of two readers over the patients whom both read, by score.

    A patient's difference is the mean over the cases that both read of the first reader's score minus the second's;
    the first reader is the one named first in the table.

    Args:
        path: a table with a column `reader` of two names; either scores as in `score_table`, or `case_id` and `mask`,
            the path of the reader's mask below the table's folder, which is scored against the truth. Pixels of
            readers' masks that the labels call ignore are excluded like those of the truth.
        cohort: the audited cases; other cases are ignored.
        truth: case id -> reference mask; empty in an audit of scores.
        reading: of the masks; None in an audit of scores.
        allow_similar: whether identifiers may look like those of the audited cases.
        failure_dice: Dice below which a segmentation counts as failed (`patient_table.macro`).

    Returns:
        Score -> agreement, of the scores that both readers have in `MIN_READER_PATIENTS` patients or more, `dice`
        among them. `margin` is 0 if the differences of another score cancel, which gives no margin.

    Raises:
        InputError: the table cannot be used, there are not two readers of the same cases, they read too few patients,
            or their Dice is equal in every patient.
    """
    text, names = _readings(path, cohort, allow_similar)
    if "mask" in text:
        if reading is None:
            raise InputError(
                f"{path}: lists masks, and an audit of scores has no truth to score them by; give scores"
            )
        long = _score_masks(path, text, names, cohort, truth, reading)
    else:
        scores = score_table.read_scores(text.assign(model=text["reader"]), path)[0]
        long = scores.merge(cohort.frame[["case_id", "patient_id"]], on="case_id")
    differences = {score: _by_patient(long, names, score, failure_dice) for score in patient_table.SCORES}
    return _agreements(differences, path, names)


def _readings(path: Path, cohort: Cohort, allow_similar: bool) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of the audited cases as text, and the names of the two readers."""
    text = typed_tables.read_as_text(path)[0].cells
    if missing := {"reader", "case_id"} - set(text):
        raise InputError(
            f"{path}: column {sorted(missing)[0]!r} is missing; there are: {', '.join(text.columns)}"
        )
    _check_identifiers(text, path, cohort, allow_similar)
    text = text[text["case_id"].isin(cohort.frame["case_id"])]
    names = list(dict.fromkeys(text["reader"]))
    if len(names) != 2 or "" in names:
        content = (
            f"has {len(names)} readers of the audited cases" if names else "has none of the audited cases"
        )
        raise InputError(f"{path}: {content}; give two readers of these cases, named in the column reader")
    return text, names


def _agreements(
    differences: Mapping[str, np.ndarray], path: Path, names: Sequence[str]
) -> dict[str, ReaderAgreement]:
    """Return score -> agreement, of score -> difference of each patient; refuse differences that give no margin."""
    if not (patients := len(differences["dice"])):
        raise InputError(f"{path}: no case was read by both {names[0]!r} and {names[1]!r}")
    if patients < MIN_READER_PATIENTS:
        raise InputError(
            f"{path}: both readers have a dice in {patients} of the audited patients, and a margin needs "
            f"{MIN_READER_PATIENTS}; {_REMEDY}"
        )
    agreements = {
        score: reader_agreement(values)
        for score, values in differences.items()
        if len(values) >= MIN_READER_PATIENTS
    }
    if not differences["dice"].any():
        raise InputError(f"{path}: the two readers have the same dice in every patient; {_REMEDY}")
    return agreements


def _score_masks(
    path: Path,
    text: pd.DataFrame,
    names: Sequence[str],
    cohort: Cohort,
    truth: Mapping[str, MaskSource],
    reading: Reading,
) -> pd.DataFrame:
    """Score the masks of two readers in the cases that both read; return the long table with readers as models."""
    masks = {name: _masks(path, text[text["reader"] == name]) for name in names}
    common = [case for case in masks[names[0]] if case in masks[names[1]]]
    if not common:
        raise InputError(f"{path}: no case was read by both {names[0]!r} and {names[1]!r}")
    cases, reading = cohort.of(common), _reading_of_readers(reading)
    results = scoring.score_cases(cases, truth, masks, reading, are_readers=True)
    return pd.concat([scoring.table(cases, results, reading.scored, name, "all") for name in names])


def _by_patient(long: pd.DataFrame, names: Sequence[str], score: str, failure_dice: float) -> np.ndarray:
    """Return the first reader's score minus the second's, f64[P], a mean over the cases of a patient that both read."""
    by_reader = pd.DataFrame(
        {name: patient_table.macro(long[long["model"] == name], score, failure_dice) for name in names}
    )
    patients = long.groupby("case_id")["patient_id"].first()
    differences = (by_reader[names[0]] - by_reader[names[1]]).dropna()
    means: np.ndarray = differences.groupby(patients[differences.index]).mean().to_numpy(float)
    return means


def _check_identifiers(text: pd.DataFrame, path: Path, cohort: Cohort, allow_similar: bool) -> None:
    """Refuse case ids that look like another one, of this table or of the audited cases, and would be skipped."""
    cells = dict(text["case_id"].items())
    problems = identifiers.spoiled(cells, "case_id", allow_similar)
    if not allow_similar:
        problems += identifiers.similar(cells, "case_id", "case", "--allow-similar-ids")
        row_of = {case: row for row, case in cells.items()}
        problems += [
            (
                row_of[case],
                f"case_id {case!r} looks like {audited!r} of the audited cases; write them alike, or give "
                "--allow-similar-ids",
            )
            for audited, case in identifiers.across(list(cohort.frame["case_id"]), list(row_of))
        ]
    metadata.refuse(path, problems)


def _reading_of_readers(reading: Reading) -> Reading:
    """Ignore in readers' masks what the reference masks ignore, unless it is a structure of the predictions."""
    used = {value for values in reading.prediction.values() for value in values}
    ignored = tuple(value for value in reading.truth.get(label_map.IGNORE, ()) if value not in used)
    return (
        reading._replace(prediction={**reading.prediction, label_map.IGNORE: ignored}) if ignored else reading
    )


def _masks(path: Path, text: pd.DataFrame) -> dict[str, Path]:
    """Return case id -> mask of one reader, by the rows of the table."""
    problems: list[metadata.Problem] = []
    metadata.check_identifiers(text, problems, ("case_id", "mask"))
    paths = dict(zip(text["case_id"], text["mask"], strict=True))
    rows = text.drop_duplicates("case_id", keep="first").index
    masks = files.find_by_paths(path.parent, paths, rows, "the folder of --readers", path, beside_table=False)
    for row, case, name in zip(text.index, text["case_id"], text["mask"], strict=True):
        if case not in masks:
            problems.append((row, f"mask {path.parent / name}: no such file"))
    metadata.refuse(path, problems)
    return masks


def notes(
    agreements: Mapping[str, ReaderAgreement],
    margins: Mapping[str, float],
    stated_margins: Mapping[str, float],
) -> list[str]:
    """Return notes on the origin of each margin, and on the scores for which the readers give none.

    Args:
        agreements: score -> agreement of the two readers.
        margins: score -> margin of the readers, where there is one.
        stated_margins: score -> margin.
    """
    texts = []
    if from_readers := [score for score in margins if score not in stated_margins]:
        text = formatting.listing(formatting.margin(score, margins[score]) for score in from_readers)
        texts.append(
            f"the equivalence margin comes from two readers, the end of the interval of their mean difference that is "
            f"nearest to zero: {text}"
        )
    if without := [
        score
        for score, agreement in agreements.items()
        if not agreement.margin and score not in stated_margins
    ]:
        text = formatting.listing(
            f"{formatting.TITLES[score]} (95 % interval {formatting.interval(agreements[score].interval, 4)})"
            for score in without
        )
        texts.append(
            f"the readers' mean difference is not distinguishable from zero in {text}, so it gives no margin; state "
            f"one with --equivalence-margin {without[0]}=MARGIN"
        )
    if stated := sorted(set(margins) & set(stated_margins)):
        texts.append(f"the margin of {formatting.listing(stated)} is the one stated, not the readers'")
    return texts


def with_readers(
    settings: Settings,
    options: CaseOptions,
    cohort: Cohort,
    truth: Mapping[str, MaskSource],
    reading: Reading | None,
) -> Settings:
    """Return the settings with the readers' margins where none is stated."""
    if options.readers is None:
        return settings
    agreements = of_readers(
        Path(options.readers),
        cohort,
        truth,
        reading,
        options.allow_similar_ids,
        settings.endpoints.failure_dice,
    )
    margins = {score: agreement.margin for score, agreement in agreements.items() if agreement.margin}
    cohort.notes.extend(notes(agreements, margins, settings.equivalence_margin))
    return settings._replace(
        equivalence_margin={**margins, **settings.equivalence_margin}, readers=agreements
    )

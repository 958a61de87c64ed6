"""`GroupReport`: the fairness numbers of scores in memory.

This module and `model_report` are the front door of the package. Their numbers are those of `audit.table`, so they
import the audit; no other module of the package imports them.
"""

import html
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kneefair_jax import audit
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import patient_table
from kneefair_jax.fairness.endpoints import EndpointSettings
from kneefair_jax.fairness.family import Primary
from kneefair_jax.fairness.results import Estimate
from kneefair_jax.report import csv_tables, page
from kneefair_jax.report.figures import forest
from kneefair_jax.report.schema import Report, Scores
from kneefair_jax.report.text import findings
from kneefair_jax.report.text.formatting import (
    TITLES,
    AttributeGroups,
    attribute_groups,
    interval,
    number,
    p_equals,
)
from kneefair_jax.runtime import atomic

type Frame = pd.DataFrame | Mapping[str, Any]

# The audit's messages name command-line options; here they name parameters.
_PARAMETERS = {
    "--attributes": "by=",
    "--bins": "bins=",
    "--failure-dice": "failure_dice",
    "--primary ": "score=",
    "--draws": "draws",
    "--allow-similar-ids": "allow_similar_ids=True",
    "choose one with --split": "select the rows of one split",
    "add their rows, or exclude these cases for all models with --on-missing skip": "add these cases, or drop them "
    "from every frame",
}
# No more lines than a notebook's output shows at a glance.
REPR_ROWS = 6
_REPR_LINES = 10
_NOTE_WIDTH = 110


class GroupReport:
    """Scores by group, with intervals, gaps and tests over patients.

        report = GroupReport(frame, score="dice", by=["sex", "race"], patient="patient_id")
        report.by_group, report.summaries, report.pairs, report.tests

    Attributes:
        score: the score of the tables.
        by: the attributes.
        overall: the mean over all patients.
        by_group: a row per structure, attribute and group: `patients`, `cases`, `mean`, `low`, `high` (95 %), `ranked`.
        summaries: a row per structure and attribute: `gap` with its ends, `patients` of the ranked groups, then
            `worst_group`, `sd`, `ser`, ... with their ends, warnings.
        pairs: a row per structure, attribute and pair of groups: `difference`, its ends, `p`, `p_holm`.
        tests: a row per structure and attribute: the test of equal means, `p`, `p_holm` (over the primary family: means
            and failure rates of all attributes), `p_bh` (over structures and attributes).
        rates: a row per endpoint, structure and group: failed segmentations and thresholds, `count`, `rate`, its ends.
        notes: how the table was read, and what limits the numbers.
    """

    def __init__(  # keyword-only options with defaults
        self,
        frame: Frame,
        score: str = "dice",
        by: str | Sequence[str] = (),
        *,
        patient: str | None = None,
        case: str | None = None,
        bins: Mapping[str, Sequence[float]] | None = None,
        equivalence_margin: float | None = None,
        failure_dice: float = patient_table.FAILURE_DICE,
        min_group_patients: int = 10,
        draws: int = 10_000,
        seed: int = 0,
        allow_similar_ids: bool = False,
    ):
        """Check the table and compute all numbers.

        Args:
            frame: long (`structure`, `dice`, ..., a row per case and structure), or wide (`dice_femur`,
                `hd95_mm_femur`, or one `dice`; a row per case), or a mapping of column -> array. NaN means that the
                structure is absent from ground truth and prediction.
            score: one of `patient_table.SCORES`. Every other score needs `dice` beside it, which counts failed
                segmentations.
            by: columns to group by.
            patient: the column of the patient, whose cases are one observation. None for `patient_id` if there is
                such a column, else each case is a patient.
            case: the column of the case. None for `case_id` if there is such a column, else each row is a case.
            bins: attribute -> ascending edges, for numbers.
            equivalence_margin: of the score, in its unit.
            failure_dice: Dice below which a segmentation counts as failed.
            min_group_patients: smaller groups are shown but not ranked.
            draws: permutations.
            seed: of the permutations; the same table and seed give the same numbers. Rows in another order change p
                values of permutations, and intervals from them, by Monte Carlo error.
            allow_similar_ids: whether identifiers and levels may look alike, such as 7 and 0007.

        Raises:
            InputError: the table cannot be used, or has several models. Rows are counted from 0.
        """
        require_score(score)
        self.score = score
        self.by = (by,) if isinstance(by, str) else tuple(map(str, by))
        settings = audit.Settings(
            min_group_patients=min_group_patients,
            draws=draws,
            seed=seed,
            equivalence_margin={} if equivalence_margin is None else {score: equivalence_margin},
            endpoints=EndpointSettings(failure_dice=failure_dice),
            primary=Primary(score),
        )
        options = audit.CaseOptions(bins or {}, allow_similar_ids=allow_similar_ids)
        self._audit = audit_table(identified(frame, patient, case), self.by, options, settings)
        if len(self._audit.reports) > 1:
            raise InputError(
                f"frame: has the models {', '.join(self._audit.reports)}; select the rows of one, or give "
                "fairness.compare a frame for each model"
            )
        report = page.plain(self._audit.report)
        if score not in report["scores"]:
            raise InputError(f"score={score!r}: every cell is empty, or there is no such column")
        self._report: Report = report

    @property
    def overall(self) -> Estimate:
        """The mean over all patients."""
        entry = self._report["scores"][self.score]["overall"]
        interval = (entry["interval"][0], entry["interval"][1]) if entry["interval"] else None
        return Estimate(entry["mean"], interval, entry["patients"])

    @property
    def by_group(self) -> pd.DataFrame:
        """Means by group."""
        table = self._table("groups.csv")
        return table[table["attribute"] != ""].reset_index(drop=True)

    @property
    def summaries(self) -> pd.DataFrame:
        """Gaps and other summaries by attribute."""
        return self._table("summaries.csv")

    @property
    def pairs(self) -> pd.DataFrame:
        """Differences between groups."""
        return self._table("pairs.csv")

    @property
    def tests(self) -> pd.DataFrame:
        """Tests of equal means by attribute."""
        table = self.summaries
        table = table[table["test"].notna()].reset_index(drop=True)
        return table[
            ["structure", "attribute", "test", "statistic", "p", "p_holm", "p_bh", "rank_test", "rank_p"]
        ]

    @property
    def rates(self) -> pd.DataFrame:
        """Rates of failed segmentations and of other endpoints by group, with exact intervals."""
        table = pd.DataFrame(csv_tables.rows(self._report)["rates.csv"])
        table = table[table["cohort"] == "test"].drop(columns="cohort")
        # If there is one score per case, the structure `ALL_STRUCTURES` repeats the same rows.
        return table.drop_duplicates(["endpoint", "structure", "attribute", "group"]).reset_index(drop=True)

    @property
    def notes(self) -> list[str]:
        """How the table was read, and what limits the numbers."""
        return list(self._audit.notes)

    def plot(self) -> Figure:
        """Draw the means by group with their intervals, over all structures and for each structure."""
        scores = self._report["scores"][self.score]
        figure = forest.means_figure(
            scores, attribute_groups(scores["groups"], self.by), self._report["pooled"]
        )
        for axes in figure.axes:
            axes.set_xlabel(f"mean {TITLES[self.score]}")
        return figure

    def to_dict(self) -> Report:
        """Return the numbers as plain Python: `report.json`, schema 2."""
        return self._report

    def to_html(self, path: str | Path) -> Path:
        """Write the page, which needs no other file, and return its path."""
        text = page.page(self._report, self._audit.cases, [], [], files=())
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return atomic.write_text(Path(path), text)

    def __repr__(self) -> str:
        overall = self.overall
        lines = [
            f"GroupReport of {score_label(self.score)}: {number(overall.estimate)} "
            f"{interval(overall.interval)}, {overall.n} patients"
        ]
        failure = self._report["rates"]["endpoints"]["failure"]
        if failure["count"]:
            lines.append(f"  failed segmentations: {failure['count']} patients (.rates)")
        scores = self._report["scores"][self.score]
        attributes = [
            groups
            for groups in attribute_groups(scores["groups"], self.by)
            if groups.key in scores["summaries"]
        ]
        lines += [f"  {groups.key}: {_gap_text(scores, groups)}" for groups in attributes[:REPR_ROWS]]
        if len(attributes) > REPR_ROWS:
            lines.append(f"  and {len(attributes) - REPR_ROWS} more: .summaries")
        room = _REPR_LINES - len(lines)
        notes = self.notes if len(self.notes) <= room else self.notes[: room - 1]
        lines += [f"  note: {textwrap.shorten(note, _NOTE_WIDTH, placeholder=' ...')}" for note in notes]
        if len(notes) < len(self.notes):
            lines.append(f"  and {len(self.notes) - len(notes)} more notes: .notes")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        table = self.by_group
        table = table[table["structure"] == patient_table.ALL_STRUCTURES].drop(columns="structure")
        return f"<pre>{html.escape(repr(self))}</pre>{table.to_html(index=False)}"

    def _table(self, name: str) -> pd.DataFrame:
        return score_rows(self._report, name, self.score)


def score_label(score: str) -> str:
    """Return the score's name with its direction if lower is better, `hd95_mm (lower is better)`."""
    return f"{score} (lower is better)" if score in patient_table.LOWER_IS_BETTER else score


def _gap_text(scores: Scores, groups: AttributeGroups) -> str:
    """Return the gap of an attribute over all patients, and that without failures, with their directions.

    The direction without failures is omitted where it is that of all patients.
    """
    summary = scores["summaries"][groups.key]
    if summary["gap"]["value"] is None:
        return "no gap (fewer than two groups are ranked)"
    rows = scores["groups"]
    ranked = sorted(
        (name for name in groups.labels if rows[name]["ranked"] and rows[name]["mean"] is not None),
        key=lambda name: rows[name]["mean"],
    )
    direction = _direction(ranked[-1], ranked[0], summary["gap"]["value"], groups)
    text = f"gap {number(summary['gap']['value'])} {interval(summary['gap']['interval'])}{direction}; without failures "
    p, correction = findings.corrected_p(summary)
    if p is None:
        return f"{text}not tested"
    pair = max(summary["pairs"], key=lambda pair: abs(pair["difference"] or 0.0))
    tested_direction = _direction(pair["first"], pair["second"], pair["difference"], groups)
    tested = findings.gap_without_failures(summary)
    text += f"{number(tested['value'])} {interval(tested['interval'])}"
    text += tested_direction if tested_direction != direction else ""
    p_text = f"corrected {p_equals(p)}" if correction else f"{p_equals(p)}, not corrected"
    return f"{text}, {p_text}"


def _direction(first: str, second: str, difference: float, groups: AttributeGroups) -> str:
    """Return ` (female higher than male)` for a difference of the first group minus the second; "" for none."""
    if not difference:
        return ""
    higher, lower = (first, second) if difference > 0 else (second, first)
    return f" ({groups.labels[higher]} higher than {groups.labels[lower]})"


def require_score(score: str) -> None:
    """Refuse a score that is not compared by group."""
    if score not in patient_table.SCORES:
        raise InputError(f"score={score!r}: give one of {', '.join(patient_table.SCORES)}")


def audit_table(
    table: pd.DataFrame, by: Sequence[str], options: audit.CaseOptions, settings: audit.Settings
) -> audit.Audit:
    """Return `audit.table` of a table, with messages that name parameters."""
    try:
        return audit.table(table, by, options=options, settings=settings)
    except InputError as error:
        raise InputError(with_parameters(error)) from error


def with_parameters(error: InputError) -> str:
    """Return the message with parameters in place of command-line options."""
    message = str(error)
    for option, parameter in _PARAMETERS.items():
        message = message.replace(option, parameter)
    return message


def score_rows(report: Report, name: str, score: str) -> pd.DataFrame:
    """Return the rows of one score of a CSV table of a report."""
    table = pd.DataFrame(csv_tables.rows(report)[name])
    if table.empty:
        return table
    table = table[table["score"] == score]
    return table.drop(columns=["cohort", "score"]).reset_index(drop=True)


def identified(frame: Frame, patient: str | None, case: str | None) -> pd.DataFrame:
    """Return the frame with the columns `case_id` and, if patients are known, `patient_id`."""
    try:
        table = pd.DataFrame(frame)
    except ValueError as error:
        raise InputError(f"frame: {error}; give a DataFrame, or arrays of one length by column") from error
    if table.columns.nlevels > 1:
        raise InputError("frame: its columns have several levels; give them one, such as dice_femur")
    if isinstance(frame, pd.DataFrame):
        table = table.reset_index([name for name in table.index.names if name is not None])
    for parameter, name, role in (("case", case, "case_id"), ("patient", patient, "patient_id")):
        if name is not None and name not in table:
            raise InputError(
                f"{parameter}={name!r}: no such column; there are: {', '.join(map(str, table.columns))}"
            )
        if name not in (None, role):
            table = table.drop(columns=role, errors="ignore").rename(columns={name: role})
    if "case_id" not in table:
        if "structure" in table:
            raise InputError("frame: has a row per structure but no column of cases; name one with case=")
        table = table.assign(case_id=[str(row) for row in range(len(table))])
    repeated = np.flatnonzero(table.duplicated("case_id"))
    if len(repeated) and not {"structure", "model"} & set(table.columns):
        raise InputError(
            f"frame row {repeated[0]}: case {table['case_id'].iloc[repeated[0]]!r} has an earlier row, and there is no "
            "column structure; add it to a table with a row per case and structure, or give each case one row"
        )
    return table

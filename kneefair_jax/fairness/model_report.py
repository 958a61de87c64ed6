"""`compare`: several models on the same patients, from scores in memory."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kneefair_jax import audit
from kneefair_jax.audit import score_table
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import family, group_report, patient_table
from kneefair_jax.fairness.endpoints import EndpointSettings
from kneefair_jax.fairness.family import Primary
from kneefair_jax.fairness.group_report import REPR_ROWS, Frame
from kneefair_jax.fairness.patient_table import ALL_STRUCTURES
from kneefair_jax.report import page
from kneefair_jax.report.figures import svg
from kneefair_jax.report.text.formatting import TITLES, interval, number, p_equals, signed

_REMEDY = 'Give the column that names a case in every frame: case="..."'


@dataclass(frozen=True, eq=False, repr=False)
class ModelComparison:
    """Several models on the same patients: their means by group, and paired changes of the mean and of the gap.

    Attributes:
        score: the score of the tables.
        models: names, in the order given.
        by: the attributes.
        by_group: a row per model, attribute and group, over all structures: `patients`, `cases`, `mean`, `low`, `high`
            (95 %), `ranked`.
        changes: a row per pair of models and attribute, `second` minus `first`: `patients` with a score by
            both, `gap_patients`, those of the ranked groups; `first_mean`, `second_mean`, `mean_change`, its ends,
            `mean_p` and `mean_p_holm` (over pairs of models); `first_gap`, `second_gap`, `gap_change`, its ends,
            `gap_p` and `gap_p_holm` (over pairs of models and attributes). A negative change narrows the gap. In a
            distance, where lower is better, a negative change of the mean is an improvement.
        changes_by_group: a row per pair of models, attribute and group: `patients`, the means `first_mean` and
            `second_mean` over the same patients, `change`, and its ends `low` and `high` (95 %, not corrected).
        notes: how the tables were read, and what limits the numbers.
    """

    score: str
    models: tuple[str, ...]
    by: tuple[str, ...]
    by_group: pd.DataFrame
    changes: pd.DataFrame
    changes_by_group: pd.DataFrame
    notes: tuple[str, ...]
    _models: dict[str, Any] = field(default_factory=dict)

    def plot(self) -> Figure:
        """Draw the changes of the mean and of the gap with their intervals, a row per pair of models and attribute."""
        rows = self.changes
        labels = [
            svg.Row(str(k), f"{row.second} minus {row.first}, {row.attribute}")
            for k, row in enumerate(rows.itertuples())
        ]
        with svg.style():
            figure = Figure(figsize=(svg.WIDTH, svg.ROW * len(rows) + 1), layout="constrained")
            panels = figure.subplots(1, 2, sharey=True)
            for axes, quantity in zip(panels, ("mean", "gap"), strict=True):
                svg.value_axis(axes, 3)
                axes.axvline(0, color=svg.MUTED, linewidth=0.9)
                changes = rows[f"{quantity}_change"].to_numpy(float)
                low, high = (rows[f"{quantity}_{end}"].to_numpy(float) for end in ("low", "high"))
                axes.hlines(np.arange(len(rows)), low, high, color=svg.ACCENT, linewidth=1.6)
                axes.plot(changes, np.arange(len(rows)), "o", color=svg.ACCENT, markersize=5)
                axes.set_xlabel(f"change of the {quantity} of {TITLES[self.score]}")
            svg.label_rows(panels[0], labels)
        return figure

    def to_dict(self) -> dict[str, Any]:
        """Return the paired comparisons as plain Python: `models` of `report.json`, schema 2."""
        return self._models

    def __repr__(self) -> str:
        lines = [f"ModelComparison of {group_report.score_label(self.score)}: {', '.join(self.models)}"[:120]]
        for row in self.changes.head(REPR_ROWS).itertuples():
            mean = f"mean {signed(row.mean_change)} {interval([row.mean_low, row.mean_high])}"
            gap = "no gap (fewer than two groups are ranked)"
            if not pd.isna(row.gap_change):
                ends = interval([row.gap_low, row.gap_high])
                p = "" if pd.isna(row.gap_p_holm) else f", corrected {p_equals(row.gap_p_holm)}"
                gap = f"gap {number(row.first_gap)} to {number(row.second_gap)}, {signed(row.gap_change)} {ends}{p}"
            lines.append(f"  {row.second} minus {row.first}, {row.attribute}: {mean}; {gap}")
        if len(self.changes) > REPR_ROWS:
            lines.append(f"  and {len(self.changes) - REPR_ROWS} more: .changes")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return str(self.changes.to_html(index=False))


def compare(  # keyword-only options with defaults
    frames: Mapping[str, Frame],
    by: str | Sequence[str] = (),
    *,
    score: str = "dice",
    patient: str | None = None,
    case: str | None = None,
    bins: Mapping[str, Sequence[float]] | None = None,
    failure_dice: float = patient_table.FAILURE_DICE,
    min_group_patients: int = 10,
    draws: int = 10_000,
    seed: int = 0,
    allow_similar_ids: bool = False,
) -> ModelComparison:
    """Compare several models on the same patients, paired, as an audit of several models does.

        comparison = compare({"erm": frame_a, "dro": frame_b}, by=["sex"], score="dice")
        comparison.by_group, comparison.changes

    Args:
        frames: model -> a table as `GroupReport` takes it, all of the same cases. Tables without a column of cases are
            paired by patient if each has one row, else by the index, which may be the row's number.
        by: columns to group by.
        score: as for `GroupReport`: one of `patient_table.SCORES`, with `dice` beside it.
        patient: as for `GroupReport`.
        case: as for `GroupReport`.
        bins: attribute -> ascending edges, for numbers.
        failure_dice: Dice below which a segmentation counts as failed.
        min_group_patients: smaller groups take no part in a gap.
        draws: permutations, bootstrap resamples and swaps.
        seed: of all three.
        allow_similar_ids: whether identifiers and levels may look alike, such as 7 and 0007.

    Raises:
        InputError: there are fewer than two tables, one cannot be used, or they differ in their cases. The message
            names the model; rows are counted from 0.
    """
    if not isinstance(frames, Mapping) or len(frames) < 2:
        raise InputError(
            "frames: give two models or more, as model -> table; GroupReport describes a single one"
        )
    group_report.require_score(score)
    attributes = (by,) if isinstance(by, str) else tuple(map(str, by))
    options = audit.CaseOptions(bins or {}, allow_similar_ids=allow_similar_ids)
    tables = _identified(frames, patient, case)
    for model, table in tables.items():
        with _named(model):
            (cases,) = score_table.read(table, None, attributes, options).tables.values()
            family.require_measured(Primary(score), cases, f"frames[{model!r}]: --primary")
    settings = audit.Settings(
        min_group_patients=min_group_patients,
        draws=draws,
        seed=seed,
        endpoints=EndpointSettings(failure_dice=failure_dice),
        primary=Primary(score),
    )
    result = group_report.audit_table(
        pd.concat([table.assign(model=str(model)) for model, table in tables.items()], ignore_index=True),
        attributes,
        options,
        settings,
    )
    comparison = page.plain(result.report["models"])
    return ModelComparison(
        score=score,
        models=tuple(result.reports),
        by=attributes,
        by_group=_by_group(result, score),
        changes=pd.DataFrame([_change_row(pair) for pair in comparison["pairs"]]),
        changes_by_group=pd.DataFrame(
            [row for pair in comparison["pairs"] for row in _group_change_rows(pair)]
        ),
        notes=tuple(result.notes),
        _models=comparison,
    )


def _identified(
    frames: Mapping[str, Frame], patient: str | None, case: str | None
) -> dict[str, pd.DataFrame]:
    """Return each model's table with `case_id`, paired by patient or index where no frame names its cases."""
    tables = {}
    for model, frame in frames.items():
        with _named(model):
            tables[model] = group_report.identified(frame, patient, case)
            if "model" in tables[model]:
                raise InputError("frame: has a column 'model'; drop it")
    unnamed = [model for model, frame in frames.items() if case is None and not _has_cases(frame)]
    if not unnamed:
        return tables
    if len(unnamed) < len(frames):
        raise InputError(f"frames[{unnamed[0]!r}]: has no column of cases; name one in each frame. {_REMEDY}")
    return paired(tables, {model: pd.DataFrame(frame).index for model, frame in frames.items()})


def _by_group(result: audit.Audit, score: str) -> pd.DataFrame:
    """Return the means over all structures, a row per model, attribute and group."""
    group_rows = []
    for model, report in result.reports.items():
        rows = group_report.score_rows(page.plain(report), "groups.csv", score)
        rows = rows[(rows["structure"] == ALL_STRUCTURES) & (rows["attribute"] != "")].drop(
            columns="structure"
        )
        rows.insert(0, "model", model)
        group_rows.append(rows)
    return pd.concat(group_rows, ignore_index=True)


def paired(tables: Mapping[str, pd.DataFrame], indexes: Mapping[str, pd.Index]) -> dict[str, pd.DataFrame]:
    """Return tables without cases with equal `case_id` in rows of one patient, or else of one index.

    Args:
        tables: model -> table with a row per case, as `group_report.identified` returns it.
        indexes: model -> the index of the frame.

    Raises:
        InputError: patients or indexes differ between tables, or their order differs and one repeats.
    """
    has_patients = all("patient_id" in table for table in tables.values())
    by_patient = has_patients and all(table["patient_id"].is_unique for table in tables.values())
    name = "patient" if by_patient else "index"
    identifiers = {
        model: [str(key) for key in (table["patient_id"] if by_patient else indexes[model])]
        for model, table in tables.items()
    }
    first, *later_models = tables
    expected = identifiers[first]
    first_keys = set(expected)
    for model in later_models:
        keys = identifiers[model]
        differing = sorted(first_keys ^ set(keys))
        if differing:
            raise InputError(
                f"frames[{first!r}] and frames[{model!r}]: only one has {name} {differing[0]!r}. {_REMEDY}"
            )
        if keys != expected and len(first_keys) < max(len(expected), len(keys)):
            raise InputError(
                f"frames[{first!r}] and frames[{model!r}]: the {name} repeats, in another order. {_REMEDY}"
            )
    is_unique = len(first_keys) == len(expected)
    result = {
        model: table.assign(case_id=identifiers[model]) if is_unique else table
        for model, table in tables.items()
    }
    if has_patients:
        patients = {
            model: table.set_index("case_id")["patient_id"].astype(str) for model, table in result.items()
        }
        for model in later_models:
            rows = np.flatnonzero(patients[first] != patients[model].reindex(patients[first].index))
            if len(rows):
                raise InputError(
                    f"frames[{first!r}] row {rows[0]}: patient {patients[first].iloc[rows[0]]!r} is not the patient "
                    f"of that {name} in frames[{model!r}]. {_REMEDY}"
                )
    return result


def _has_cases(frame: Frame) -> bool:
    return "case_id" in frame or (isinstance(frame, pd.DataFrame) and "case_id" in frame.index.names)


@contextlib.contextmanager
def _named(model: str) -> Iterator[None]:
    """Let messages name the model's frame and parameters."""
    try:
        yield
    except InputError as error:
        message = group_report.with_parameters(error)
        raise InputError(re.sub(r"^frame\b", f"frames[{model!r}]", message)) from error


def _change_row(pair: Mapping[str, Any]) -> dict[str, Any]:
    mean, gap = pair["change_of_mean"], pair["change_of_gap"]
    row = {key: pair[key] for key in ("first", "second", "attribute", "patients")}
    row["gap_patients"] = gap["patients"]
    for quantity, change in (("mean", mean), ("gap", gap)):
        low, high = change["interval"] or (None, None)
        row |= {
            f"first_{quantity}": change["first"],
            f"second_{quantity}": change["second"],
            f"{quantity}_change": change["value"],
            f"{quantity}_low": low,
            f"{quantity}_high": high,
            f"{quantity}_p": change["p"],
            f"{quantity}_p_holm": change["p_holm"],
        }
    return row


def _group_change_rows(pair: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for change in pair["change_by_group"]:
        low, high = change["interval"] or (None, None)
        yield {
            **{key: pair[key] for key in ("first", "second", "attribute")},
            "group": change["group"],
            "patients": change["patients"],
            "first_mean": change["first"],
            "second_mean": change["second"],
            "change": change["value"],
            "low": low,
            "high": high,
        }

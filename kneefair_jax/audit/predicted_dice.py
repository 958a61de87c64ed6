"""Predicted Dice of `kneefair predict` in an audit: beside measured scores, or instead of them.

Without reference masks, the audit compares the predicted Dice of groups. With them, it says by group how often the Dice
lies outside of the predicted interval, and how wrong the prediction is on average.

A prediction is not trusted where `predict` warns that film or mask may not be of one knee from the front (column
`dice_trusted`). It enters no mean; its patients are counted. A low predicted Dice alone is trusted.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax.audit.result import Audit
from kneefair_jax.data import cell_text, readers, typed_tables
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import predicted_scores
from kneefair_jax.predict.areas import AREAS
from kneefair_jax.report.text import formatting

DICE = ("predicted_dice", "predicted_dice_low", "predicted_dice_high")
TITLE = "Predicted Dice by group, without reference masks"
WARNING = "The Dice is predicted by the network for its own masks, not measured with reference masks."
# A structure with wider intervals says little, such as the fibula of the shipped network.
MAX_WIDTH = 0.5
NOTE = (
    "all scores are predicted Dice of masks without reference masks. A gap between groups is a gap in what the "
    "network expects of its masks: it shows a gap in quality only if the prediction is equally right for these "
    "groups, which an audit of cases with reference masks tests (--truth and --pred, or --scores, beside "
    "--predicted-dice)"
)
_MASKS = "masks/"
_REMEDY = f"give the {AREAS} of kneefair predict"


class Predictions(NamedTuple):
    """The predicted Dice of a folder of `kneefair predict`.

    Attributes:
        table: of the trusted predictions, a row for each structure that has one: `case_id, structure`, `predicted, low,
            high` (f64), and whether the structure is a label of the mask, `in_mask`; whole bones are none.
        wide: structures that are not in the table, since their median interval is wider than `MAX_WIDTH`.
        untrusted: the cases with a prediction that is not trusted, or without any.
        cases: all cases, in the order of the file.
        name: of the file, for messages.
    """

    table: pd.DataFrame
    wide: tuple[str, ...]
    untrusted: frozenset[str]
    cases: tuple[str, ...]
    name: str

    def of(self, case_ids: Sequence[str]) -> "Predictions":
        """Return the predictions of some cases, which may be called as the last part of the path alone.

        A mask `masks/site1/c0.png` is that of the case `site1/c0`, or else of `c0`.

        Raises:
            InputError: there are none, or a name fits several masks.
        """
        listed = frozenset(case_ids)
        names = {case: case if case in listed else case.rpartition("/")[2] for case in self.cases}
        name_of_case = {case: name for case, name in names.items() if name in listed}
        if not name_of_case:
            raise InputError(
                f"{self.name}: none of its cases ({formatting.examples(self.cases)}) is among the cases of the audit "
                f"({formatting.examples(case_ids)}); a case id is the path of a mask below masks/, or its name, "
                "without ending"
            )
        if len(set(name_of_case.values())) < len(name_of_case):
            duplicate = next(name for name, count in Counter(name_of_case.values()).items() if count > 1)
            raise InputError(
                f"{self.name}: several masks are called {duplicate!r}; call the cases as their paths below masks/"
            )
        table = self.table[self.table["case_id"].isin(list(name_of_case))]
        return self._replace(
            table=table.assign(case_id=table["case_id"].map(name_of_case)),
            untrusted=frozenset(name_of_case[case] for case in self.untrusted if case in name_of_case),
            cases=tuple(name_of_case.values()),
        )


def read(source: str | Path | pd.DataFrame) -> Predictions:
    """Read `areas.csv`, or the table itself; a case is called as its mask's path below `masks/`, without the ending.

    Raises:
        InputError: it is another table, or the network that segmented has no calibration.
    """
    path = typed_tables.FRAME if isinstance(source, pd.DataFrame) else Path(source)
    if isinstance(path, Path) and not isinstance(source, pd.DataFrame) and not path.is_file():
        raise InputError(f"{path}: no such file; {_REMEDY}")
    text = typed_tables.read_as_text(source if isinstance(source, pd.DataFrame) else Path(source))[0].cells
    needed = ("file_id", "structure", "mask", "dice_trusted", *DICE)
    if missing := [name for name in needed if name not in text]:
        raise InputError(f"{path}: column {missing[0]!r} is missing; {_REMEDY}, of this version")
    text = text.assign(case_id=_case_ids(text, str(path)))
    numbers = text[list(DICE)].apply(cell_text.to_numbers).set_axis(["predicted", "low", "high"], axis=1)
    bounds = numbers.assign(zero=0.0, one=1.0)[["zero", "low", "predicted", "high", "one"]].to_numpy(float)
    is_empty = text[list(DICE)].eq("").all(axis=1)
    is_wrong = ~is_empty & ~(np.diff(bounds, axis=1) >= 0).all(axis=1)
    if is_wrong.any():
        raise InputError(
            f"{path} row {is_wrong.idxmax()}: predicted Dice that are no shares in order; {_REMEDY}"
        )
    in_mask = text["mask"].str.startswith(_MASKS)
    table = pd.concat([text[["case_id", "structure"]], numbers, in_mask.rename("in_mask")], axis=1)
    if is_empty.all():
        raise InputError(
            f"{path}: no predicted Dice; the network has no calibration (kneefair export makes one from validation "
            "cases, and phantom has one)"
        )
    if (repeated := table.duplicated(["case_id", "structure"])).any():
        row = table[repeated].iloc[0]
        raise InputError(f"{path} row {repeated.idxmax()}: {row['case_id']!r} has {row['structure']!r} twice")
    is_trusted = ~is_empty & text["dice_trusted"].ne("no")
    without = set(text["case_id"]) - set(text.loc[~is_empty, "case_id"])
    untrusted = frozenset(text.loc[text["dice_trusted"].eq("no"), "case_id"]) | without
    trusted = table[is_trusted]
    widths = (trusted["high"] - trusted["low"]).groupby(trusted["structure"]).median()
    wide = tuple(widths.index[widths > MAX_WIDTH])
    cases = tuple(dict.fromkeys(table["case_id"]))
    return Predictions(trusted[~trusted["structure"].isin(wide)], wide, untrusted, cases, Path(path).name)


def _case_ids(text: pd.DataFrame, path: str) -> pd.Series:
    """Return the case of each row: the path of the mask of its file; whole bones have other files."""
    masks = text[text["mask"].str.startswith(_MASKS)].drop_duplicates("file_id")
    names = masks["mask"].map(lambda mask: mask.removeprefix(_MASKS).removesuffix(readers.suffix_of(mask)))
    case_ids = text["file_id"].map(dict(zip(masks["file_id"], names, strict=True)))
    if (without := case_ids.isna()).any():
        raise InputError(
            f"{path} row {without.idxmax()}: its file has no row with a mask in {_MASKS}; {_REMEDY}"
        )
    return case_ids


def scores(predictions: Predictions) -> pd.DataFrame:
    """Return the trusted predictions as a table of scores, `case_id, structure, dice`.

    Raises:
        InputError: no prediction is trusted.
    """
    of_masks = predictions.table[predictions.table["in_mask"]]
    if of_masks.empty:
        raise InputError(
            f"{predictions.name}: no predicted Dice is trusted, since every film has a warning or every structure an "
            f"interval wider than {MAX_WIDTH}; look at the masks"
        )
    return of_masks[["case_id", "structure"]].assign(dice=of_masks["predicted"])


def add(
    audit: Audit,
    listed: pd.DataFrame,
    attributes: Sequence[str],
    predictions: Predictions,
    *,
    measured: bool,
) -> Audit:
    """Return the audit with the section on predicted Dice, notes, and the table by structure.

    Args:
        audit: of one model.
        listed: all cases, with `case_id`, `patient_id` and attributes.
        attributes: columns to group by.
        predictions: of the same model's masks.
        measured: whether the Dice of the audit are measured; otherwise they are the predicted ones.

    Raises:
        InputError: no case or structure is in both.
    """
    report = audit.report
    selected = predictions.of(listed["case_id"].tolist())
    predicted_structures = set(selected.table["structure"])
    structures = [name for name in report["cohort"]["structures"] if name in predicted_structures]
    if not structures and predicted_structures:
        raise InputError(
            f"{predictions.name}: predicts the Dice of {', '.join(sorted(predicted_structures))}, the audit is of "
            f"{', '.join(report['cohort']['structures'])}; name the structures alike"
        )
    cases = listed[listed["case_id"].isin(selected.cases)]
    scored = audit.cases if measured else audit.cases.iloc[:0]

    def describe(names: Sequence[str]) -> predicted_scores.PredictedScores:
        by_case = cases.merge(_by_case(selected, scored, names), on="case_id")
        minimum = report["cohort"]["min_group_patients"]
        return predicted_scores.predicted_scores(by_case, attributes, minimum, measured=measured)

    tables = {"all": describe(structures), **{name: describe([name]) for name in structures}}
    report["predicted_dice"] = asdict(tables["all"])
    notes = _notes(predictions, len(selected.cases), len(listed))
    report["cohort"]["notes"] = [*report["cohort"]["notes"], *notes]
    return audit._replace(predicted_dice=pd.DataFrame(_rows(tables)), notes=[*audit.notes, *notes])


def _notes(predictions: Predictions, cases: int, listed: int) -> list[str]:
    """Return notes on predictions that are not used, and on cases without any."""
    notes = []
    if predictions.wide:
        notes.append(
            f"The predicted Dice of {formatting.listing(predictions.wide)} is not used: its median interval is wider "
            f"than {MAX_WIDTH}."
        )
    if cases < listed:
        notes.append(f"{predictions.name} has no prediction for {listed - cases} of {listed} cases.")
    if cases < len(predictions.cases):
        notes.append(
            f"{predictions.name} has {len(predictions.cases) - cases} films that are no cases of the audit."
        )
    return notes


def _by_case(predictions: Predictions, scored: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return `case_id` and `predicted_scores.COLUMNS`, means over structures, of all cases with predictions.

    A case may lack a structure whose Dice is usually higher or lower, so predictions are centered by structure first.
    """
    rows = predictions.table[predictions.table["structure"].isin(names)]
    rows = rows.merge(scored[["case_id", "structure", "dice"]], on=["case_id", "structure"], how="left")
    outside = (rows["dice"] < rows["low"]) | (rows["dice"] > rows["high"])
    means = rows.groupby("structure")["predicted"].mean()
    shift = means.mean() - rows["structure"].map(means).astype(float)
    rows = rows.assign(
        **{name: rows[name] + shift for name in ("predicted", "low", "high")},
        error=rows["dice"] - rows["predicted"],
        outside=outside.astype(float).where(rows["dice"].notna()),
    )
    by_case = rows.groupby("case_id")
    numbers = by_case[["predicted", "low", "high", "error"]].mean()
    numbers["outside"] = by_case["outside"].max()
    numbers["covered"] = 1 - by_case["outside"].mean()
    cases = pd.DataFrame({"case_id": predictions.cases})
    cases["untrusted"] = cases["case_id"].isin(predictions.untrusted).astype(float)
    return cases.merge(numbers.reset_index(), on="case_id", how="left")


def _rows(tables: dict[str, predicted_scores.PredictedScores]) -> list[dict[str, object]]:
    """Return a row for each structure and group."""
    rows = []
    for structure, result in tables.items():
        for group, entry in {"all": result.overall, **result.groups}.items():
            row: dict[str, object] = {
                "structure": structure,
                "group": group,
                "cases": entry.cases,
                "predicted_dice": entry.predicted.estimate,
                "predicted_dice_low": entry.low,
                "predicted_dice_high": entry.high,
            }
            for name in ("untrusted", "outside"):
                rate = getattr(entry, name)
                low, high = (rate.rate.interval if rate else None) or (np.nan, np.nan)
                row |= {
                    f"{name}_patients": rate.count if rate else np.nan,
                    f"{name}_of": rate.rate.n if rate else np.nan,
                    f"{name}_share_low": low,
                    f"{name}_share_high": high,
                }
            low, high = (entry.error.interval if entry.error else None) or (np.nan, np.nan)
            row |= {
                "covered_share": entry.covered,
                "mean_error": entry.error.estimate if entry.error else np.nan,
                "mean_error_low": low,
                "mean_error_high": high,
            }
            rows.append(row)
    return rows

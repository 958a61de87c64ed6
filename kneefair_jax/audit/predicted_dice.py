"""Predicted Dice of `kneefair predict` in an audit: beside measured scores, or instead of them.

Without reference masks, the audit compares the predicted Dice of groups. With them, it says by group how often the Dice
lies outside of the predicted interval, and how wrong the prediction is on average.

A film whose mask has a warning has no trusted prediction: it is unlike the films of the calibration, or its mask is no
knee. It counts as untrusted, and its predicted Dice enters no mean.
"""

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
# A prediction with a wider interval says nothing; that of the fibula of the shipped network often is.
MAX_WIDTH = 0.5
NOTE = (
    "all scores are predicted Dice of masks without reference masks. A gap between groups is a gap in what the "
    "network expects of its masks: it shows a gap in quality only if the prediction is equally right for these "
    "groups, which an audit of cases with reference masks tests (--truth and --pred, or --scores, beside "
    "--predicted-dice)"
)
_REMEDY = f"give the {AREAS} of kneefair predict"


class Predictions(NamedTuple):
    """The predicted Dice of a folder of `kneefair predict`.

    Attributes:
        table: of the trusted predictions, a row for each structure that has one: `case_id, structure`, `predicted, low,
            high` (f64), and whether the structure is a label of the mask, `in_mask`; whole bones are none.
        wide: structure -> its predictions that are not in the table, since their interval is wider than `MAX_WIDTH`.
        untrusted: the cases without a trusted prediction.
        cases: all cases, in the order of the file.
        name: of the file, for messages.
    """

    table: pd.DataFrame
    wide: dict[str, int]
    untrusted: frozenset[str]
    cases: tuple[str, ...]
    name: str


def read(source: str | Path | pd.DataFrame) -> Predictions:
    """Read `areas.csv`, or the table itself; a case is called as its mask, without the ending.

    Raises:
        InputError: it is another table, or the network that segmented has no calibration.
    """
    path = typed_tables.FRAME if isinstance(source, pd.DataFrame) else Path(source)
    text = typed_tables.read_as_text(source if isinstance(source, pd.DataFrame) else Path(source))[0].cells
    needed = ("structure", "mask", "dice_trusted", *DICE)
    if missing := [name for name in needed if name not in text]:
        raise InputError(f"{path}: column {missing[0]!r} is missing; {_REMEDY}, of this version")
    masks = [Path(mask).name for mask in text["mask"]]
    names = pd.Series([mask.removesuffix(readers.suffix_of(mask)) for mask in masks], index=text.index)
    # Rows of whole bones, whose files have other names, follow those of the mask.
    is_mask = text["mask"].str.startswith("masks/")
    text = text.assign(case_id=names.where(is_mask).ffill())
    numbers = text[list(DICE)].apply(cell_text.to_numbers).set_axis(["predicted", "low", "high"], axis=1)
    if bad := [row for row in text.index if _is_wrong(text.loc[row], numbers.loc[row])]:
        raise InputError(f"{path} row {bad[0]}: predicted Dice that are no shares in order; {_REMEDY}")
    table = pd.concat([text[["case_id", "structure"]], numbers, is_mask.rename("in_mask")], axis=1)
    if table["predicted"].isna().all():
        raise InputError(
            f"{path}: no predicted Dice; the network has no calibration (kneefair export makes one from validation "
            "cases, and phantom has one)"
        )
    repeated = table.duplicated(["case_id", "structure"])
    if repeated.any():
        row = table[repeated].iloc[0]
        raise InputError(
            f"{path} row {repeated.idxmax()}: {row['case_id']!r} has {row['structure']!r} twice; masks of several "
            "folders have the same name; segment each folder into an --out of its own"
        )
    is_untrusted = text["dice_trusted"].eq("no") | text["case_id"].isin(
        set(table["case_id"]) - set(table.loc[table["predicted"].notna(), "case_id"])
    )
    untrusted = frozenset(text.loc[is_untrusted, "case_id"])
    trusted = table[table["predicted"].notna() & ~table["case_id"].isin(untrusted)]
    is_wide = trusted["high"] - trusted["low"] > MAX_WIDTH
    wide = trusted.loc[is_wide, "structure"].value_counts().to_dict()
    return Predictions(trusted[~is_wide], wide, untrusted, tuple(dict.fromkeys(table["case_id"])), path.name)


def scores(predictions: Predictions) -> pd.DataFrame:
    """Return the trusted predictions as a table of scores, `case_id, structure, dice`.

    Raises:
        InputError: no prediction is trusted.
    """
    if predictions.table.empty:
        raise InputError(
            f"{predictions.name}: no predicted Dice is trusted, since every film has a warning or an interval "
            f"wider than {MAX_WIDTH}; look at the masks"
        )
    of_masks = predictions.table[predictions.table["in_mask"]]
    return of_masks[["case_id", "structure"]].assign(dice=of_masks["predicted"])


def add(
    audit: Audit,
    listed: pd.DataFrame,
    attributes: Sequence[str],
    predictions: Predictions,
    *,
    measured: bool,
) -> Audit:
    """Return the audit with the section on predicted Dice, a note, and the table by structure.

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
    cases = listed[listed["case_id"].isin(predictions.cases)]
    if cases.empty:
        raise InputError(
            f"{predictions.name}: none of its cases ({formatting.examples(predictions.cases)}) is among the cases "
            f"of the audit ({formatting.examples(listed['case_id'].tolist())}); a case id is the name of a mask "
            "without its ending"
        )
    measured_rows = audit.cases if measured else audit.cases.iloc[:0]
    structures = [
        name for name in report["cohort"]["structures"] if name in set(predictions.table["structure"])
    ]
    if not structures and not predictions.table.empty:
        raise InputError(
            f"{predictions.name}: predicts the Dice of {', '.join(dict.fromkeys(predictions.table['structure']))}, the "
            f"audit is of {', '.join(report['cohort']['structures'])}; name the structures alike"
        )
    minimum, seed = report["cohort"]["min_group_patients"], report["run"]["seed"]

    def describe(names: Sequence[str]) -> predicted_scores.PredictedScores:
        by_case = cases.merge(_by_case(predictions, measured_rows, names), on="case_id")
        return predicted_scores.predicted_scores(by_case, attributes, minimum, seed)

    report["predicted_dice"] = asdict(describe(structures))
    tables = {"all": describe(structures), **{name: describe([name]) for name in structures}}
    notes = _notes(predictions, len(cases), len(listed))
    report["cohort"]["notes"] = [*report["cohort"]["notes"], *notes]
    return audit._replace(predicted_dice=pd.DataFrame(_rows(tables)), notes=[*audit.notes, *notes])


def _notes(predictions: Predictions, cases: int, listed: int) -> list[str]:
    """Return notes on predictions that are not used, and on cases without any."""
    notes = []
    if predictions.wide:
        counts = formatting.listing(f"{name} {count}" for name, count in predictions.wide.items())
        notes.append(
            f"Predictions whose interval is wider than {MAX_WIDTH} are excluded, by structure: {counts}."
        )
    if cases < listed:
        notes.append(f"{predictions.name} has no prediction for {listed - cases} of {listed} cases.")
    return notes


def _by_case(predictions: Predictions, measured_rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return `case_id` and `predicted_scores.COLUMNS`, means over structures, of all cases with predictions."""
    rows = predictions.table[predictions.table["structure"].isin(names)]
    rows = rows.merge(
        measured_rows[["case_id", "structure", "dice"]], on=["case_id", "structure"], how="left"
    )
    outside = (rows["dice"] < rows["low"]) | (rows["dice"] > rows["high"])
    rows = rows.assign(
        error=rows["dice"] - rows["predicted"],
        outside=outside.astype(float).where(rows["dice"].notna()),
    )
    numbers = rows.groupby("case_id")[["predicted", "low", "high", "error"]].mean()
    numbers["outside"] = rows.groupby("case_id")["outside"].max()
    numbers["covered"] = 1 - rows.groupby("case_id")["outside"].mean()
    cases = pd.DataFrame({"case_id": predictions.cases})
    cases["untrusted"] = cases["case_id"].isin(predictions.untrusted).astype(float)
    return cases.merge(numbers.reset_index(), on="case_id", how="left")


def _is_wrong(text: pd.Series, numbers: pd.Series) -> bool:
    """Return whether a row has some of the numbers, or numbers that are no shares in order."""
    if (text[list(DICE)] == "").all():
        return False
    return not 0 <= numbers["low"] <= numbers["predicted"] <= numbers["high"] <= 1


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

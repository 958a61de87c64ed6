"""Notes on what a score table lacks: other tools may write nothing where a model fails, which flatters it."""

import pandas as pd

from kneefair_jax.fairness import patient_table
from kneefair_jax.report.text import formatting


def notes(table: pd.DataFrame, model: str) -> list[str]:
    """Return the notes on the long per-case table of one model; `model` is empty where there is one alone."""
    return _empty(table, model) + _without_distance(table, model)


def _empty(table: pd.DataFrame, model: str) -> list[str]:
    """Notes on rows without any overlap, and on cases that have none: some tools write nothing where they fail."""
    empty = table[["dice", "iou", "nsd"]].isna().all(axis=1)
    if not empty.any():
        return []
    rows = formatting.amount(int(empty.sum()), "row")
    cases_without = empty.groupby(table["case_id"].to_numpy()).all()
    cases_without = cases_without.index[cases_without]
    of_cases = f", and all of {formatting.amount(len(cases_without), 'case')}" if len(cases_without) else ""
    return [
        f"{rows}{f' by {model}' if model else ''}{of_cases} (such as {table['case_id'][empty].iloc[0]}) have no score "
        "and are left out of the means, as a structure that is absent from truth and prediction; where the model "
        "failed, write 0, or it is flattered"
    ]


def _without_distance(table: pd.DataFrame, model: str) -> list[str]:
    """Notes on rows with an overlap and no distance: some tools (MONAI) write NaN where the model misses a bone."""
    overlaps = table[["dice", "iou", "nsd"]].notna().any(axis=1)
    of = f" by {model}" if model else ""
    notes = []
    for score in patient_table.MILLIMETRES:
        lacking = table[overlaps & table[score].isna()]
        if len(lacking) and table[score].notna().any():
            first = lacking.iloc[0]
            notes.append(
                f"{formatting.amount(len(lacking), 'row')}{of} {'has' if len(lacking) == 1 else 'have'} an overlap but "
                f"no {score} (such as case {first['case_id']}, {first['structure']}): its means are over the others, "
                "and flatter a model that misses bones"
            )
    return notes

"""Count the cases of an audit that are not tested: by reason, by group, and the files without a case."""

from collections import Counter
from collections.abc import Iterable, Sequence

import pandas as pd

from kneefair_jax.audit.cases import EXCLUDED, Excluded
from kneefair_jax.audit.mask_faults import REFERENCE
from kneefair_jax.report.schema import NotTested
from kneefair_jax.report.text import formatting


def without_dice(cases: pd.DataFrame) -> list[Excluded]:
    """Return the scored cases that no mean of Dice has, by model: no structure has a Dice."""
    has_dice = cases["dice"].notna().groupby([cases["model"], cases["case_id"]], sort=False).any()
    return [Excluded(case, model, "no Dice of any structure") for model, case in has_dice.index[~has_dice]]


def excluded_counts(excluded: Iterable[Excluded]) -> list[tuple[str, int]]:
    """Return the number of excluded cases by reason, which names the models concerned with their counts.

    >>> excluded_counts([Excluded("c1", "a", "no prediction"), Excluded("c1", "b", "no prediction")])
    [('no prediction by a (1) and b (1), 1 of them by several', 1)]
    """
    by_reason: dict[str, list[Excluded]] = {}
    for entry in excluded:
        if entry.case_id:
            by_reason.setdefault(entry.reason, []).append(entry)
    counts = []
    for reason, entries in by_reason.items():
        models = Counter(entry.mask for entry in entries if entry.mask not in ("", REFERENCE))
        by = f" by {formatting.listing(f'{model} ({n})' for model, n in models.items())}" if models else ""
        cases = Counter(entry.case_id for entry in entries)
        several = sum(number > 1 for number in cases.values())
        by += f", {several} of them by several" if models and several else ""
        counts.append((reason + by, len(cases)))
    return counts


def unmatched_counts(excluded: Iterable[Excluded]) -> list[tuple[str, int]]:
    """Return the number of files without a case by reason."""
    return list(Counter(entry.reason for entry in excluded if entry.file).items())


def by_group(listed: pd.DataFrame, attributes: Sequence[str], scores: pd.DataFrame) -> dict[str, NotTested]:
    """Return the listed cases of each group, and those not tested: excluded, or without a Dice of any structure.

    Args:
        listed: `case_id` and the categorical attributes, a row per case.
        attributes: columns of `listed`.
        scores: the long per-case table of one model.

    Returns:
        Group name, such as `sex=female` or `sex=missing`, -> its counts; empty where all cases are tested.
    """
    is_tested = listed["case_id"].isin(scores.loc[scores["dice"].notna(), "case_id"])
    if is_tested.all():
        return {}
    return {
        f"{name}={level}": {"cases": len(tested), "not_tested": int((~tested).sum())}
        for name in attributes
        for level, tested in is_tested.groupby(listed[name], observed=True)
    }


def table(excluded: Iterable[Excluded], listed: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """Return `excluded.csv`: the fields of `Excluded`, then the attributes of the case, "" where they are unknown.

    Args:
        excluded: a row each.
        listed: `case_id` and the attributes, a row per case.
        attributes: columns of `listed`.
    """
    names = [name for name in attributes if name not in Excluded._fields]
    rows = pd.DataFrame(list(excluded), columns=Excluded._fields)
    levels = listed.set_index("case_id")[names].astype(str).reindex(rows["case_id"]).fillna("")
    return rows.assign(**{name: levels[name].to_numpy() for name in names})


def warnings(without_dice: Sequence[Excluded], total: int) -> list[str]:
    """Return a sentence for each model that has no Dice of some of all cases."""
    counts = Counter(entry.mask for entry in without_dice)
    return [
        f"{number} of {formatting.amount(total, 'case')} {'has' if number == 1 else 'have'} no Dice"
        f"{f' by {model}' if model else ''} (listed in {EXCLUDED})."
        for model, number in counts.items()
    ]

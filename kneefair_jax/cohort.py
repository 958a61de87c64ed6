"""The table of cases: patient-level splits, the audit for leaks, and counts by group.

A table has a row per case with `case_id`, `patient_id`, categorical attribute columns and, once split,
`split`.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.errors import InputError

SPLITS = ("train", "validation", "test")
ALL = "all"


def split(cases: pd.DataFrame, fractions: Sequence[float], seed: int, attributes: Sequence[str]) -> pd.Series:
    """Deals patients into train, validation and test, in proportion within every group.

    Every stratum (an intersection of the attributes, `missing` being a level) and the whole cohort get within
    one patient of their share. It depends on the seed and the patients, not on the order of the rows.

    Args:
        cases: the table.
        fractions: shares of train, validation and test, summing to 1; a share of 0 leaves that split empty.
        seed: another seed, another split.
        attributes: columns to stratify by; a patient is in the stratum of its first case by `case_id`.

    Returns:
        A string for each row of `cases`, on its index: one of `SPLITS`.

    Raises:
        InputError: the fractions are not shares, or there are too few patients to fill a split.
    """
    shares = _shares(fractions)
    dealt = _deal(_strata(cases, attributes), shares, str(seed))
    return _named(cases, dealt.map(dict(enumerate(SPLITS))), shares)


def folds(
    cases: pd.DataFrame, k: int, fold: int, fractions: Sequence[float], seed: int, attributes: Sequence[str]
) -> pd.Series:
    """Cross-validation: the split in which fold `fold` of `k` is the test set.

    Over fold = 0, ..., k - 1 every patient is tested exactly once. The other folds' patients are dealt into
    train and validation in the proportion fractions[0] : fractions[1].

    Args:
        cases: the table.
        k: number of folds, at least 2.
        fold: which one is tested, 0 to k - 1.
        fractions: as in `split`; the third is not used.
        seed: as in `split`; give every fold the same.
        attributes: as in `split`.

    Returns:
        A string for each row of `cases`, on its index: one of `SPLITS`.

    Raises:
        InputError: there is no such fold, the fractions are not shares, or there are too few patients.
    """
    if not 0 <= fold < k or k < 2:
        raise InputError(f"fold {fold} of {k}: give at least 2 folds, and count them from 0 to {k - 1}")
    if k > (patients := cases["patient_id"].nunique()):
        raise InputError(f"config.data.folds={k}: there are {patients} patients; give at most as many folds")
    shares = _shares(fractions)
    if shares[0] == 0:
        raise InputError(f"fractions {tuple(fractions)}: folds need a share of train above 0")
    strata = _strata(cases, attributes)
    tested = _deal(strata, np.full(k, 1 / k), str(seed)) == fold
    # A key of its own, or the folds would share most of their validation patients.
    dealt = _deal(strata[~tested], shares[:2] / shares[:2].sum(), f"{seed}:{fold}")
    names = dealt.map(dict(enumerate(SPLITS))).reindex(strata.index, fill_value="test")
    return _named(cases, names, np.array([*shares[:2], 1 / k]))


def check_no_leak(cases: pd.DataFrame) -> None:
    """Makes sure that no patient is on two sides of `split`.

    Raises:
        InputError: naming two cases of such a patient and the splits they are in.
    """
    first = cases.drop_duplicates(["patient_id", "split"])
    leaks = first[first.duplicated("patient_id", keep=False)]
    if len(leaks):
        one = leaks[leaks["patient_id"] == leaks["patient_id"].iloc[0]]
        sides = zip(one["case_id"], one["split"], strict=True)
        where = " and ".join(f"case {case!r} in {side}" for case, side in sides)
        raise InputError(
            f"one patient has {where} ({leaks['patient_id'].nunique()} such patients): scores on patients seen in "
            "training are too good; give all cases of a patient the same split, or leave the split to be dealt by "
            "patient"
        )


def check_apart(cases: pd.DataFrame, external: pd.DataFrame) -> None:
    """Makes sure that an external cohort has none of the cohort's patients.

    Raises:
        InputError: naming a case of such a patient.
    """
    shared = external[external["patient_id"].isin(cases["patient_id"])]
    if len(shared):
        raise InputError(
            f"external case {shared['case_id'].iloc[0]!r} has the patient_id of a case in data.root "
            f"({shared['patient_id'].nunique()} such patients); an external cohort is of other people: remove them, "
            "or, if the ids merely coincide, make them differ"
        )


def table(cases: pd.DataFrame, attributes: Sequence[str], intersections: bool = True) -> pd.DataFrame:
    """Counts patients and cases by group and split.

    Args:
        cases: the table, split or not.
        attributes: its categorical columns.
        intersections: whether to count pairs of attributes.

    Returns:
        i64 columns `patients` and `cases` with the index (`group`, `split`): the levels of each attribute,
        those of each pair, then `all`; by split, then `all`. `missing` is a level. A patient whose cases
        differ in an attribute (age at two visits) counts in each of its groups.
    """
    sides = {ALL: np.full(len(cases), True)}
    if "split" in cases:
        sides = {name: (cases["split"] == name).to_numpy() for name in SPLITS} | sides
    members = {
        name: part.index == number
        for part in groups.partitions(cases, attributes, intersections)
        for number, name in enumerate(part.names)
    }
    members[ALL] = np.full(len(cases), True)
    patients = cases["patient_id"]
    counts = {
        (group, side): (patients[inside & rows].nunique(), int((inside & rows).sum()))
        for group, inside in members.items()
        for side, rows in sides.items()
    }
    index = pd.MultiIndex.from_tuples(list(counts), names=["group", "split"])
    return pd.DataFrame(list(counts.values()), index=index, columns=["patients", "cases"])


def varying(cases: pd.DataFrame, attributes: Sequence[str]) -> list[str]:
    """Says for which attributes the cases of one patient differ, with an example by case id.

    Right for an age at two visits or a side, a mistake in the table for a sex; such a patient counts in each group.
    """
    notes = []
    for attribute in attributes:
        levels = cases.groupby("patient_id")[attribute].nunique()
        if several := list(levels.index[levels > 1]):
            ids = cases.loc[cases["patient_id"] == several[0], "case_id"]
            patients = f"{len(several)} patient{'s' * (len(several) > 1)}"
            notes.append(
                f"{attribute} differs between the cases of one patient for {patients} "
                f"(such as {', '.join(ids[:2])}); they count in each of its groups"
            )
    return notes


def alike(cases: pd.DataFrame, attributes: Sequence[str]) -> list[str]:
    """Says which levels of an attribute differ in capitals and spaces alone: mostly one group, written twice."""
    notes = []
    for attribute in attributes:
        written: dict[str, list[str]] = {}
        for level in cases[attribute].cat.categories:
            written.setdefault("".join(str(level).casefold().split()), []).append(repr(str(level)))
        notes += [
            f"{attribute} has the groups {' and '.join(same)}; write them alike if they are one"
            for same in written.values()
            if len(same) > 1
        ]
    return notes


def text(counts: pd.DataFrame) -> str:
    """Renders what `table` returns for a terminal: a line per group, a column per split.

    A cell is the number of patients, followed by the cases in brackets wherever the cohort has more of them.
    """
    several = (counts["patients"] != counts["cases"]).any()
    cells = counts["patients"].astype(str)
    if several:
        cells += " (" + counts["cases"].astype(str) + ")"
    wide = cells.unstack("split", sort=False)
    title = "patients (cases)" if several else "patients"
    rows = [[title, *wide.columns], *([group, *row] for group, *row in wide.itertuples())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def _shares(fractions: Sequence[float]) -> np.ndarray:
    shares = np.asarray(fractions, float)
    if shares.shape != (3,) or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise InputError(
            f"fractions {tuple(fractions)}: give the shares of train, validation and test, which sum to 1"
        )
    return shares


def _strata(cases: pd.DataFrame, attributes: Sequence[str]) -> pd.Series:
    """The stratum of each patient; the index is `patient_id`."""
    first = cases.sort_values("case_id").drop_duplicates("patient_id").set_index("patient_id")
    return pd.Series(
        [",".join(map(str, row)) for row in first[list(attributes)].to_numpy()], index=first.index
    )


def _draw(key: str, name: str) -> bytes:
    """A random rank by hash: the same on every platform and version, and whatever else is in the table."""
    return blake2b(f"{key}:{name}".encode()).digest()


def _deal(strata: pd.Series, shares: np.ndarray, key: str) -> pd.Series:
    """Deals patients into hands of the given shares; returns the hand of each, on the index of `strata`.

    Each hand gets the whole part of its share of each stratum. The patients left over, fewer than there are
    hands, go one each to the hands that are furthest behind over all strata so far. Dealing patient by
    patient to the hand furthest behind is shorter, but can miss a stratum's share by more than one patient.
    """
    hand = pd.Series(0, index=strata.index)
    behind = np.zeros(len(shares))
    for stratum in sorted(strata.unique(), key=lambda name: _draw(key, name)):
        patients = sorted(strata.index[strata == stratum], key=lambda name: _draw(key, name))
        wanted = len(patients) * shares
        counts = np.floor(wanted + 1e-9).astype(int)
        behind += wanted - counts
        partial = wanted - counts > 1e-9
        last = np.argsort(-np.where(partial, behind, -np.inf), kind="stable")[: len(patients) - counts.sum()]
        counts[last] += 1
        behind[last] -= 1
        hand[patients] = np.repeat(np.arange(len(shares)), counts)
    return hand


def _named(cases: pd.DataFrame, names: pd.Series, shares: np.ndarray) -> pd.Series:
    """The split of each row from that of each patient; a split that has a share must have a patient."""
    for name, share in zip(SPLITS, shares, strict=True):
        if share > 0 and name not in set(names):
            raise InputError(
                f"{len(names)} patients are too few: none is left for {name} at a share of {share:g}; "
                "add patients or enlarge its share"
            )
    return cases["patient_id"].map(names).rename("split")

"""The table of cases: patient-level splits, the check for leaks, and counts by group.

A table has one row per case with `case_id`, `patient_id`, categorical attribute columns and, after splitting,
`split`.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import pandas as pd

from kneefair_jax import groups
from kneefair_jax.errors import InputError
from kneefair_jax.safe_text import align_columns

SPLITS = ("train", "validation", "test")
ALL = "all"


def split(cases: pd.DataFrame, fractions: Sequence[float], seed: int, attributes: Sequence[str]) -> pd.Series:
    """Split patients into train, validation and test, in proportion within every group.

    Every stratum (an intersection of the attributes, `missing` being a level) and the whole cohort get within
    one patient of their share. The split depends on the seed and the patients, not on the order of the rows.

    Args:
        cases: the table.
        fractions: shares of train, validation and test, summing to 1; a share of 0 leaves that split empty.
        seed: of the random split.
        attributes: columns to stratify by; a patient is in the stratum of its first case by `case_id`.

    Returns:
        A string for each row of `cases`, on its index: one of `SPLITS`.

    Raises:
        InputError: the fractions do not sum to 1, or there are too few patients to fill a split.
    """
    shares = _shares(fractions)
    parts = _assign(_strata(cases, attributes), shares, str(seed))
    return _split_column(cases, parts.map(dict(enumerate(SPLITS))), shares)


def folds(
    cases: pd.DataFrame, k: int, fold: int, fractions: Sequence[float], seed: int, attributes: Sequence[str]
) -> pd.Series:
    """Return the split of cross-validation in which fold `fold` of `k` is the test set.

    Over fold = 0, ..., k - 1 every patient is tested exactly once. The patients of the other folds are split into
    train and validation in the proportion fractions[0] : fractions[1].

    Args:
        cases: the table.
        k: number of folds, at least 2.
        fold: the test fold, 0 to k - 1.
        fractions: as in `split`; the third is not used.
        seed: as in `split`; the same for every fold.
        attributes: as in `split`.

    Returns:
        A string for each row of `cases`, on its index: one of `SPLITS`.

    Raises:
        InputError: `fold` is not in 0 to k - 1, the fractions do not sum to 1, or there are too few patients.
    """
    if not 0 <= fold < k or k < 2:
        raise InputError(f"fold {fold} of {k}: give at least 2 folds, and count them from 0 to {k - 1}")
    if k > (patients := cases["patient_id"].nunique()):
        raise InputError(f"config.data.folds={k}: there are {patients} patients; give at most as many folds")
    shares = _shares(fractions)
    if shares[0] == 0:
        raise InputError(f"fractions {tuple(fractions)}: folds need a share of train above 0")
    strata = _strata(cases, attributes)
    is_tested = _assign(strata, np.full(k, 1 / k), str(seed)) == fold
    # With the same key, the folds would share most of their validation patients.
    parts = _assign(strata[~is_tested], shares[:2] / shares[:2].sum(), f"{seed}:{fold}")
    names = parts.map(dict(enumerate(SPLITS))).reindex(strata.index, fill_value="test")
    return _split_column(cases, names, np.array([*shares[:2], 1 / k]))


def check_no_leak(cases: pd.DataFrame) -> None:
    """Refuse a table with a patient in two splits.

    Raises:
        InputError: it names two cases of such a patient and their splits.
    """
    first = cases.drop_duplicates(["patient_id", "split"])
    leaks = first[first.duplicated("patient_id", keep=False)]
    if len(leaks):
        rows = leaks[leaks["patient_id"] == leaks["patient_id"].iloc[0]]
        places = " and ".join(
            f"case {case!r} in {name}" for case, name in zip(rows["case_id"], rows["split"], strict=True)
        )
        raise InputError(
            f"one patient has {places} ({leaks['patient_id'].nunique()} such patients): scores on patients seen in "
            "training are too high; give all cases of a patient the same split, or omit the split column to split by "
            "patient"
        )


def check_disjoint(cases: pd.DataFrame, external: pd.DataFrame) -> None:
    """Refuse an external cohort that shares a patient with the cohort.

    Raises:
        InputError: it names a case of such a patient.
    """
    shared = external[external["patient_id"].isin(cases["patient_id"])]
    if len(shared):
        raise InputError(
            f"external case {shared['case_id'].iloc[0]!r} has the patient_id of a case in data.root "
            f"({shared['patient_id'].nunique()} such patients); an external cohort must have other patients: remove "
            "these, or change the ids if they coincide by chance"
        )


def table(cases: pd.DataFrame, attributes: Sequence[str], intersections: bool = True) -> pd.DataFrame:
    """Count patients and cases by group and split.

    Args:
        cases: the table, with or without `split`.
        attributes: its categorical columns.
        intersections: whether to count pairs of attributes.

    Returns:
        i64 columns `patients` and `cases` with the index (`group`, `split`): the levels of each attribute,
        those of each pair, then `all`; by split, then `all`. `missing` is a level. A patient whose cases
        differ in an attribute (age at two visits) counts in each of its groups.
    """
    rows_of_split = {ALL: np.full(len(cases), True)}
    if "split" in cases:
        rows_of_split = {name: (cases["split"] == name).to_numpy() for name in SPLITS} | rows_of_split
    members = {
        name: partition.index == number
        for partition in groups.partitions(cases, attributes, intersections)
        for number, name in enumerate(partition.names)
    }
    members[ALL] = np.full(len(cases), True)
    patients = cases["patient_id"]
    counts = {
        (group, name): (patients[in_group & rows].nunique(), int((in_group & rows).sum()))
        for group, in_group in members.items()
        for name, rows in rows_of_split.items()
    }
    index = pd.MultiIndex.from_tuples(list(counts), names=["group", "split"])
    return pd.DataFrame(list(counts.values()), index=index, columns=["patients", "cases"])


def varying_attributes(cases: pd.DataFrame, attributes: Sequence[str]) -> list[str]:
    """Return a note for each attribute that differs between the cases of one patient, with an example by case id.

    That is correct for an age at two visits or a side, but a mistake in the table for a sex; such a patient counts in
    each group.
    """
    notes = []
    for attribute in attributes:
        levels = cases.groupby("patient_id")[attribute].nunique()
        if ambiguous := list(levels.index[levels > 1]):
            ids = cases.loc[cases["patient_id"] == ambiguous[0], "case_id"]
            patients = f"{len(ambiguous)} patient{'s' * (len(ambiguous) > 1)}"
            notes.append(
                f"{attribute} differs between the cases of one patient for {patients} "
                f"(such as {', '.join(ids[:2])}); they count in each of its groups"
            )
    return notes


def similar_levels(cases: pd.DataFrame, attributes: Sequence[str]) -> list[str]:
    """Return a note for levels of an attribute that differ only in capitals and spaces: usually one group."""
    notes = []
    for attribute in attributes:
        spellings: dict[str, list[str]] = {}
        for level in cases[attribute].cat.categories:
            spellings.setdefault("".join(str(level).casefold().split()), []).append(repr(str(level)))
        notes += [
            f"{attribute} has the groups {' and '.join(variants)}; write them the same way if they are one"
            for variants in spellings.values()
            if len(variants) > 1
        ]
    return notes


def text(counts: pd.DataFrame) -> str:
    """Render the result of `table` for a terminal: a line per group, a column per split.

    A cell is the number of patients, followed by the cases in brackets if a patient has more than one.
    """
    has_more_cases = (counts["patients"] != counts["cases"]).any()
    cells = counts["patients"].astype(str)
    if has_more_cases:
        cells += " (" + counts["cases"].astype(str) + ")"
    wide = cells.unstack("split", sort=False)
    title = "patients (cases)" if has_more_cases else "patients"
    rows = [
        [title, *wide.columns],
        *([groups.display_label(group), *row] for group, *row in wide.itertuples()),
    ]
    return "\n".join(align_columns(rows))


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


def _rank(key: str, name: str) -> bytes:
    """A random rank by hash, the same on every platform and version, independent of the other rows."""
    return blake2b(f"{key}:{name}".encode()).digest()


def _assign(strata: pd.Series, shares: np.ndarray, key: str) -> pd.Series:
    """Assign patients to parts of the given shares; return the part of each, on the index of `strata`.

    Each part gets the integer number of patients in its share of each stratum. The remaining patients, fewer than the
    parts, go one each to the parts with the largest deficit over all strata so far. Assigning patient by patient to
    the part with the largest deficit is shorter, but can miss a stratum's share by more than one patient.
    """
    part = pd.Series(0, index=strata.index)
    deficit = np.zeros(len(shares))
    for stratum in sorted(strata.unique(), key=lambda name: _rank(key, name)):
        patients = sorted(strata.index[strata == stratum], key=lambda name: _rank(key, name))
        exact = len(patients) * shares
        counts = np.floor(exact + 1e-9).astype(int)
        deficit += exact - counts
        is_fractional = exact - counts > 1e-9
        last = np.argsort(-np.where(is_fractional, deficit, -np.inf), kind="stable")[
            : len(patients) - counts.sum()
        ]
        counts[last] += 1
        deficit[last] -= 1
        part[patients] = np.repeat(np.arange(len(shares)), counts)
    return part


def _split_column(cases: pd.DataFrame, names: pd.Series, shares: np.ndarray) -> pd.Series:
    """Return the split of each row from the split of each patient; a split with a share must have a patient."""
    for name, share in zip(SPLITS, shares, strict=True):
        if share > 0 and name not in set(names):
            raise InputError(
                f"{len(names)} patients are too few: none is left for {name} at a share of {share:g}; "
                "add patients or enlarge its share"
            )
    return cases["patient_id"].map(names).rename("split")

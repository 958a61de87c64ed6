"""Which structures the mask of each case shows, where a cohort was annotated in part.

A column of the table names them, as in `femur;tibia` or `whole femur`; an empty cell stands for all structures. In
such a mask, background is whatever was not annotated. `anatomy.label_sets` says what its labels then mean, for losses;
scores of structures that it does not show are NaN, as those of structures out of view.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from kneefair_jax import anatomy
from kneefair_jax.anatomy import VOID
from kneefair_jax.data import metadata
from kneefair_jax.data.mask_files import MaskSource
from kneefair_jax.errors import InputError
from kneefair_jax.groups import MISSING

# Of a cohort's table: a tuple of names; empty where the mask shows all structures.
COLUMN = "annotated_structures"
# Shares of patients whose masks show a structure that differ by group as much as this, and significantly, are reported.
_DIFFERENCE, _P = 0.1, 0.01


class Kind(NamedTuple):
    """What the masks of some cases show.

    Attributes:
        names: the annotated structures; () for all.
        sets: bool[C, C], `anatomy.label_sets`.
        shows_structure: bool[S], which of `anatomy.scored_structures` such a mask shows.
    """

    names: tuple[str, ...]
    sets: np.ndarray
    shows_structure: np.ndarray

    def merge_labels(self, label: np.ndarray) -> np.ndarray:
        """Return a label map, u8[H, W], with one label for all labels that such a mask does not tell apart."""
        table = np.arange(VOID + 1, dtype=np.uint8)  # void stays void
        table[: len(self.sets)] = self.sets.argmax(-1)
        merged: np.ndarray = table[label]
        return merged

    def distinct_labels(self) -> np.ndarray:
        """Return which labels such a mask tells from all others, bool[C]."""
        is_single: np.ndarray = self.sets.sum(-1) == 1
        return is_single

    def keep_distinct(self, label: np.ndarray) -> np.ndarray:
        """Return a label map, u8[H, W], with background in place of labels that are not of `distinct_labels`."""
        table = np.arange(VOID + 1, dtype=np.uint8)  # void stays void
        table[: len(self.sets)][~self.distinct_labels()] = 0
        result: np.ndarray = table[label]
        return result

    def check(self, label: np.ndarray, structures: Sequence[str], path: MaskSource, column: str) -> None:
        """Refuse the label map of such a mask, u8[H, W], that has other structures (`check_mask`)."""
        check_mask(label, self.names, structures, path, column)


class Annotations(NamedTuple):
    """The kinds of masks of a cohort.

    Attributes:
        kinds: K kinds.
        kind: i32[N], the kind of each row of the cohort's table.
        scored: S names, `anatomy.scored_structures`.
    """

    kinds: tuple[Kind, ...]
    kind: np.ndarray
    scored: tuple[str, ...]

    @property
    def sets(self) -> np.ndarray:
        """Sets of labels of each kind, bool[K, C, C]."""
        return np.stack([kind.sets for kind in self.kinds])

    def of_row(self, row: int) -> Kind:
        """Return the kind of a row's mask."""
        return self.kinds[int(self.kind[row])]

    def shows_structure(self, rows: np.ndarray) -> np.ndarray:
        """Return which structures the masks of N rows show, bool[N, S]."""
        table = np.stack([kind.shows_structure for kind in self.kinds])
        result: np.ndarray = table[self.kind[rows]]
        return result

    def hide(self, values: np.ndarray, rows: np.ndarray, fill: float) -> np.ndarray:
        """Return values of the structures of N rows, [N, S, ...], with `fill` where their masks do not show them."""
        is_scored = self.shows_structure(rows).reshape(*values.shape[:2], *(1,) * (values.ndim - 2))
        return np.where(is_scored, values, np.array(fill, values.dtype))

    def note(self, option: str = "data.annotated_column") -> str:
        """Return how many masks show only some structures, and which, by the column that `option` names."""
        parts = [
            f"{(self.kind == number).sum():,} show only {', '.join(kind.names)}"
            for number, kind in enumerate(self.kinds)
            if kind.names
        ]
        partial_masks = sum(bool(self.of_row(row).names) for row in range(len(self.kind)))
        return (
            f"{partial_masks:,} of {len(self.kind):,} masks are annotated in part ({option}): {'; '.join(parts)}. A "
            "case has no score of the structures that its mask does not show"
        )

    def nothing_scored(self) -> str:
        """Return which masks show none of the scored structures, with a remedy; "" if all show one."""
        for number, kind in enumerate(self.kinds):
            if not kind.shows_structure.any():
                return (
                    f"{(self.kind == number).sum():,} masks show only {', '.join(kind.names)}, but the scored "
                    f"structures are {', '.join(self.scored)}, none of which such a mask tells from all others; give "
                    f"label maps that have the union as a structure ('{kind.names[0]}'), or leave these cases out"
                )
        return ""

    def group_notes(self, cases: pd.DataFrame, attributes: Sequence[str]) -> list[str]:
        """Warn about attributes whose groups differ in the share of patients whose masks show a structure.

        Args:
            cases: the rows that the kinds are of, with `patient_id` and the attributes.
            attributes: columns.
        """
        shows = pd.DataFrame(self.shows_structure(np.arange(len(self.kind))), columns=list(self.scored))
        patient = cases["patient_id"].to_numpy()
        notes = []
        for name in attributes:
            levels = cases[name].astype(str).to_numpy()
            # A patient counts once in each level.
            rows = shows.assign(level=levels, patient=patient)[levels != MISSING]
            by_patient = rows.groupby(["level", "patient"])[list(self.scored)].all()
            texts = []
            for structure in self.scored:
                counts = pd.crosstab(by_patient.index.get_level_values("level"), by_patient[structure])
                if min(counts.shape) < 2:
                    continue
                shares = counts[True] / counts.sum(axis=1)
                if np.ptp(shares) >= _DIFFERENCE and stats.chi2_contingency(counts).pvalue < _P:
                    by_level = ", ".join(f"{level} {share:.0%}" for level, share in shares.items())
                    texts.append(f"{structure} ({by_level})")
            if texts:
                notes.append(
                    f"WARNING: groups by {name} differ in the share of patients whose masks show a structure: "
                    f"{'; '.join(texts)}. Scores by group then rest on different cases, and a gap may come from this "
                    "choice"
                )
        return notes

    def note_not_compared(self) -> str:
        """Return how many masks have no label that can be compared (`Kind.distinct_labels`); "" if all have one."""
        not_compared = [
            number for number, kind in enumerate(self.kinds) if not kind.distinct_labels()[1:].any()
        ]
        count = int(np.isin(self.kind, not_compared).sum())
        if not count:
            return ""
        names = {", ".join(self.kinds[number].names) for number in not_compared}
        return (
            f"{count:,} masks that show only {' or '.join(sorted(names))} are not compared with the network, which "
            "does not segment this union"
        )


def of_cohort(cases: pd.DataFrame, structures: Sequence[str]) -> Annotations | None:
    """Return the kinds of masks of a cohort's table; None where all masks show all structures."""
    if COLUMN not in cases or not any(cases[COLUMN]):
        return None
    kind, names = pd.factorize(cases[COLUMN])
    scored = anatomy.scored_structures(structures)
    members = anatomy.membership(structures, scored)
    kinds = []
    for of_kind in names:
        sets = anatomy.label_sets(structures, of_kind or structures)
        kinds.append(Kind(of_kind, sets, anatomy.is_determined(sets, members)))
    return Annotations(tuple(kinds), kind.astype(np.int32), scored)


def parse(
    cells: pd.Series, structures: Sequence[str], problems: list[metadata.Problem]
) -> list[tuple[str, ...]]:
    """Return the names in each cell of the column.

    Args:
        cells: text on the lines of the file; names by `;` or comma, in upper or lower case.
        structures: the names of labels 1, 2, ...
        problems: receives the cells with names that the label scheme lacks.
    """
    spelling = {name.lower(): name for name in (*anatomy.UNIONS, *structures)}
    result = []
    for row, cell in cells.items():
        words = filter(None, re.split(r"\s*[;,]\s*", cell.strip()))
        names = tuple(dict.fromkeys(spelling.get(word.lower(), word) for word in words))
        try:
            anatomy.membership(structures, names)
        except InputError as error:
            problems.append((row, f"{cells.name} {cell!r}: {str(error).removeprefix('label scheme: ')}"))
        result.append(names)
    return result


def check_mask(
    label: np.ndarray, annotated: Sequence[str], structures: Sequence[str], path: MaskSource, column: str
) -> None:
    """Refuse a label map, u8[H, W], with structures that the table's column does not name.

    Raises:
        InputError: with their names.
    """
    if not annotated:
        return
    named = anatomy.membership(structures, annotated).any(axis=0)
    pixels = np.bincount(label.ravel(), minlength=len(named))
    unnamed = [name for value, name in enumerate(structures, start=1) if pixels[value] and not named[value]]
    if unnamed:
        raise InputError(
            f"{path}: has pixels of {', '.join(unnamed)}, but the column {column!r} names only "
            f"{', '.join(annotated)}; name all structures that were annotated, or leave the cell empty if all were"
        )

"""A config's `data` section -> the cohort: its source of cases, every case in a split, and its prepared arrays."""

import os
from collections import ChainMap
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kneefair_jax import anatomy, groups
from kneefair_jax import cohort as cohorts
from kneefair_jax.data import file_changes, folder, header_notes, identifiers, metadata, oai, phantom, store
from kneefair_jax.data.oai import siddiqui
from kneefair_jax.data.online import by_table_row, stored_source
from kneefair_jax.data.source import Example, LeftOut, Source, naming_unreadable, read_subset
from kneefair_jax.data.store import Cases
from kneefair_jax.errors import InputError, lookup

EXTERNAL = "external"

# Columns of the per-case table, now or as designed.
RESERVED = {
    *("case_id", "patient_id", "split", "model", "structure"),
    *("dice", "iou", "hd95_mm", "assd_mm", "nsd", "ece", "true_area_mm2", "pred_area_mm2"),
}


class Cohort(NamedTuple):
    """Cases, ready to be trained on or scored.

    Attributes:
        source: where their arrays come from; it may have cases that cannot be read and are not among `cases`.
        cases: a row per case: `case_id`, `patient_id`, `split` and the attribute columns.
        attributes: names of the attribute columns.
        structures: names of labels 1, 2, ...
        grid: (H, W, C) of the arrays.
        named: whether somebody named the labels; where nobody did, left and right cannot be told apart.
    """

    source: Source
    cases: pd.DataFrame
    attributes: tuple[str, ...]
    structures: tuple[str, ...]
    grid: tuple[int, int, int]
    named: bool

    def rows(self, split: str) -> np.ndarray:
        """i64, the rows of a split in the table's order."""
        return np.flatnonzero((self.cases["split"] == split).to_numpy())

    def notes(self) -> list[str]:
        """What is odd about the cases, though they can be used."""
        given = (self.cases, self.attributes)
        return [*self.source.notes, *cohorts.varying_attributes(*given), *cohorts.similar_levels(*given)]

    def whole(self, rows: Sequence[int] | np.ndarray) -> Iterator[Example]:
        """Rows of the table at their files' own size and spacing, read anew; of a source that has such.

        Raises:
            InputError: a file cannot be read any more.
        """
        assert self.source.whole is not None
        for case in self.source.whole(self.places(rows)):
            if isinstance(case, InputError):
                raise case
            yield case

    def places(self, rows: Sequence[int] | np.ndarray) -> list[int]:
        """Rows of the table -> rows of the source."""
        place = pd.Index(self.source.cases["case_id"])
        return place.get_indexer(self.cases["case_id"].iloc[rows]).tolist()

    def over_whole[T](self, of: Callable[[int, Example], T], rows: np.ndarray) -> list[T]:
        """`of(k, case)` of the k-th row at its files' own size, in as many threads as there are cores.

        Raises:
            InputError: a file cannot be read any more.
        """

        def some(places: np.ndarray) -> list[T]:
            return [of(int(k), case) for k, case in zip(places, self.whole(rows[places]), strict=True)]

        threads = min(len(os.sched_getaffinity(0)), len(rows)) or 1
        with ThreadPoolExecutor(threads) as pool:
            # Runs of rows, as the two knees of a film follow each other and are read together.
            return [
                one for part in pool.map(some, np.array_split(np.arange(len(rows)), threads)) for one in part
            ]


class Prepared(NamedTuple):
    """A cohort and its arrays.

    Attributes:
        cohort: the cases that can be read, in splits.
        cases: their arrays; row k is row k of `cohort.cases`.
        left_out: what the source, or its files, kept out of the cohort.
    """

    cohort: Cohort
    cases: Cases
    left_out: tuple[LeftOut, ...]


def _folder(data: ConfigDict, seed: int) -> tuple[Source, int]:
    del seed
    return folder.source(data, size=tuple(data.size), channels=data.channels), data.channels


def _phantom(data: ConfigDict, seed: int) -> tuple[Source, int]:
    fractions = None if data.folds else data.fractions
    return phantom.source(data.phantom, size=tuple(data.size), seed=seed, fractions=fractions), 1


def _oai(data: ConfigDict, seed: int) -> tuple[Source, int]:
    del seed
    return oai.source(data, size=tuple(data.size)), 1


def _siddiqui(data: ConfigDict, seed: int) -> tuple[Source, int]:
    del seed
    return siddiqui.source(data, size=tuple(data.size)), 1


SOURCES: dict[str, Callable[[ConfigDict, int], tuple[Source, int]]] = {
    "folder": _folder,
    "oai": _oai,
    "phantom": _phantom,
    "siddiqui": _siddiqui,
}


def load(data: ConfigDict, seed: int, without: Collection[str] = ()) -> Cohort:
    """Reads the table of cases and splits it by patient; no image is read yet.

    Args:
        data: the config's `data` section.
        seed: of the split, and of phantoms.
        without: case ids to leave out before the split is dealt.

    Raises:
        InputError: the table or the section cannot be used.
    """
    if seed < 0:
        raise InputError(f"config.data.seed={seed}: give 0 or more")
    if data.folds and data.folds < 2:
        raise InputError(f"config.data.folds={data.folds}: give at least 2 folds, or 0 for none")
    if not data.folds and data.fold != -1:
        raise InputError(f"config.data.fold={data.fold} needs data.folds, the number of folds")
    if len(data.size) != 2 or min(data.size) < 1:
        raise InputError(f"config.data.size={tuple(data.size)}: give height and width in pixels")
    source, channels = lookup(SOURCES, data.get("source", ""), "data.source")(data, seed)
    for name, levels in data.get("levels", {}).items():
        source = _only(source, name, tuple(levels), data)
    return _split(source, channels, data, seed, without)


def _split(
    source: Source, channels: int, data: ConfigDict, seed: int, without: Collection[str] = ()
) -> Cohort:
    """The cohort of a source, split by patient, without the cases of some ids: those that cannot be read."""
    cases, attributes = _kept(source, without), tuple(data.attributes)
    if reserved := sorted(set(attributes) & RESERVED):
        raise InputError(f"config.data.attributes: {reserved[0]!r} is a column of the results; rename yours")
    if absent := [name for name in attributes if name not in cases]:
        raise InputError(f"config.data.attributes: the cases have no {absent[0]!r}; there is {list(cases)}")
    cases = cases.assign(**{name: _levels(cases[name], data) for name in attributes})
    if "split" in cases and data.folds:
        raise InputError("config.data.folds: the cases come with a split; set data.split_column='' for folds")
    if "split" not in cases:
        if data.folds:
            split = cohorts.folds(cases, data.folds, data.fold, data.fractions, seed, attributes)
        else:
            split = cohorts.split(cases, data.fractions, seed, attributes)
        cases = cases.assign(split=split)
    cohorts.check_no_leak(cases)
    for name in cohorts.SPLITS:
        if not (cases["split"] == name).any():
            raise InputError(f"config.data: no case is in the split {name!r}; every split needs one")
    return Cohort(
        source=source,
        cases=cases.reset_index(drop=True),
        attributes=attributes,
        structures=source.structures,
        grid=(*data.size, channels),
        named=data.get("structures") != "auto",
    )


def load_external(data: ConfigDict, main: Cohort) -> Cohort | None:
    """The cohort in the folder `data.external`, for evaluation alone; None where there is none.

    It has the layout of `configs/folder.py`. Its labels are those of the main cohort, or those that
    `data.external_structures` names, unions of the main cohort's structures included. Attributes of the main cohort
    that it has no column for are missing in every case.

    Args:
        data: the config's `data` section; its `metadata`, `bins` and `on_broken` are for this folder too.
        main: the cohort to train on.

    Raises:
        InputError: it cannot be used, has structures that the main cohort has not, or shares a patient with it.
    """
    if not data.get("external"):
        return None
    columns = metadata.read(Path(data.external) / data.metadata).cells.columns
    there = [name for name in main.attributes if name in columns]
    # The names alone would lose the values that data.structures may give them.
    is_folder = data.source == "folder" and main.named
    structures = data.external_structures or (data.structures if is_folder else ",".join(main.structures))
    its_own = {"root": data.external, "structures": structures, "attributes": there, "split_column": ""}
    its_own["orientation"] = data.get("external_orientation", "")
    its_own |= {"ignore_label": data.get("external_ignore_label", -1), "prefix": "data.external_"}
    settings = ChainMap[str, Any](its_own, data)
    source = folder.source(settings, size=tuple(data.size), channels=main.grid[2])
    anatomy.translation(main.structures, source.structures, data.get("external_in_front", ""))
    cases = _external_cases(source, main)
    people = data.source != "phantom"  # phantoms are nobody: their p00007 is no patient p00007 or p7
    if people:
        cohorts.check_disjoint(main.cases, cases)
    if not data.get("allow_similar_ids", False):
        _check_similar(main, cases, Path(data.external) / data.metadata, people=people)
    return Cohort(source, cases, main.attributes, source.structures, main.grid, main.named)


def _external_cases(source: Source, main: Cohort, without: Collection[str] = ()) -> pd.DataFrame:
    """The table of an external cohort with every attribute of the main one, without the cases of some ids."""
    cases = _kept(source, without).assign(split=EXTERNAL)
    unknown = groups.categorical(pd.Series("", index=cases.index))
    return cases.assign(**{name: unknown for name in main.attributes if name not in cases})


def prepare(
    data: ConfigDict,
    seed: int,
    cohort: Cohort,
    external: Cohort | None,
    directory: Path,
    options: store.Options,
) -> tuple[Prepared, Prepared | None]:
    """Prepares a cohort, and an external one, as loaded; splits them again without what cannot be read.

    Args:
        data: the config's `data` section.
        seed: as given to `load`.
        cohort: from `load`.
        external: from `load_external`.
        directory: of the prepared stores.
        options: of the preparation.

    Raises:
        InputError: as `store.prepare_all`; or the cohort cannot do without the cases that are left out.
    """
    # The external one first: it is seldom the larger, and a broken file in it refuses both.
    parts = [part for part in (external, cohort) if part]
    sources = [(stored_source(part.source, part.cases), part.grid) for part in parts]
    *others, cases = store.prepare_all(sources, directory, options)
    cases = by_table_row(cases, cohort.source, cohort.cases)
    if cases.left_out:
        with naming_unreadable(cases.left_out):
            cohort = _split(cohort.source, cohort.grid[2], data, seed, without=dict(cases.left_out))
    left_out = cohort.source.left_out + cases.left_out + cohort.source.unused
    cohort = _with_notes(_unchanged(cohort, cases), _file_notes(cohort, cases))
    if external is None:
        return Prepared(cohort, cases, left_out), None
    if others[0].left_out:
        readable = _external_cases(external.source, cohort, without=dict(others[0].left_out))
        external = external._replace(cases=readable)
    # A report has one list of notes, that of the main cohort.
    cohort = _with_notes(cohort, [f"external cohort: {note}" for note in _file_notes(external, others[0])])
    external_left_out = external.source.left_out + others[0].left_out + external.source.unused
    return (
        Prepared(cohort, cases, left_out),
        Prepared(_unchanged(external, others[0]), others[0], external_left_out),
    )


def _only(source: Source, attribute: str, levels: tuple[str, ...], data: ConfigDict) -> Source:
    """The cases of some levels of an attribute; the others are left out.

    Raises:
        InputError: there is no such attribute, or no case of a level.
    """
    if attribute not in source.cases:
        raise InputError(
            f"config.data.levels: the cases have no {attribute!r}; there is {list(source.cases)}"
        )
    values = _levels(source.cases[attribute], data)
    if absent := [level for level in levels if level not in set(values)]:
        raise InputError(
            f"config.data.levels: no case has {attribute}={absent[0]}; there is {sorted(set(values))}"
        )
    keep = values.isin(levels).to_numpy()
    why = f"{attribute} is not among data.levels"
    cases = source.cases[keep].reset_index(drop=True)
    columns = cases.select_dtypes("category")
    return source._replace(
        cases=cases.assign(**{name: columns[name].cat.remove_unused_categories() for name in columns}),
        settings=source.settings | {f"levels of {attribute}": list(levels)},
        read=partial(read_subset, source.read, np.flatnonzero(keep)),
        whole=source.whole and partial(read_subset, source.whole, np.flatnonzero(keep)),
        files=source.files and partial(_files_of_some, source.files, np.flatnonzero(keep)),
        left_out=(*source.left_out, *((case, why) for case in source.cases["case_id"][~keep])),
    )


def _check_similar(main: Cohort, external: pd.DataFrame, path: Path, *, people: bool) -> None:
    """Refuses patients and levels of an external cohort that are those of the main one in another spelling.

    Raises:
        InputError: naming the first five pairs and how many there are.
    """
    columns = [("patient_id", "patient", identifiers.canonical_identifier)] if people else []
    columns += [(name, "level", identifiers.canonical) for name in main.attributes]
    pairs = [
        f"{path}: {name} {there!r} and {here!r} of data.root look like the same {noun}"
        for name, noun, form in columns
        for here, there in identifiers.across(
            list(main.cases[name].unique()), list(external[name].unique()), form
        )
    ]
    if pairs:
        raise InputError(
            "\n".join(pairs[:5])
            + f"\n{len(pairs)} such; write them alike, remove patients of both, or give {metadata.Options().similar}"
        )


def _files_of_some(files: Callable[[int], tuple[Path, ...]], kept: np.ndarray, row: int) -> tuple[Path, ...]:
    return files(int(kept[row]))


def _file_notes(cohort: Cohort, cases: Cases) -> list[str]:
    """The notes on the headers and the void pixels of the prepared cases, as they were decoded."""
    notes = header_notes.of_cohort(cohort.cases["case_id"].tolist(), cases.inspections)
    if cohort.source.void and cases.inspections:
        notes.append(header_notes.of_void(cases.inspections, cohort.source.settings["ignore_label"]))
    return notes


def _with_notes(cohort: Cohort, notes: Sequence[str]) -> Cohort:
    source = cohort.source
    return cohort._replace(source=source._replace(notes=(*source.notes, *notes)))


def changed_files(prepared: Prepared) -> list[tuple[str, str]]:
    """Return `(case_id, why)` of the cases whose files are not those that were prepared, or cannot be read any more."""
    cohort, recorded = prepared.cohort, prepared.cases.files
    if not (cohort.source.files and recorded):
        return []
    ids = cohort.cases["case_id"].tolist()
    return file_changes.of_cases(ids, cohort.places(np.arange(len(ids))), cohort.source.files, recorded)


def _unchanged(cohort: Cohort, cases: Cases) -> Cohort:
    """The cohort, whose files at their own size are refused where they are not those that were prepared."""
    source = cohort.source
    if not (source.whole and source.files and cases.files):
        return cohort
    read = partial(
        file_changes.read_unchanged, source.whole, source.files, cases.files, list(source.cases["case_id"])
    )
    return cohort._replace(source=source._replace(whole=read))


def _levels(values: pd.Series, data: ConfigDict) -> pd.Series:
    """An attribute's column as groups: as it is, or numbers in the bins that `data.bins` names."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values
    name = values.name
    edges = data.get("bins", {}).get(name)
    if edges is None:
        raise InputError(
            f"config.data.attributes: {name!r} holds {values.nunique()} different numbers; set data.bins for it in "
            "the config, or name another attribute"
        )
    return groups.bin_values(values, edges)


def _kept(source: Source, without: Collection[str]) -> pd.DataFrame:
    """The table without some cases, and without levels that only they had."""
    if not len(source.cases):
        reasons = "".join(f"\n{what}: {why}" for what, why in source.left_out[:5])
        raise InputError(f"no case is left of {len(source.left_out)}, all left out{reasons and ':'}{reasons}")
    if not without:
        return source.cases
    cases = source.cases[~source.cases["case_id"].isin(set(without))].reset_index(drop=True)
    levels = cases.select_dtypes("category")
    return cases.assign(**{name: levels[name].cat.remove_unused_categories() for name in levels})

"""Loads a cohort from a config's `data` section: its source, its table with a split for each case, its arrays."""

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
from kneefair_jax.data import (
    annotations,
    case_levels,
    folder,
    identifiers,
    inspection,
    metadata,
    oai,
    phantom,
    store,
)
from kneefair_jax.data.oai import siddiqui
from kneefair_jax.data.pipeline import index_by_table_row, stored_source
from kneefair_jax.data.source import (
    Example,
    Exclusion,
    Source,
    changed_cases,
    naming_unreadable,
    read_unchanged,
)
from kneefair_jax.data.store import Cases
from kneefair_jax.errors import InputError, lookup
from kneefair_jax.runtime import memory

EXTERNAL = "external"

# Columns of the per-case table, in use or planned.
RESERVED = {
    *("case_id", "patient_id", "split", "model", "structure"),
    *("dice", "iou", "hd95_mm", "assd_mm", "nsd", "ece", "true_area_mm2", "pred_area_mm2", "soft_dice"),
    annotations.COLUMN,
}


class Cohort(NamedTuple):
    """Cases to train on or to score.

    Attributes:
        source: of their arrays; it may have further cases, which are unreadable.
        cases: a row per case: `case_id`, `patient_id`, `split` and the attribute columns.
        attributes: names of the attribute columns.
        structures: names of labels 1, 2, ...
        grid: (H, W, C) of the arrays.
        has_names: whether the user named the labels; otherwise left and right structures cannot be distinguished.
    """

    source: Source
    cases: pd.DataFrame
    attributes: tuple[str, ...]
    structures: tuple[str, ...]
    grid: tuple[int, int, int]
    has_names: bool

    def rows(self, split: str) -> np.ndarray:
        """Return the rows of a split, i64[N], in the table's order."""
        return np.flatnonzero((self.cases["split"] == split).to_numpy())

    @property
    def annotations(self) -> annotations.Annotations | None:
        """The kinds of masks; None where all masks show all structures."""
        return annotations.of_cohort(self.cases, self.structures)

    def notes(self) -> list[str]:
        """Return warnings about the cases, which are usable."""
        varying = cohorts.varying_attributes(self.cases, self.attributes)
        kinds = self.annotations
        return [
            *self.source.notes,
            *([kinds.note(), *kinds.group_notes(self.cases, self.attributes)] if kinds else []),
            *varying,
            *cohorts.similar_levels(self.cases, self.attributes),
        ]

    def read_native(self, rows: Sequence[int] | np.ndarray) -> Iterator[Example]:
        """Read rows of the table at native resolution, from a source with `read_native`.

        Raises:
            InputError: a file can no longer be read.
        """
        assert self.source.read_native is not None
        for case in self.source.read_native(self.source_rows(rows)):
            if isinstance(case, InputError):
                raise case
            yield case

    def source_rows(self, rows: Sequence[int] | np.ndarray) -> list[int]:
        """Return the source's rows of rows of the table."""
        index = pd.Index(self.source.cases["case_id"])
        return [int(row) for row in index.get_indexer(self.cases["case_id"].iloc[rows])]

    def map_native[T](self, function: Callable[[int, Example], T], rows: np.ndarray) -> list[T]:
        """Return `function(k, case)` for the k-th of some rows at native resolution, in a thread per core.

        Raises:
            InputError: a file can no longer be read.
        """

        def map_chunk(positions: np.ndarray) -> list[T]:
            cases = self.read_native(rows[positions])
            return [function(int(k), case) for k, case in zip(positions, cases, strict=True)]

        threads = min(memory.core_count(), len(rows)) or 1
        # Chunks of consecutive rows, since the two knees of a film are consecutive and read together.
        chunks = np.array_split(np.arange(len(rows)), threads)
        with ThreadPoolExecutor(threads) as pool:
            return [result for results in pool.map(map_chunk, chunks) for result in results]


class Prepared(NamedTuple):
    """A cohort and its arrays.

    Attributes:
        cohort: the readable cases, in splits.
        cases: their arrays; row k is row k of `cohort.cases`.
        excluded: what is not in the cohort: exclusions by the source, unreadable cases, and unused files.
    """

    cohort: Cohort
    cases: Cases
    excluded: tuple[Exclusion, ...]


# Name -> a function: `data` section, size, seed -> the source.
SOURCES: dict[str, Callable[[ConfigDict, tuple[int, int], int], Source]] = {
    "folder": lambda data, size, _: folder.source(data, size=size, channels=data.channels),
    "oai": lambda data, size, _: oai.source(data, size=size),
    "phantom": lambda data, size, seed: phantom.source(
        data.phantom, size=size, seed=seed, fractions=None if data.folds else data.fractions
    ),
    "siddiqui": lambda data, size, _: siddiqui.source(data, size=size),
}


def load(data: ConfigDict, seed: int) -> Cohort:
    """Read the table of cases and split it by patient; no image is read yet.

    Args:
        data: the config's `data` section.
        seed: of the split, and of phantoms.

    Raises:
        InputError: the table or the section is unusable.
    """
    if seed < 0:
        raise InputError(f"config.data.seed={seed}: give 0 or more")
    if data.folds and data.folds < 2:
        raise InputError(f"config.data.folds={data.folds}: give at least 2 folds, or 0 for none")
    if not data.folds and data.fold != -1:
        raise InputError(f"config.data.fold={data.fold} needs data.folds, the number of folds")
    if len(data.size) != 2 or min(data.size) < 1:
        raise InputError(f"config.data.size={tuple(data.size)}: give height and width in pixels")
    source = lookup(SOURCES, data.get("source", ""), "config.data.source")(data, tuple(data.size), seed)
    for name, levels in data.get("levels", {}).items():
        source = case_levels.select_levels(source, name, tuple(levels), data)
    return _split(source, data.channels if data.source == "folder" else 1, data, seed)


def _split(
    source: Source, channels: int, data: ConfigDict, seed: int, without: Collection[str] = ()
) -> Cohort:
    """Return the cohort of a source, split by patient, without the cases of some ids, such as unreadable ones."""
    cases, attributes = case_levels.without_cases(source, without), tuple(data.attributes)
    if reserved := sorted(set(attributes) & RESERVED):
        raise InputError(f"config.data.attributes: {reserved[0]!r} is a column of the results; rename yours")
    if absent := [name for name in attributes if name not in cases]:
        raise InputError(
            f"config.data.attributes: the cases have no {absent[0]!r}; give one of {list(cases)}"
        )
    cases = cases.assign(**{name: case_levels.of_attribute(cases[name], data) for name in attributes})
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
        has_names=data.get("structures") != "auto",
    )


def load_external(data: ConfigDict, main: Cohort) -> Cohort | None:
    """Load the cohort in the folder `data.external`, which is for evaluation only; None if the field is empty.

    It has the layout of `configs/folder.py`. Its labels are those of the main cohort, or those that
    `data.external_structures` names, unions of the main cohort's structures included. Attributes of the main cohort
    for which it has no column are missing in every case.

    Args:
        data: the config's `data` section; `metadata`, `bins` and `on_read_error` apply to this folder too.
        main: the cohort to train on.

    Raises:
        InputError: it is unusable, has structures that the main cohort lacks, or shares a patient with it.
    """
    if not data.get("external"):
        return None
    columns = metadata.read(Path(data.external) / data.metadata).cells.columns
    annotated = data.get("annotated_column", "")
    attributes = [name for name in main.attributes if name in columns]
    # `main.structures` would lose the mask values that data.structures may state.
    is_folder = data.source == "folder" and main.has_names
    structures = data.external_structures or (data.structures if is_folder else ",".join(main.structures))
    external_settings = {
        "root": data.external,
        "structures": structures,
        "attributes": attributes,
        "split_column": "",
        "annotated_column": annotated if annotated in columns else "",
        "orientation": data.get("external_orientation", ""),
        "ignore_label": data.get("external_ignore_label", -1),
        "prefix": "data.external_",
    }
    settings = ChainMap[str, Any](external_settings, data)
    source = folder.source(settings, size=tuple(data.size), channels=main.grid[2])
    anatomy.translation(main.structures, source.structures, data.get("external_in_front", ""))
    cases = _external_cases(source, main)
    has_patients = data.source != "phantom"  # phantom p00007 is not the patient p00007 or p7
    if has_patients:
        cohorts.check_disjoint(main.cases, cases)
    if annotated and annotated not in columns:
        text = f"the table of data.external has no column {annotated!r}, so all its masks count as annotated in full"
        source = source._replace(notes=(*source.notes, text))
    if not data.get("allow_similar_ids", False):
        _check_similar(main, cases, Path(data.external) / data.metadata, has_patients=has_patients)
    return Cohort(source, cases, main.attributes, source.structures, main.grid, main.has_names)


def _external_cases(source: Source, main: Cohort, without: Collection[str] = ()) -> pd.DataFrame:
    """Return the table of an external cohort with every attribute of the main one, without the cases of some ids."""
    cases = case_levels.without_cases(source, without).assign(split=EXTERNAL)
    missing = groups.categorical(pd.Series("", index=cases.index))
    return cases.assign(**{name: missing for name in main.attributes if name not in cases})


def prepare(
    data: ConfigDict,
    seed: int,
    cohort: Cohort,
    external: Cohort | None,
    directory: Path,
    options: store.Options,
) -> tuple[Prepared, Prepared | None]:
    """Prepare the stores of a cohort and an external one, and split again without the unreadable cases.

    Args:
        data: the config's `data` section.
        seed: as given to `load`.
        cohort: from `load`.
        external: from `load_external`.
        directory: of the prepared stores.
        options: of the preparation.

    Raises:
        InputError: as `store.prepare_all`; or the cohort is unusable without the unreadable cases.
    """
    # The external one first: it is seldom the larger, and an unreadable file in it refuses both.
    cohorts_to_store = [part for part in (external, cohort) if part]
    sources = [(stored_source(part.source, part.cases), part.grid) for part in cohorts_to_store]
    *external_stores, cases = store.prepare_all(sources, directory, options)
    cases = index_by_table_row(cases, cohort.source, cohort.cases)
    if cases.excluded:
        with naming_unreadable(cases.excluded):
            cohort = _split(cohort.source, cohort.grid[2], data, seed, without=dict(cases.excluded))
    excluded = cohort.source.excluded + cases.excluded + cohort.source.unused
    cohort = _with_notes(_refusing_changed_files(cohort, cases), _file_notes(cohort, cases))
    cases = _with_kinds(cohort, cases)
    if external is None:
        return Prepared(cohort, cases, excluded), None
    (external_store,) = external_stores
    if external_store.excluded:
        readable = _external_cases(external.source, cohort, without=dict(external_store.excluded))
        external = external._replace(cases=readable)
    # A report has one list of notes, that of the main cohort.
    cohort = _with_notes(
        cohort, [f"external cohort: {note}" for note in _file_notes(external, external_store)]
    )
    external_excluded = external.source.excluded + external_store.excluded + external.source.unused
    return (
        Prepared(cohort, cases, excluded),
        Prepared(
            _refusing_changed_files(external, external_store),
            _with_kinds(external, external_store),
            external_excluded,
        ),
    )


def _with_kinds(cohort: Cohort, cases: Cases) -> Cases:
    """Return the cases with `annotation`, the kind of their masks, where masks do not show all structures."""
    kinds = cohort.annotations
    return cases if kinds is None else cases.with_columns({"annotation": kinds.kind})


def _check_similar(main: Cohort, external: pd.DataFrame, path: Path, *, has_patients: bool) -> None:
    """Refuse patients and levels of an external cohort that look like different ones of the main cohort.

    Raises:
        InputError: with the first five pairs and their number.
    """
    columns = [("patient_id", "patient", identifiers.canonical_identifier)] if has_patients else []
    columns += [(name, "level", identifiers.canonical) for name in main.attributes]
    pairs = [
        f"{path}: {name} {external_value!r} and {main_value!r} of data.root look like the same {noun}"
        for name, noun, form in columns
        for main_value, external_value in identifiers.across(
            list(main.cases[name].unique()), list(external[name].unique()), form
        )
    ]
    if pairs:
        remedy = f"write them alike, remove patients of both cohorts, or give {metadata.Options().similar}"
        raise InputError("\n".join([*pairs[:5], f"{len(pairs)} such pairs; {remedy}"]))


def _file_notes(cohort: Cohort, cases: Cases) -> list[str]:
    """Return the notes on the headers and the void pixels of the prepared cases."""
    notes = inspection.cohort_notes(cohort.cases["case_id"].tolist(), cases.inspections)
    if cohort.source.void and cases.inspections:
        notes.append(inspection.void_note(cases.inspections, cohort.source.settings["ignore_label"]))
    return notes


def _with_notes(cohort: Cohort, notes: Sequence[str]) -> Cohort:
    source = cohort.source
    return cohort._replace(source=source._replace(notes=(*source.notes, *notes)))


def changed_files(prepared: Prepared) -> list[tuple[str, str]]:
    """Return `(case_id, why)` for the cases whose files changed since they were prepared, or can no longer be read."""
    cohort, recorded = prepared.cohort, prepared.cases.files
    if not (cohort.source.files and recorded):
        return []
    ids = cohort.cases["case_id"].tolist()
    return changed_cases(ids, cohort.source_rows(np.arange(len(ids))), cohort.source.files, recorded)


def _refusing_changed_files(cohort: Cohort, cases: Cases) -> Cohort:
    """Return the cohort with a `read_native` that refuses files that changed since they were prepared."""
    source = cohort.source
    if not (source.read_native and source.files and cases.files):
        return cohort
    read = partial(
        read_unchanged, source.read_native, source.files, cases.files, list(source.cases["case_id"])
    )
    return cohort._replace(source=source._replace(read_native=read))

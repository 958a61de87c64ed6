"""Check a cohort before training (`launch.py --mode=check`): log, write and draw what its files hold."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import anatomy, groups, label_errors
from kneefair_jax import cohort as cohorts
from kneefair_jax.data import cohort_loader, inspection
from kneefair_jax.data.cohort_loader import Prepared
from kneefair_jax.data.inspection import Inspection
from kneefair_jax.preflight import duplicates, faults, group_sizes, outliers
from kneefair_jax.preflight.group_sizes import SmallGroup
from kneefair_jax.report import overlays
from kneefair_jax.report.text.formatting import amount
from kneefair_jax.runtime import atomic, progress
from kneefair_jax.runtime.progress import Progress
from kneefair_jax.safe_text import strip_json_paths

logger = logging.getLogger(__name__)
_TILES = 8
_ATTRIBUTES = 2
_MAX_DRAWN = 24  # masks that look wrong, on their sheet
_GROUP = {"cases": "case_id", "cohorts": "cohort", "splits": "split"}


class Reading(NamedTuple):
    """Measurements of all cases of a cohort.

    Attributes:
        measurements: of `outliers.of_case`, indexed by case id.
        thumbnails: f32[N, 256], of `duplicates.thumbnail`.
        digests: of the radiographs, by `duplicates.digest`.
        misoriented: the cases whose mask fits its radiograph in another orientation.
        void: f64[N], the share of each case's pixels that are void.
        inspections: of each case, from when its files were decoded; of the prepared mask if the source records none.
    """

    measurements: pd.DataFrame
    thumbnails: np.ndarray
    digests: list[str]
    misoriented: list[outliers.Misoriented]
    void: list[float]
    inspections: list[Inspection]


def run(
    main: Prepared,
    external: Prepared | None,
    directory: Path,
    against: str,
    folders: Sequence[Path] = (),
    small: Sequence[SmallGroup] = (),
) -> None:
    """Log a summary of the cohorts, and write `check.json`, `faults.csv` and `contact_sheet.png` into the directory.

    No file is decoded: the preparation of the cases recorded what their files hold. Files that changed since then, or
    have become unreadable, are listed by case. Masks that look wrong are drawn in `label_errors.png`, those of an
    external cohort in `label_errors_external.png`.

    Args:
        main: the cohort to train on.
        external: the cohort for evaluation alone.
        directory: created if absent.
        against: the checkpoint whose predictions the masks are compared with (`label_errors.pair_reader`).
        folders: known ones, as for `safe_text.strip_paths`.
        small: groups that the report will not rank, of `group_sizes.small_groups`.

    Raises:
        InputError: there is no such checkpoint, or it segments other structures.
    """
    by_name = {"cohort": main} | ({"external": external} if external else {})
    pair_readers = {
        name: label_errors.pair_reader(prepared, against, logger.info) for name, prepared in by_name.items()
    }
    readings = {name: _read(prepared) for name, prepared in by_name.items()}
    counts = cohorts.table(main.cohort.cases, main.cohort.attributes)
    cases, read = _all_cases(by_name), readings.values()
    digests = [digest for reading in read for digest in reading.digests]
    masks = [record.mask_sha256 for reading in read for record in reading.inspections]
    result: dict[str, Any] = {
        "schema": 1,
        "groups": counts.reset_index().to_dict("records"),
        "notes": main.cohort.notes(),
        "small_groups": [asdict(group) for group in small],
        # A patient may have several cases of one radiograph, such as its two knees.
        "identical_films": [films for films in _identical(cases, digests, _GROUP) if films["patients"] > 1],
        **_near_duplicates(cases, digests, np.concatenate([reading.thumbnails for reading in read])),
        "identical_masks": _identical(cases, masks, {"cases": "case_id", "cohorts": "cohort"}),
        **{name: _summary(prepared, readings[name]) for name, prepared in by_name.items()},
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, read_pairs in pair_readers.items():
        sheet = directory / ("label_errors.png" if name == "cohort" else f"label_errors_{name}.png")
        if read_pairs:
            logger.info("comparing %d masks with the network's", len(by_name[name].cases))
            result[name]["label_errors"] = _label_errors(by_name[name], read_pairs, sheet)
    _write(directory, by_name, result, folders)
    overlays.write_sheet(directory / "contact_sheet.png", strips(main))
    table = faults.table(result, list(by_name))
    faults.write(directory / faults.TABLE, table, folders)
    logger.info("%s", cohorts.text(counts))
    settings = {name: prepared.cohort.source.settings for name, prepared in by_name.items()}
    for line in (*group_sizes.lines(small), *faults.lines(result, settings)):
        logger.info("%s", line)
    logger.info("contact sheet: contact_sheet.png; all of this: check.json")
    sizes = amount(len(table), "fault"), amount(table["case_id"].nunique(), "case")
    logger.info("by case: %s of %s in %s", *sizes, faults.TABLE)


def _write(
    directory: Path, by_name: Mapping[str, Prepared], result: dict[str, Any], folders: Sequence[Path]
) -> None:
    """Write `check.json`, in which identifiers of cases stay as they are."""
    ids = {
        str(case_id) for prepared in by_name.values() for case_id in prepared.cohort.source.cases["case_id"]
    }
    ids |= {entry for prepared in by_name.values() for entry, _ in prepared.excluded}
    atomic.write_json(directory / "check.json", _without_paths(result, ids, folders))


def _without_paths(value: Any, ids: Collection[str], folders: Sequence[Path]) -> Any:
    """Return `safe_text.strip_json_paths` of a JSON value, in which identifiers of cases stay as they are."""
    if isinstance(value, dict):
        return {key: _without_paths(item, ids, folders) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(item, ids, folders) for item in value]
    return value if isinstance(value, str) and value in ids else strip_json_paths(value, *folders)


def strips(prepared: Prepared) -> list[tuple[str, list[overlays.Tile]]]:
    """Return tiles of cases of each group of the first two attributes, evenly over the table."""
    cohort, cases = prepared.cohort, prepared.cases
    members = {
        name: np.flatnonzero(partition.index == number)
        for attribute in cohort.attributes[:_ATTRIBUTES]
        for partition in [groups.partition(cohort.cases, [attribute], missing_as_level=True)]
        for number, name in enumerate(partition.names)
    } or {cohorts.ALL: np.arange(len(cases))}
    strips = []
    for name, rows in members.items():
        table = cohort.cases.iloc[rows]
        caption = f"{name}: {amount(table['patient_id'].nunique(), 'patient')}, {amount(len(rows), 'case')}"
        selected = rows[np.unique(np.linspace(0, len(rows) - 1, _TILES).round().astype(int))]
        strips.append((caption, [_tile(prepared, int(row)) for row in selected]))
    return strips


def _tile(prepared: Prepared, row: int) -> overlays.Tile:
    example = prepared.cases[row]
    return overlays.Tile(prepared.cohort.cases["case_id"].iloc[row], example["image"], example["label"])


def _read(prepared: Prepared) -> Reading:
    """Read every case once."""
    measurements, thumbnails, digests, edge_ranks, void, inspections = [], [], [], {}, [], []
    recorded = prepared.cases.inspections or [None] * len(prepared.cases)
    count, kinds = len(prepared.cases), prepared.cohort.annotations
    for row in progress.track(range(count), count, "comparing masks with their films"):
        example = prepared.cases[row]
        void.append(float((example["label"] == anatomy.VOID).mean()))
        example = example | {"label": anatomy.clear_void(example["label"])}
        arrays = {name: example[name] for name in ("image", "label", "spacing")}
        has_label = kinds.of_row(row).distinct_labels()[1:] if kinds else None
        measurements.append(
            outliers.of_case(**arrays, structures=prepared.cohort.structures, has_label=has_label)
        )
        thumbnails.append(duplicates.thumbnail(example["image"]))
        digests.append(duplicates.digest(example["image"]))
        inspections.append(recorded[row] or inspection.inspect_mask(example["label"]))
        case_id = str(prepared.cohort.cases["case_id"].iloc[row])
        edge_ranks[case_id] = outliers.edge_ranks(example["image"], example["label"])
    index = pd.Index(prepared.cohort.cases["case_id"], name="case_id")
    return Reading(
        pd.DataFrame(measurements, index=index),
        np.stack(thumbnails),
        digests,
        outliers.misoriented(edge_ranks),
        void,
        inspections,
    )


def _label_errors(prepared: Prepared, read: label_errors.PairReader, sheet: Path) -> dict[str, Any]:
    """Rank the masks, and draw those that look wrong."""
    ids = prepared.cohort.cases["case_id"].tolist()
    ranking = label_errors.rank(read, ids, prepared.cohort.structures)
    if first := ranking.label_errors[:_MAX_DRAWN]:
        pairs = read([error.row for error in first])
        strips = [_evidence(prepared, error, pair) for error, pair in zip(first, pairs, strict=True)]
        overlays.write_sheet(sheet, strips)
    return {
        "median_dice": None if np.isnan(ranking.median_dice) else ranking.median_dice,
        "threshold": label_errors.Z_THRESHOLD,
        "unjudged": list(ranking.unscored_structures),
        "scores": dict(zip(ids, ranking.scores.round(3).tolist(), strict=True)),
        "flagged": [
            {key: value for key, value in error._asdict().items() if key != "row"}
            for error in ranking.label_errors
        ],
    }


def _evidence(
    prepared: Prepared, error: label_errors.LabelError, pair: label_errors.Pair
) -> tuple[str, list[overlays.Tile]]:
    """Return a caption and three tiles: the radiograph, the cohort's mask on it, and both masks on it."""
    film, empty = prepared.cases[error.row]["image"], np.zeros_like(pair.label)
    tiles = [
        overlays.Tile("the film", film, empty),
        overlays.Tile("its mask", film, pair.label),
        overlays.Tile("tinted: the network's", film, pair.label, pair.prediction),
    ]
    return f"{error.case_id}: {error.reason}", tiles


def _all_cases(by_name: Mapping[str, Prepared]) -> pd.DataFrame:
    """Return `case_id`, `patient_id`, `split` and `cohort` of the cases of all cohorts."""
    columns = ["case_id", "patient_id", "split"]
    tables = [prepared.cohort.cases[columns].assign(cohort=name) for name, prepared in by_name.items()]
    return pd.concat(tables, ignore_index=True)


def _identical(
    cases: pd.DataFrame, digests: Sequence[str], columns: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the groups of cases that share a radiograph or a mask, with their number of patients."""
    return [
        {key: cases[column].iloc[rows].tolist() for key, column in columns.items()}
        | {"patients": int(cases["patient_id"].iloc[rows].nunique())}
        for rows in duplicates.identical(digests)
    ]


def _near_duplicates(cases: pd.DataFrame, digests: Sequence[str], thumbnails: np.ndarray) -> dict[str, Any]:
    """Return the pairs of distinct radiographs that are near-duplicates, and how many are not listed."""
    rows, owners = duplicates.distinct(digests, cases["patient_id"].tolist())
    with Progress("comparing films", duplicates.comparisons(len(rows)), "blocks") as blocks:
        near = duplicates.pairs(thumbnails[rows], owners, advance=blocks.advance)
    pairs = [(rows[pair.first], rows[pair.second]) for pair in near.pairs]
    return {
        "near_duplicates": [
            {key: cases[column].iloc[list(pair)].tolist() for key, column in _GROUP.items()}
            | {"likeness": match.likeness}
            for pair, match in zip(pairs, near.pairs, strict=True)
        ],
        "near_duplicates_not_listed": near.total - len(near.pairs),
    }


def _summary(prepared: Prepared, reading: Reading) -> dict[str, Any]:
    """Return the entry of a cohort in `check.json`."""
    cases = prepared.cohort.cases
    ids, inspections = cases["case_id"].tolist(), reading.inspections
    by_case = dict(zip(ids, inspections, strict=True))
    return {
        "headers": inspection.aggregate_notes(ids, [record.notes for record in inspections]),
        "header_notes": {case_id: list(one.notes) for case_id, one in by_case.items() if one.notes},
        "spacing_kinds": inspection.spacing_kinds(inspections),
        "unknown_spacing": [case_id for case_id, one in by_case.items() if one.spacing_kind == "unknown"],
        "interpolated": [case_id for case_id, one in by_case.items() if one.interpolated],
        "unreadable": [
            list(error) for error in (*prepared.cases.excluded, *cohort_loader.changed_files(prepared))
        ],
        "void": group_sizes.void_of_groups(reading.void, cases, prepared.cohort.attributes),
        "cases": len(cases),
        "patients": cases["patient_id"].nunique(),
        "excluded": [list(entry) for entry in prepared.excluded],
        "orientation": {
            "consistent": outliers.consistent(reading.misoriented, len(cases)),
            "turned": [case._asdict() for case in reading.misoriented],
        },
        "outliers": [outlier._asdict() for outlier in outliers.outliers(reading.measurements)],
        "absent": outliers.absent(reading.measurements),
    }

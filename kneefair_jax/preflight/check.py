"""What is in a cohort, said and shown before anyone trains: `launch.py --mode=check`."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kneefair_jax import anatomy, groups, label_errors
from kneefair_jax import cohort as cohorts
from kneefair_jax.data import cohort_loader, inspection, mask_checks, readers
from kneefair_jax.data.cohort_loader import Prepared
from kneefair_jax.data.inspection import Inspection
from kneefair_jax.preflight import (
    duplicates,
    faults,
    group_sizes,
    mask_orientation,
    outliers,
    void_pixels,
)
from kneefair_jax.preflight.group_sizes import SmallGroup
from kneefair_jax.report import contact_sheet
from kneefair_jax.runtime import atomic, progress
from kneefair_jax.runtime.progress import Progress
from kneefair_jax.safe_text import without_paths_in

_TILES = 8
_ATTRIBUTES = 2
_SHOWN = 10
_STRANGE = 0.7  # a median Dice with the network below which it is at fault, not the masks
_SUSPECTS = 24  # on their sheet
_GROUP = {"cases": "case_id", "cohorts": "cohort", "splits": "split"}


class Reading(NamedTuple):
    """A cohort read through.

    Attributes:
        measured: of `outliers.of_case`, indexed by case id.
        thumbnails: f32[N, 256], of `duplicates.thumbnail`.
        digests: of the films, by `duplicates.digest`.
        turned: the cases whose mask fits its film in another orientation.
        void: f64[N], the share of each case's pixels that are void.
        inspections: of each case, as its files were decoded; of the prepared mask where the source records none.
    """

    measured: pd.DataFrame
    thumbnails: np.ndarray
    digests: list[str]
    turned: list[mask_orientation.Turned]
    void: list[float]
    inspections: list[Inspection]


def run(
    main: Prepared,
    external: Prepared | None,
    directory: Path,
    against: str,
    say: Callable[[str], None],
    folders: Sequence[Path] = (),
    small: Sequence[SmallGroup] = (),
) -> None:
    """Says what there is, and writes `check.json`, `faults.csv` and `contact_sheet.png` into the directory.

    No file is decoded: the preparation of the cases recorded what their files show. Files that changed since then, or
    cannot be read any more, are named by case.

    Masks that look wrong are shown in `suspicious.png`, those of an external cohort in `suspicious_external.png`.

    Args:
        main: the cohort to train on.
        external: the one for evaluation alone.
        directory: made if absent.
        against: the checkpoint whose masks the cohort's are compared with (`label_errors.pair_reader`).
        say: gets the lines for the terminal.
        folders: known ones, as for `safe_text.without_paths`.
        small: groups that the report will not rank, of `group_sizes.small_groups`.

    Raises:
        InputError: there is no such checkpoint, or it segments other structures.
    """
    parts = {"cohort": main} | ({"external": external} if external else {})
    read = {name: label_errors.pair_reader(part, against, say) for name, part in parts.items()}
    readings = {name: _read(part) for name, part in parts.items()}
    counts = cohorts.table(main.cohort.cases, main.cohort.attributes)
    found: dict[str, Any] = {
        "schema": 1,
        "groups": counts.reset_index().to_dict("records"),
        "notes": main.cohort.notes(),
        "small_groups": [asdict(group) for group in small],
        "identical_films": _identical_films(parts, readings),
        **_near_duplicates(parts, readings),
        "identical_masks": _identical_masks(parts, readings),
        **{name: _of_part(part, readings[name]) for name, part in parts.items()},
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, pairs in read.items():
        sheet = directory / ("suspicious.png" if name == "cohort" else f"suspicious_{name}.png")
        sheet.unlink(missing_ok=True)  # of an earlier check
        if pairs:
            say(f"comparing {len(parts[name].cases)} masks with the network's")
            found[name]["suspicious"] = _suspicious(parts[name], pairs, sheet)
    ids = {str(case_id) for part in parts.values() for case_id in part.cohort.source.cases["case_id"]}
    ids |= {what for part in parts.values() for what, _ in part.excluded}
    atomic.write_json(directory / "check.json", _without_paths(found, ids, folders))
    listed = faults.table(found, list(parts))
    faults.write(directory / faults.TABLE, listed, folders)
    contact_sheet.write(directory / "contact_sheet.png", strips(main))
    say(cohorts.text(counts))
    for line in (*group_sizes.lines(small), *_lines(found, parts)):
        say(line)
    say(f"contact sheet: {directory / 'contact_sheet.png'}; all of this: {directory / 'check.json'}")
    say(f"by case: {len(listed)} faults of {listed['case_id'].nunique()} cases in {directory / faults.TABLE}")


def _without_paths(value: Any, ids: Collection[str], folders: Sequence[Path]) -> Any:
    """Return `safe_text.without_paths_in` of a JSON value, in which identifiers of cases stay as they are."""
    if isinstance(value, dict):
        return {key: _without_paths(item, ids, folders) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(item, ids, folders) for item in value]
    return value if isinstance(value, str) and value in ids else without_paths_in(value, *folders)


def strips(prepared: Prepared) -> list[tuple[str, list[contact_sheet.Tile]]]:
    """Some cases of each group of the first two attributes, evenly over the table; of all, where there is none."""
    cohort, cases = prepared.cohort, prepared.cases
    members = {
        name: np.flatnonzero(part.index == number)
        for attribute in cohort.attributes[:_ATTRIBUTES]
        for part in [groups.partition(cohort.cases, [attribute], missing_as_level=True)]
        for number, name in enumerate(part.names)
    } or {cohorts.ALL: np.arange(len(cases))}
    made = []
    for name, rows in members.items():
        table = cohort.cases.iloc[rows]
        caption = f"{name}: {table['patient_id'].nunique()} patients, {len(rows)} cases"
        shown = rows[np.unique(np.linspace(0, len(rows) - 1, _TILES).round().astype(int))]
        made.append((caption, [_tile(prepared, int(row)) for row in shown]))
    return made


def _tile(prepared: Prepared, row: int) -> contact_sheet.Tile:
    example = prepared.cases[row]
    return contact_sheet.Tile(prepared.cohort.cases["case_id"].iloc[row], example["image"], example["label"])


def _read(prepared: Prepared) -> Reading:
    """Every case once."""
    measured, thumbnails, digests, edge_ranks, void, inspections = [], [], [], {}, [], []
    recorded = prepared.cases.inspections or [None] * len(prepared.cases)
    count = len(prepared.cases)
    for row in progress.track(range(count), count, "comparing masks with their films"):
        example = prepared.cases[row]
        void.append(float((example["label"] == anatomy.VOID).mean()))
        example = example | {"label": anatomy.clear_void(example["label"])}
        measured.append(outliers.of_case(**example, structures=prepared.cohort.structures))
        thumbnails.append(duplicates.thumbnail(example["image"]))
        digests.append(duplicates.digest(example["image"]))
        inspections.append(recorded[row] or inspection.inspect_mask(example["label"]))
        case_id = str(prepared.cohort.cases["case_id"].iloc[row])
        edge_ranks[case_id] = mask_orientation.edge_ranks(example["image"], example["label"])
    index = pd.Index(prepared.cohort.cases["case_id"], name="case_id")
    return Reading(
        pd.DataFrame(measured, index=index),
        np.stack(thumbnails),
        digests,
        mask_orientation.turned(edge_ranks),
        void,
        inspections,
    )


def _suspicious(part: Prepared, read: label_errors.PairReader, sheet: Path) -> dict[str, Any]:
    """Ranks the masks, and draws those that look wrong."""
    ranking = label_errors.rank(read, part.cohort.cases["case_id"].tolist(), part.cohort.structures)
    shown = ranking.label_errors[:_SUSPECTS]
    if shown:
        pairs = read([one.row for one in shown])
        contact_sheet.write(sheet, [_evidence(part, *both) for both in zip(shown, pairs, strict=True)])
    return {
        "usual_dice": None if np.isnan(ranking.median_dice) else ranking.median_dice,
        "threshold": label_errors.Z_THRESHOLD,
        "unjudged": list(ranking.unscored_structures),
        "scores": dict(zip(part.cohort.cases["case_id"], ranking.scores.round(3).tolist(), strict=True)),
        "suspects": [
            {key: value for key, value in one._asdict().items() if key != "row"}
            for one in ranking.label_errors
        ],
    }


def _evidence(
    part: Prepared, suspect: label_errors.LabelError, pair: label_errors.Pair
) -> tuple[str, list[contact_sheet.Tile]]:
    """The film, the cohort's mask on it, and with it the network's."""
    film, nothing = part.cases[suspect.row]["image"], np.zeros_like(pair.label)
    tiles = [
        contact_sheet.Tile("the film", film, nothing),
        contact_sheet.Tile("its mask", film, pair.label),
        contact_sheet.Tile("tinted: the network's", film, pair.label, pair.prediction),
    ]
    return f"{suspect.case_id}: {suspect.reason}", tiles


def _everyone(parts: dict[str, Prepared]) -> pd.DataFrame:
    """The cases of all cohorts: `case_id`, `patient_id`, `split`, `cohort`."""
    columns = ["case_id", "patient_id", "split"]
    tables = [part.cohort.cases[columns].assign(cohort=name) for name, part in parts.items()]
    return pd.concat(tables, ignore_index=True)


def _identical_films(parts: dict[str, Prepared], readings: dict[str, Reading]) -> list[dict[str, Any]]:
    """The groups of cases of several patients that have one film."""
    everyone = _everyone(parts)
    patients = everyone["patient_id"].tolist()
    digests = [digest for reading in readings.values() for digest in reading.digests]
    return [
        {key: everyone[column].iloc[rows].tolist() for key, column in _GROUP.items()}
        | {"patients": len({patients[row] for row in rows})}
        for rows in duplicates.identical(digests)
        if len({patients[row] for row in rows}) > 1
    ]


def _identical_masks(parts: dict[str, Prepared], readings: dict[str, Reading]) -> list[dict[str, Any]]:
    everyone = _everyone(parts)
    digests = [one.mask_sha256 for reading in readings.values() for one in reading.inspections]
    return [
        {
            "cases": everyone["case_id"].iloc[rows].tolist(),
            "cohorts": everyone["cohort"].iloc[rows].tolist(),
            "patients": int(everyone["patient_id"].iloc[rows].nunique()),
        }
        for rows in duplicates.identical(digests)
    ]


def _near_duplicates(parts: dict[str, Prepared], readings: dict[str, Reading]) -> dict[str, Any]:
    """The pairs of distinct films that are nearly one, and how many are not listed."""
    everyone = _everyone(parts)
    thumbnails = np.concatenate([reading.thumbnails for reading in readings.values()])
    digests = [digest for reading in readings.values() for digest in reading.digests]
    rows, owners = duplicates.distinct(digests, everyone["patient_id"].tolist())
    with Progress("comparing films", duplicates.comparisons(len(rows)), "blocks") as shown:
        near = duplicates.pairs(thumbnails[rows], owners, advance=shown.advance)
    pairs = [(rows[pair.first], rows[pair.second]) for pair in near.pairs]
    return {
        "near_duplicates": [
            {key: everyone[column].iloc[list(pair)].tolist() for key, column in _GROUP.items()}
            | {"likeness": one.likeness}
            for pair, one in zip(pairs, near.pairs, strict=True)
        ],
        "near_duplicates_not_listed": near.total - len(near.pairs),
    }


def _of_part(part: Prepared, reading: Reading) -> dict[str, Any]:
    cases = part.cohort.cases
    ids, inspections = cases["case_id"].tolist(), reading.inspections
    return {
        "headers": inspection.aggregate_notes(ids, [one.notes for one in inspections]),
        "header_notes": {
            case_id: list(one.notes) for case_id, one in zip(ids, inspections, strict=True) if one.notes
        },
        "spacing_kinds": inspection.spacing_kinds(inspections),
        "interpolated": [case_id for case_id, one in zip(ids, inspections, strict=True) if one.interpolated],
        "unreadable": [list(one) for one in (*part.cases.excluded, *cohort_loader.changed_files(part))],
        "void": void_pixels.of_groups(reading.void, cases, part.cohort.attributes),
        "cases": len(cases),
        "patients": cases["patient_id"].nunique(),
        "left_out": [list(entry) for entry in part.excluded],
        "orientation": {
            "consistent": mask_orientation.consistent(reading.turned, len(cases)),
            "turned": [one._asdict() for one in reading.turned],
        },
        "outliers": [outlier._asdict() for outlier in outliers.outliers(reading.measured)],
        "absent": outliers.absent(reading.measured),
    }


def _lines(found: dict[str, Any], parts: dict[str, Prepared]) -> Iterator[str]:
    for note in found["notes"]:
        yield f"note: {note}"
    films = found["identical_films"]
    yield f"films that several patients share: {len(films) or 'none'}"
    for group in films[:_SHOWN]:
        yield f"  {_some(group['cases'])}: pixel for pixel the same film, of {group['patients']} patients"
    pairs, more = found["near_duplicates"], found["near_duplicates_not_listed"]
    yield f"near-duplicate films of different patients: {len(pairs) + more or 'none'}"
    for pair in pairs[:_SHOWN]:
        one, other = (f"{case} ({side})" for case, side in zip(pair["cases"], pair["splits"], strict=True))
        yield f"  {one} and {other}: likeness {pair['likeness']:.2f}"
    if len(pairs) + more > _SHOWN:
        yield f"  and {len(pairs) + more - _SHOWN} more"
    groups = found["identical_masks"]
    yield f"masks that several cases share: {len(groups) or 'none'}"
    for group in groups[:_SHOWN]:
        yield f"  {_some(group['cases'])}: pixel for pixel the same mask, of {group['patients']} patients"
    for name in ("cohort", "external"):
        if name not in found:
            continue
        part, of = found[name], "" if name == "cohort" else " of the external cohort"
        if part["unreadable"]:
            yield f"WARNING: files{of} that cannot be read, or changed meanwhile: {len(part['unreadable'])} cases"
            for case_id, why in part["unreadable"][:_SHOWN]:
                yield f"  {case_id}: {' '.join(why.split())}"
        yield from void_pixels.lines(part["void"], of)
        if part["interpolated"]:
            faulty = part["interpolated"]
            yield (
                f"WARNING: interpolated labels in {len(faulty)} of {part['cases']} masks{of}: {_some(faulty)}; where "
                f"two structures meet, a thin rim has the label of a third; {mask_checks.EXPORT_LABELS}"
            )
        for structure, cases in part["absent"].items():
            yield f"{structure} is absent from {len(cases)} of {part['cases']} masks{of}: {_some(cases)}"
        yield from _orientation(part["orientation"], part["cases"], name, parts[name].cohort.source.settings)
        if "suspicious" in part:
            yield from _suspects(part["suspicious"], part["cases"], of, part["orientation"]["consistent"])
        yield f"outliers{of}: {len(part['outliers']) or 'none'}"
        for outlier in part["outliers"][:_SHOWN]:
            yield "  {case_id}: {measure} {value:.4g}, median {median:.4g}".format(**outlier)


def _some(cases: list[str]) -> str:
    return ", ".join(cases[:_SHOWN]) + (" ..." if len(cases) > _SHOWN else "")


def _orientation(result: dict[str, Any], cases: int, name: str, settings: Mapping[str, Any]) -> Iterator[str]:
    turned, of = result["turned"], "" if name == "cohort" else " of the external cohort"
    if common := result["consistent"]:
        remedy = "correct their headers"
        current = readers.ORIENTATIONS.get(settings.get("orientation") or "none")
        if settings.get("kind") == "folder" and current is not None:
            flag = "data.orientation" if name == "cohort" else "data.external_orientation"
            value = readers.name_of(current.compose(readers.ORIENTATIONS[common]))
            remedy += f", or (where film or mask states no orientation) give --config.{flag}={value}"
        yield (
            f"WARNING: {len(turned)} of {cases} masks{of} lie on their films only when laid out by {common}; {remedy}"
        )
    elif turned:
        yield f"WARNING: {len(turned)} of {cases} masks{of} fit their film better in another orientation; correct them:"
        for one in turned[:_SHOWN]:
            yield "  {case_id}: {orientation}".format(**one)


def _suspects(found: dict[str, Any], cases: int, of: str, consistent: str) -> Iterator[str]:
    suspects, usual = found["suspects"], found["usual_dice"]
    if cases < label_errors.MIN_CASES:
        yield f"masks that look wrong{of}: not looked for; {cases} cases are fewer than {label_errors.MIN_CASES}"
        return
    grid = "; moves in pixels of the working grid" if suspects else ""
    yield f"masks that look wrong{of}: {len(suspects) or 'none'} of {cases}{grid}"
    if found["unjudged"]:
        few = f"in fewer than {label_errors.MIN_CASES} cases"
        yield f"  not judged, being {few}: {', '.join(found['unjudged'])}"
    if consistent and (usual is None or usual < _STRANGE):
        yield f"  median Dice with the network {usual or 0:.2f}, since the masks lie otherwise: see the warning above"
    elif usual is None or usual < _STRANGE:
        yield f"  median Dice with the network {usual or 0:.2f}: it does not know such films, and this says little"
    for one in suspects[:_SHOWN]:
        yield "  {case_id}: {reason} (Dice {dice:.2f}, score {score:.1f})".format(**one)

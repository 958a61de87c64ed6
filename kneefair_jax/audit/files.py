"""Match masks and radiographs to cases: by the file's name, by the paths of a table, or by the keys of arrays."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.audit.cases import Cohort, Excluded
from kneefair_jax.audit.mask_faults import REFERENCE
from kneefair_jax.data import mask_files
from kneefair_jax.data.mask_files import MaskArray, MaskSource, StructureFiles
from kneefair_jax.data.readers import SUFFIXES, limits, suffix_of
from kneefair_jax.errors import InputError
from kneefair_jax.report.text.formatting import examples

_MOST_NAMES = 5  # of missing cases in a message

type Arrays = Mapping[str, np.ndarray]  # case id -> label values, integers [H, W]


class CaseFiles(NamedTuple):
    """Masks or radiographs of cases.

    Attributes:
        by_case: case id -> its file, its files by structure, or its array, for the cases that have any.
        unlisted: names of the files that belong to no case.
        remark: why a file with the name of a film belongs to no case; "" where there is none.
    """

    by_case: dict[str, MaskSource]
    unlisted: list[str]
    remark: str = ""


class MatchedFiles(NamedTuple):
    """The files of the cases that can be scored.

    Attributes:
        cohort: the cases that have both masks, as `on_missing` requires.
        truth: case id -> reference mask.
        predictions: model -> case id -> prediction.
        films: case id -> radiograph, of the cases that have one.
    """

    cohort: Cohort
    truth: dict[str, MaskSource]
    predictions: dict[str, dict[str, MaskSource]]
    films: dict[str, Path]


def match(
    cohort: Cohort,
    truth: Path | Arrays,
    predictions: Mapping[str, Path | Arrays],
    images: Path | None,
    on_missing: str,
    structures: Sequence[str],
) -> MatchedFiles:
    """Match masks and radiographs to the cases; the cohort gets notes on what is excluded.

    Args:
        cohort: the cases.
        truth: folder of the reference masks, or case id -> array.
        predictions: model -> the same for its predictions.
        images: folder of the radiographs; None matches none.
        on_missing: of `options.CaseOptions`.
        structures: whose names files of one structure have.

    Raises:
        InputError: a mask is missing or ambiguous; the message names folder, case and remedy.
    """
    ids = list(cohort.frame["case_id"])
    references = _references(cohort, truth, ids, structures)
    with_truth = [case for case in ids if case in references.by_case]
    if without := [case for case in ids if case not in references.by_case]:
        text = f"no reference mask for {len(without)} of {len(ids)} cases ({examples(without)})"
        if on_missing != "skip" or not with_truth:
            raise InputError(
                f"--truth {_name(truth)}: {text}{_unmatched(references, without)}; correct the case ids or the folder, "
                "or exclude such cases with --on-missing skip"
            )
        cohort.notes.append(f"{text}: excluded")
    _note_links(cohort, truth, references.by_case, "--truth")
    excluded = [Excluded(case, REFERENCE, "no reference mask") for case in without]
    excluded += cohort.unmatched(references.unlisted, REFERENCE, f"no row of {cohort.path.name}")
    by_model = {
        model: _predictions(cohort, source, with_truth, structures) for model, source in predictions.items()
    }
    missing = _missing_predictions(cohort, with_truth, predictions, by_model, on_missing)
    for model, source in predictions.items():
        of = f" by {model}" if model else ""
        _note_links(cohort, source, by_model[model].by_case, f"--pred{of}")
        excluded += cohort.unmatched(by_model[model].unlisted, model, "no case with a reference mask")
    scored = with_truth
    if on_missing == "skip":  # for every model, so that all are scored on the same cases
        excluded += missing
        without_prediction = {entry.case_id for entry in missing}
        scored = [case for case in scored if case not in without_prediction]
        if not scored:
            raise InputError("no case has a prediction by every model; correct the folders given as --pred")
    cohort = cohort.of(scored, excluded)
    by_case = {model: masks.by_case for model, masks in by_model.items()}
    films = {} if images is None else _match_images(cohort, images)
    return MatchedFiles(cohort, references.by_case, by_case, films)


def _references(
    cohort: Cohort, truth: Path | Arrays, ids: Sequence[str], structures: Sequence[str]
) -> CaseFiles:
    """Match reference masks: by the paths of the table if any is below the folder, or else by case id."""
    if not isinstance(truth, Path):
        return _match_arrays(truth, ids, "--truth")
    paths = dict(zip(ids, cohort.paths["mask"], strict=True))
    by_path = find_by_paths(truth, paths, cohort.frame.index, "--truth", cohort.path)
    if by_path:
        return CaseFiles({**by_path}, [])
    if (cohort.paths["mask"] != "").any():
        cohort.notes.append(
            f"no path of {cohort.path.name}'s column mask is below --truth, so masks were matched by case_id"
        )
    return _find(truth, ids, "--truth", structures)


def _predictions(
    cohort: Cohort, source: Path | Arrays, cases: Sequence[str], structures: Sequence[str]
) -> CaseFiles:
    """Match predictions by case id or, if none has one as its name, by the names of the films in the column `image`.

    `kneefair predict` names a mask as its film, by its path below a folder or by its name alone. A name that several
    films share matches nothing; nor does any name if several files share one.
    """
    by_id = _find(source, cases, "--pred", structures)
    if by_id.by_case or not isinstance(source, Path):
        return by_id
    images = cohort.paths["image"][cohort.frame["case_id"].isin(cases)]
    stems = [image[: len(image) - len(suffix_of(image))] for image in images]
    for names in (stems, [Path(stem).name for stem in stems]):
        unique = [name for name, count in Counter(names).items() if name and count == 1]
        try:
            by_film = find(source, unique, "--pred", structures)
        except InputError:  # two files of one name
            continue
        if by_film.by_case:
            cohort.notes.append(
                f"no file of --pred {source.name} is named by case_id: masks matched by film name (column image)"
            )
            matched = zip(cases, names, strict=True)
            by_case = {case: by_film.by_case[name] for case, name in matched if name in by_film.by_case}
            return CaseFiles(by_case, by_film.unlisted, _shared_names(by_film.unlisted, stems))
    return by_id


def _shared_names(unlisted: Sequence[str], stems: Sequence[str]) -> str:
    """Return a remark on the unlisted files whose name several films have, whose paths lack their endings."""
    counts = Counter(Path(stem).name for stem in stems)
    files = [name for name in unlisted if counts[name[: len(name) - len(suffix_of(name))]] > 1]
    return f"; {len(files)} files ({examples(files)}) have a name that several films share" if files else ""


def _missing_predictions(
    cohort: Cohort,
    cases: Sequence[str],
    sources: Mapping[str, Path | Arrays],
    by_model: Mapping[str, CaseFiles],
    on_missing: str,
) -> list[Excluded]:
    """Refuse the missing predictions of all models, or note and return them."""
    entries, refusals, link_hint = [], [], ""
    for model, files in by_model.items():
        missing = [case for case in cases if case not in files.by_case]
        if not missing:
            continue
        entries += [Excluded(case, model, "no prediction") for case in missing]
        text = f"no prediction{f' by {model}' if model else ''} for {len(missing)} of {len(cases)} cases"
        if on_missing == "stop" or len(missing) == len(cases):
            names = f"({examples(missing, _MOST_NAMES)}){files.remark}{_unmatched(files, missing)}"
            refusals.append(f"--pred {_name(sources[model])}: {text} {names}")
            if not files.by_case:
                link_hint = " (`kneefair init --link-dir` names the films so)"
        else:
            action = "excluded" if on_missing == "skip" else "scored as empty masks"
            cohort.notes.append(f"{text} ({examples(missing)}){files.remark}: {action}")
    if refusals:
        refused = "\n".join(refusals)
        raise InputError(
            f"{refused}; add them, each file with its case_id as name{link_hint}, or choose --on-missing skip (exclude "
            "them) or zero (score them as empty masks)"
        )
    return entries


def _unmatched(files: CaseFiles, missing: Sequence[str]) -> str:
    """Name a file without a case, if no case has a file: the one whose name holds the first missing case id."""
    if files.by_case or not files.unlisted:
        return ""
    name = next((name for name in files.unlisted if missing[0] in name), files.unlisted[0])
    suffix = "".join(Path(name).suffixes[-2:] if name.endswith(".gz") else Path(name).suffixes[-1:])
    return (
        f"; there is {name}: rename it {missing[0]}{suffix}, or write its name without the suffix as case_id"
    )


def _match_images(cohort: Cohort, folder: Path) -> dict[str, Path]:
    """Return case id -> radiograph: by the paths of the table if any is below the folder, or else by case id."""
    ids = list(cohort.frame["case_id"])
    paths = dict(zip(ids, cohort.paths["image"], strict=True))
    by_path = find_by_paths(folder, paths, cohort.frame.index, "--images", cohort.path)
    files: Mapping[str, MaskSource] = by_path or find(folder, ids, "--images").by_case
    _note_links(cohort, folder, files, "--images")
    return {case: path for case, path in files.items() if isinstance(path, Path)}


def _find(source: Path | Arrays, cases: Sequence[str], option: str, structures: Sequence[str]) -> CaseFiles:
    if isinstance(source, Path):
        return find(source, cases, option, structures)
    return _match_arrays(source, cases, option)


def _match_arrays(arrays: Arrays, cases: Sequence[str], option: str) -> CaseFiles:
    by_case: dict[str, MaskSource] = {}
    for case in cases:
        if case in arrays:
            values = np.asarray(arrays[case])
            if values.ndim != 2 or values.dtype.kind not in "biu" or not values.size:
                raise InputError(
                    f"{option}: the array of case {case!r} has shape {values.shape} and type {values.dtype}; give "
                    "integers [H, W]"
                )
            values = values.astype(np.uint8) if values.dtype.kind == "b" else values
            by_case[case] = MaskArray(f"{option} array of case {case!r}", values)
    return CaseFiles(by_case, sorted(set(map(str, arrays)) - set(cases)))


def _name(source: Path | Arrays) -> str:
    return str(source) if isinstance(source, Path) else "(arrays)"


def _note_links(cohort: Cohort, source: Path | Arrays, files: Mapping[str, MaskSource], option: str) -> None:
    if isinstance(source, Path) and (linked := mask_files.cases_linked_outside(source, files)):
        cohort.notes.append(
            f"{len(linked)} files of {option} are reached through symbolic links that lead out of the folder (cases: "
            f"{examples(linked)})"
        )


def find(folder: Path, cases: Sequence[str], option: str, structures: Sequence[str] = ()) -> CaseFiles:
    """Find the files of cases by name, in the folder and those below it: `a.nii.gz` or `x/a.png` is of case `a`.

    A case id with a slash, `x/a`, is the file's full path below the folder. Files of other formats are ignored. A case
    without a file of its name may have one for each structure: `a_femur.png` or `a/femur.png`.

    Args:
        folder: where to look.
        cases: case ids.
        option: that gave the folder, for the messages.
        structures: whose names files of one structure have.

    Raises:
        InputError: there is no such folder, one below it cannot be listed, there is no image in it, two files for one
            case, or files of some structures alone.
    """
    by_name: dict[str, list[Path]] = {}
    paths, errors = mask_files.list_files(_require(folder, option))
    if errors:
        raise errors[0]
    for path in paths:
        suffix = suffix_of(path.name)
        if suffix and not path.name.startswith("."):
            stem = path.name[: -len(suffix)]
            for name in {stem, (path.parent.relative_to(folder) / stem).as_posix()}:
                by_name.setdefault(name, []).append(path)
    if not by_name:
        raise InputError(f"{option} {folder}: no image files in it ({', '.join(SUFFIXES)})")
    for case in cases:
        if len(files := by_name.get(case, [])) > 1:
            raise InputError(
                f"{option} {folder}: case {case!r} has {len(files)} files, {files[0]} and {files[1]}; keep one, or "
                "give the folder that holds one for each case"
            )
    by_case: dict[str, MaskSource] = {case: by_name[case][0] for case in cases if case in by_name}
    used = {path for path in by_case.values() if isinstance(path, Path)}
    scored = anatomy.scored_structures(structures)
    for case in cases:
        if case in by_case:
            continue
        # In place of overlap classes there may be one file per whole bone.
        by_structure = _by_structure(case, structures, by_name, option) or _by_structure(
            case, scored, by_name, option
        )
        if by_structure:
            by_case[case] = by_structure
            used |= set(by_structure.files.values())
    if not by_case:
        _refuse_other_names(folder, cases, option, structures, by_name)
    unused = {path for paths in by_name.values() for path in paths} - used
    return CaseFiles(by_case, [path.name for path in sorted(unused)])


def _by_structure(
    case: str, structures: Sequence[str], by_name: Mapping[str, list[Path]], option: str
) -> StructureFiles | None:
    """Return the files of a case, one per structure; None if there is none."""
    files: dict[str, Path] = {}
    for structure in structures:
        names = mask_files.structure_stems(case, structure)
        paths = sorted({path for name in names for path in by_name.get(name, ())})
        if len(paths) > 1:
            raise InputError(
                f"{option}: case {case!r} has {len(paths)} files of {structure!r}, {paths[0]} and {paths[1]}; keep one"
            )
        if paths:
            files[structure] = paths[0]
    if files and (missing := [name for name in structures if name not in files]):
        raise InputError(
            f"{option}: case {case!r} has one file per structure, such as {next(iter(files.values()))}, and none of "
            f"{missing[0]!r}; add it (empty if the structure is absent), or name in --labels the structures that "
            "every case has"
        )
    return StructureFiles(files) if files else None


def _refuse_other_names(
    folder: Path,
    cases: Sequence[str],
    option: str,
    structures: Sequence[str],
    by_name: Mapping[str, list[Path]],
) -> None:
    """Refuse files whose names begin with case ids; the message explains the names of files of one structure."""
    for case in cases:
        names = sorted(name for name in by_name if name.startswith((f"{case}_", f"{case}-", f"{case}/")))
        if len(names) > 1:
            labels = (
                f"--labels names {', '.join(structures)}" if structures else "--labels names no structure"
            )
            raise InputError(
                f"{option} {folder}: no file has a case id as its name, and {len(names)} begin with {case!r}, such as "
                f"{by_name[names[0]][0]} and {by_name[names[1]][0]}; if each holds one structure, name them "
                f"CASE_STRUCTURE, such as {case}_femur.png, by the structures of --labels ({labels}); otherwise name "
                "one file by the case id alone"
            )


def find_by_paths(
    folder: Path,
    paths: Mapping[str, str],
    rows: Sequence[int],
    option: str,
    table: Path,
    *,
    beside_table: bool = True,
) -> dict[str, Path]:
    """Return case id -> file by a table's paths, relative to the folder, for the files that exist.

    Args:
        folder: where they must be.
        paths: case id -> its path, "" if the table has none.
        rows: of these cases in the table, for the messages.
        option: that gave the folder, for the messages.
        table: the table.
        beside_table: whether its paths may also be relative to the table's folder, as `data.folder` reads them.

    Raises:
        InputError: there is no such folder, or a path that exists leads out of it.
    """
    is_inside = mask_files.inside(_require(folder, option))
    by_case: dict[str, Path] = {}
    for row, (case, name) in zip(rows, paths.items(), strict=True):
        if not name:
            continue
        path, other = folder / name, table.parent / name
        # As written: links are not followed.
        is_below = Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))
        if limits.is_present(path) and is_below:
            by_case[case] = path
        # If the table's masks are outside the folder, the folder holds those of another reader.
        elif beside_table and limits.is_present(other) and is_inside(other.parent):
            by_case[case] = other
        elif limits.is_present(path):
            raise InputError(
                f"{table} row {row}: {name} leads out of {option} {folder}; write a path below that folder, or give "
                f"the folder that holds the file as {option}"
            )
    return by_case


def _require(folder: Path, option: str) -> Path:
    if not os.path.isdir(folder):
        raise InputError(f"{option} {folder}: no such folder; correct the path")
    return folder

"""`kneefair init DIR`: drafts `metadata.csv` for a folder of films and masks, without stated identifiers."""

import argparse
import re
import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import command

if TYPE_CHECKING:  # pandas and pydicom take a second
    from kneefair_jax.data.draft.cases import Draft
    from kneefair_jax.data.draft.identity import Identifiers

REMEDIES = command.Remedies(
    option="--out",
    memory="give a part of the folder",
    resume=lambda: "the table is written at the end; the same command starts again",
)
_EPILOG = """\
examples:
  kneefair init my_knees
  kneefair init my_knees --images dicom --masks nifti --table patients.xlsx --columns sex=Gender age=Alter
  kneefair init my_knees --table patients.csv --values sex:1=male,2=female --link-dir my_knees_links

Each film with a mask becomes a row. A mask belongs to the film that a DICOM-SEG names, or to that of the same name
(a word such as _mask and the folders images and masks do not count), or to the only film of its folder.

The table is joined by the patient's ID in the DICOM header, or by a column image with the names of files. Then
pseudonyms replace the IDs: eight letters of a keyed hash. The key is drawn for each call and never written; with --key
FILE a patient has the same pseudonym in every call, unless an identifier occurs in it. Ages of 90 years and above
become 90. Sites are numbered.

A cell or path is compared with every text of the DICOM headers, except technical terms, and with the IDs, names, dates
and unwritten columns of the table. Identifiers that none of them states are not found: read the table before you share
it. Films are not changed, and DICOM files still state their patients: share none of them.
"""
_KEY_BYTES = 16


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = command.Parser(
        prog="kneefair init",
        description="Draft metadata.csv, the table of cases, from a folder of radiographs and masks (DICOM, NIfTI, "
        "PNG, TIFF, NPY). Names, dates and IDs that the DICOM headers and the clinical table state are not written.",
        epilog=_EPILOG,
    )
    result.add_argument("folder", type=Path, metavar="DIR", help="folder of the films and masks")
    result.add_argument("--out", type=Path, metavar="FILE", help="the table; by default DIR/metadata.csv")
    result.add_argument("--images", default="", metavar="SUB", help="folder of the films below DIR")
    result.add_argument("--masks", default="", metavar="SUB", help="folder of the masks below DIR")
    result.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="clinical table: .xlsx (FILE.xlsx:SHEET), or text with , ; tab or |",
    )
    lists = {
        "--columns": (
            "NAME=HEADER",
            "columns of --table; usual headers (Gender, Geschlecht, sexe) are found",
        ),
        "--values": (
            "NAME:CELL=LEVEL,...",
            "meaning of codes in --table: sex:1=male,2=female; numbers are never guessed",
        ),
        "--confirm-columns": (
            "NAME",
            "write a column of texts in which nearly every patient has one of their own; read its cells first",
        ),
        "--labels": (
            "NAME[=VALUE]",
            "structures of the masks: femur=1 tibia=2; needed if each structure has a file (CASE_femur.png)",
        ),
    }
    for flag, (metavar, meaning) in lists.items():
        result.add_argument(flag, nargs="+", action="extend", default=[], metavar=metavar, help=meaning)
    result.add_argument(
        "--patient-pattern",
        default="",
        metavar="REGEX",
        help="for films without DICOM header: a group that is the patient's ID in the path, such as '(P[0-9]+)_'",
    )
    result.add_argument(
        "--link-dir",
        type=Path,
        metavar="DIR2",
        help="folder of hard links (or copies) of the files under pseudonyms, where paths identify patients",
    )
    result.add_argument(
        "--key", type=Path, metavar="FILE", help="16 secret bytes or more, for stable pseudonyms"
    )
    result.add_argument(
        "--allow-similar-ids", action="store_true", help="join IDs that differ by zeros, case or spaces"
    )
    result.add_argument("--dry-run", action="store_true", help="show the summary; write nothing")
    result.add_argument(
        "--overwrite", action="store_true", help="replace an earlier table, and the links of an earlier call"
    )
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Draft the table and return 0, or the status of `runtime.command`."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return command.run(lambda: _main(arguments), REMEDIES)


def _main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    from kneefair_jax.data import workbook
    from kneefair_jax.data.draft import cases, clinical_table, output, scan
    from kneefair_jax.runtime import progress

    out = options.out or (options.link_dir or options.folder) / "metadata.csv"
    table_file = options.table and workbook.split_sheet(options.table)[0]
    inputs = {"--table": table_file, "--key": options.key}
    target = output.Output(
        folder=options.folder,
        table=out,
        link_dir=options.link_dir,
        inputs={option: path for option, path in inputs.items() if path is not None},
        overwrite=options.overwrite,
    )
    output.require_writable(target, dry_run=options.dry_run)
    labels = _labels(options.labels)
    columns, values = _columns(options.columns), _values(options.values)
    if (columns or values or options.confirm_columns) and options.table is None:
        raise InputError(
            "--columns, --values and --confirm-columns describe --table; give --table FILE, or leave them out"
        )
    draft_options = cases.Options(
        key=_key(options.key),
        images=options.images,
        masks=options.masks,
        structures=tuple(labels),
        patient_pattern=_pattern(options.patient_pattern),
        allow_similar_ids=options.allow_similar_ids,
        has_links=options.link_dir is not None,
    )
    files = scan.read(
        options.folder,
        options.images,
        options.masks,
        lambda paths, total: progress.track(paths, total, "reading headers", "files"),
    )
    table = None
    if options.table is not None:
        confirmed = options.confirm_columns
        table = clinical_table.read(options.table, columns, values, files.identifiers, confirmed)
    segments = [label for file in files.files for label in file.segments]
    draft = cases.draft(files, draft_options, table)
    if not options.dry_run:
        text = draft.table.to_csv(index=False, lineterminator="\n")
        output.write(target, text, draft.links, files.paths)
    _print_summary(draft, "not written (--dry-run)" if options.dry_run else f"written to {out}")
    root = options.link_dir or options.folder
    structures = labels or _segment_labels(segments, files.identifiers)
    if not structures:
        structures = cases.mask_structures(
            options.folder, draft, lambda items, total: progress.track(items, total, "reading masks", "files")
        )
        if structures:
            print(
                "name the structures: in the next command, replace each `structure VALUE` by the name of the structure "
                "that has this value in the masks"
            )
    print(f"next:\n  {next_command(draft, root, out, structures)}")
    return 0


def _key(path: Path | None) -> bytes:
    if path is None:
        return secrets.token_bytes(32)
    try:
        key = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise InputError(
            f"--key {path}: {(error.strerror or '').lower()}; give a file that you can read"
        ) from error
    if len(key.strip()) < _KEY_BYTES:
        raise InputError(
            f"--key {path}: no file with {_KEY_BYTES} bytes or more; make one with `openssl rand -hex 32 > FILE`"
        )
    return key


def _pattern(text: str) -> str:
    try:
        groups = re.compile(text).groups if text else 1
    except re.error as error:
        raise InputError(f"--patient-pattern {text!r}: {error}; give a regular expression") from error
    if groups != 1:
        raise InputError(
            f"--patient-pattern {text!r}: has {groups} groups; put the patient's ID in one: '(P[0-9]+)_'"
        )
    return text


def _columns(texts: Sequence[str]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for text in texts:
        name, sign, header = text.partition("=")
        if not (sign and re.fullmatch(r"\w+", name) and header) or name in columns:
            raise InputError(f"--columns {text!r}: write NAME=HEADER, each name once, such as sex=Gender")
        columns[name] = header
    return columns


def _values(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    values: dict[str, dict[str, str]] = {}
    for text in texts:
        name, sign, pairs = text.partition(":")
        cells = [pair.partition("=") for pair in pairs.split(",")]
        if not (name and sign) or any(not (cell and equals and level) for cell, equals, level in cells):
            raise InputError(f"--values {text!r}: write NAME:CELL=LEVEL,..., such as sex:1=male,2=female")
        values.setdefault(name, {}).update({cell: level for cell, _, level in cells})
    return values


def _labels(texts: Sequence[str]) -> dict[str, str]:
    """Return structure -> values in the masks, "" where only the names are given."""
    labels: dict[str, str] = {}
    for text in (part for argument in texts for part in argument.split(",")):
        name, sign, value = (part.strip() for part in text.partition("="))
        if not name or name in labels or (sign and not value.isdigit()):
            raise InputError(f"--labels {text!r}: write NAME or NAME=VALUE, each name once, such as femur=1")
        labels[name] = value
    if labels and len({bool(value) for value in labels.values()}) > 1:
        raise InputError("--labels: write a value for each structure, or for none")
    return labels


def _segment_labels(segments: Sequence[str], identifiers: "Identifiers") -> Mapping[str, str]:
    """Return the labels of the DICOM-SEG files, which a run needs to be told."""
    names = list(dict.fromkeys(segments))
    is_usable = all(re.fullmatch(r"[\w -]+", name) and not identifiers.found_in(name) for name in names)
    return dict.fromkeys(names, "") if is_usable else {}


def _print_summary(draft: "Draft", where: str) -> None:
    from kneefair_jax.data.draft import cases
    from kneefair_jax.report.text.formatting import amount

    all_cases, patients = amount(len(draft.table), "case"), draft.table["patient_id"].nunique()
    print(f"metadata.csv: {all_cases} of {amount(patients, 'patient')}, {where}")
    for note in draft.notes:
        print(f"  {note}")
    if draft.unfilled:
        print("could not be filled:")
        for name, count in draft.unfilled.items():
            print(f"  {name}: {count} of {all_cases}; {cases.remedy(name)}")


def next_command(draft: "Draft", root: Path, out: Path, structures: Mapping[str, str]) -> str:
    """Return the command that checks the cohort of a table.

    Args:
        draft: the table.
        root: folder of its paths.
        out: the table's file.
        structures: name -> value in the masks, "" for the order of the names; empty for the labels in the masks.
    """
    words = ["kneefair", "check", "--config=folder", "--workdir=runs/check", f"--config.data.root={root}"]
    if out.parent.resolve() != root.resolve() or out.name != "metadata.csv":
        is_inside = out.parent.resolve() == root.resolve()
        words.append(f"--config.data.metadata={out.name if is_inside else out.resolve()}")
    if structures:
        text = ",".join(f"{name}={value}" if value else name for name, value in structures.items())
        words.append(f"--config.data.structures={text}")
    candidates = ("sex", "age", "race", "ethnicity", "site", "side", "manufacturer", "view")
    attributes = [name for name in candidates if _has_levels(draft, name)][:2]
    if attributes != ["sex", "age"]:  # the default of the config
        words.append(f"--config.data.attributes=({','.join(map(repr, attributes or ['sex']))},)")
    return " ".join(f'"{word}"' if "'" in word else shlex.quote(word) for word in words)


def _has_levels(draft: "Draft", name: str) -> bool:
    return name in draft.table and bool((draft.table[name] != "").any())


if __name__ == "__main__":
    command.exit_process(main())

"""Which group's network a file goes to, by a table of cases."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from kneefair_jax.data import cell_text, identifiers, metadata
from kneefair_jax.errors import InputError


def groups_of_cases(
    path: Path,
    names: Sequence[str],
    *,
    allow_similar: bool = False,
    say: Callable[[str], None] = lambda note: None,
) -> dict[str, str]:
    """The group of each case, as the networks' groups are called.

    Args:
        path: a CSV table with `case_id` and a column for each attribute of the groups; other columns are passed over.
        names: of the groups that have a network: `sex=female,race=A`.
        allow_similar: whether case ids may look alike.
        say: gets the notes on how the table was read.

    Returns:
        case id -> group.

    Raises:
        InputError: the networks are for everybody, or the table cannot be read, lacks a column, has a case twice or one
            of a group without a network.
    """
    if not names:
        raise InputError(
            "--metadata says each film's group, but these networks are for everybody; leave it out"
        )
    table, written, notes = metadata.read(path)
    attributes = re.findall(r"(?:^|,)([^=,]+)=", names[0])
    if lacking := [column for column in ("case_id", *attributes) if column not in table]:
        raise InputError(
            f"{path}: no column {lacking[0]!r}, which {names[0]!r} needs; it has {', '.join(table)}"
        )
    problems: list[metadata.Problem] = []
    options = metadata.Options(similar="--allow-similar-ids", allow_similar=allow_similar)
    metadata.check_identifiers(table, problems, ("case_id",), options)
    if "patient_id" in table and not allow_similar:
        patients = table["patient_id"][~table["patient_id"].map(cell_text.is_missing)]
        problems += identifiers.similar(dict(patients.items()), "patient_id", "patient", options.similar)
    found = {}
    for row, case in table["case_id"].items():
        group = ",".join(f"{attribute}={table.at[row, attribute]}" for attribute in attributes)
        if group not in names:
            known = ", ".join(map(repr, names))
            problems.append(
                (row, f"case {case!r} is of group {group!r}, which has no network; there are {known}")
            )
        found[case] = group
    metadata.refuse(path, problems)
    for note in [*notes, *metadata.word_notes(written, attributes)]:
        say(note)
    return found

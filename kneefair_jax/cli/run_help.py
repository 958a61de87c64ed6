"""The help of `kneefair train`, `evaluate`, `check` and `study`, and of `launch.py`, with all fields of a config.

The fields are the assignments and comments of `configs/default.py`. The file is parsed and not executed, so that the
help needs no import of JAX or ml_collections.
"""

import argparse
import ast
import difflib
import io
import re
import textwrap
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import kneefair_jax

_ABOUT = {
    "train": "Train a network on a cohort and evaluate it; the same command resumes an interrupted run.",
    "evaluate": "Evaluate a run again: with another selection rule, another report or an external cohort.",
    "check": "Read a cohort before training: faults of files, duplicates, label errors, speed of this machine.",
    "study": "Train several mitigations with several seeds on the same patients, and compare them.",
}
_EXAMPLES = {
    "train": (
        "--config=quickstart --workdir=runs/quickstart",
        "--config=folder --config.data.root=DIR --workdir=runs/mine",
        "--config=quickstart --workdir=runs/quickstart --dry-run",
    ),
    "evaluate": (
        "runs/quickstart",
        "runs/quickstart --config.select=worst_group --pdf",
        "runs/quickstart --config.data.external=DIR",
    ),
    "check": ("--config=folder --config.data.root=DIR --workdir=runs/mine",),
    "study": (
        "--config=study --workdir=runs/study",
        "--config=study_folder --config.data.root=DIR --workdir=runs/study --shard=0/4",
    ),
}
_FLAGS = {
    "--config=CONFIG": "a config file, a shipped one (quickstart, smoke, folder, study), or a run's config.json",
    "--workdir=DIR": "the run's folder: checkpoints, tables, report",
    "--config.FIELD=VALUE": "a field of the config, listed below; tuples in quotes: \"('sex','age')\"",
    "--mode=MODE": "of launch.py: train (default), evaluate, check or study",
    "--dry-run": "show cohort, splits, groups and steps; train nothing, and write nothing",
    "--time": "with --dry-run: also compile and time a few steps, for an estimate of the time",
    "--overwrite": "check: replace the result of an earlier check",
    "--pdf": "train, evaluate: also print report/summary.pdf, one or two pages, by Chromium or WeasyPrint; else "
    "delete an earlier one",
    "--shard=I/N": "study: train every N-th run from the I-th on, I = 0, ..., N - 1",
    "--distributed": "one of several processes of a run; SLURM, MPI, Kubernetes and Cloud TPUs are detected",
    "--coordinator=HOST:PORT": "of the first of several processes on other clusters",
    "--processes=N": "with --coordinator: the number of processes",
    "--process=K": "with --coordinator: the number of this process, from 0",
    "--helpfull": "all flags, with those of the libraries",
}
DEFAULTS = Path(kneefair_jax.__file__).parent / "configs" / "default.py"
# The section of the config that each function returns.
_SECTIONS = {
    "get_config": "",
    "_data": "data",
    "_mitigation": "mitigation",
    "_augment": "augment",
    "_report": "report",
    "folder": "data",
    "external": "data",
    "oai": "data",
    "siddiqui": "data",
    "phantom": "data",
    "study": "study",
}
_WIDTH = 110
_INDENT = 36


def text(program: str, mode: str) -> str:
    """Return the help.

    Args:
        program: as typed: `kneefair train`, `launch.py`.
        mode: the mode that the program runs.
    """
    folder = "RUN [--config.FIELD=VALUE ...]\n       " if mode == "evaluate" else ""
    usage = f"usage: {program} {folder}{f'{program} ' if folder else ''}--config=CONFIG --workdir=DIR"
    width = max(map(len, _FLAGS)) + 2
    return "\n".join(
        [
            f"{usage} [--config.FIELD=VALUE ...]",
            "",
            _ABOUT[mode],
            "",
            "examples:",
            *(f"  {program} {example}" for example in _EXAMPLES[mode]),
            "",
            "flags:",
            *(f"  {flag:<{width}}{meaning}" for flag, meaning in _FLAGS.items()),
            "",
            "fields of the config, each as --config.FIELD=VALUE:",
            "",
            fields_text(),
            "",
        ]
    )


class Field(NamedTuple):
    """A field of a config.

    Attributes:
        name: with its sections, such as `train.steps`.
        default: as Python text.
        comment: meaning, unit and range; "" if there is none.
    """

    name: str
    default: str
    comment: str


class Group(NamedTuple):
    """The fields that one function of `configs/default.py` sets.

    Attributes:
        title: what the fields are for.
        fields: in the order of the file.
    """

    title: str
    fields: list[Field]


def groups(path: Path = DEFAULTS) -> list[Group]:
    """Return the fields of a file such as `configs/default.py`, by function."""
    source = path.read_text(encoding="utf-8")
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    lines = source.splitlines()
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return [
        Group(_title(function), list(_fields(function, comments, lines)))
        for function in functions
        if function.name in _SECTIONS
    ]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of runs, and a flag for each field, to a parser for the completion."""
    for flag, meaning in _FLAGS.items():
        name, _, value = flag.partition("=")
        if name not in ("--config.FIELD", "--mode", "--helpfull"):
            parser.add_argument(name, action="store" if value else "store_true", help=meaning)
    fields = {field.name: field for group in groups() for field in group.fields}
    for name, field in fields.items():
        parser.add_argument(f"--config.{name}", help=field.comment.replace("%", "%%") or None)


def misspelled_field(fields: Sequence[str], path: Path = DEFAULTS) -> str:
    """Return the error of the first field that is none, if the name of a field is like it; "" otherwise.

    Args:
        fields: with `config.`, such as `config.train.stepz`.
        path: a file such as `configs/default.py`.
    """
    names = [field.name for group in groups(path) for field in group.fields]
    for name in (field.removeprefix("config.") for field in fields):
        # Some fields are tables, such as `data.bins`, and some names are sections.
        is_known = any(f"{name}.".startswith(f"{other}.") or other.startswith(f"{name}.") for other in names)
        if not is_known and (near := difflib.get_close_matches(name, names, 1, cutoff=0.8)):
            return f"the config has no field {name}; did you mean {near[0]}?"
    return ""


def fields_text(path: Path = DEFAULTS) -> str:
    """Return the fields with defaults and comments, grouped, for a terminal."""
    return "\n\n".join(
        "\n".join([group.title + ":", *map(_line, group.fields)]) for group in groups(path) if group.fields
    )


def _line(field: Field) -> str:
    head = f"  {field.name}={field.default}"
    if not field.comment:
        return head
    comment = textwrap.wrap(field.comment, _WIDTH - _INDENT)
    first = f"{head:<{_INDENT}}{comment.pop(0)}" if len(head) < _INDENT else head
    return "\n".join([first, *(" " * _INDENT + line for line in comment)])


def _title(function: ast.FunctionDef) -> str:
    first = (ast.get_docstring(function) or function.name).splitlines()[0]
    title = first.removeprefix("Return the ").partition(": sampler x")[0].rstrip(".")
    return title[0].upper() + title[1:]


def _fields(function: ast.FunctionDef, comments: dict[int, str], lines: list[str]) -> Iterator[Field]:
    """Yield the fields that a function assigns, such as `train.steps = 1000`, where `train` is a section."""
    section = _SECTIONS[function.name]
    sections: dict[str, str] = {}  # variable -> its section, with a dot at the end
    for node in function.body:
        if not isinstance(node, ast.Assign):
            continue
        *attributes, last = node.targets
        if isinstance(last, ast.Name):  # `config.train = train = ConfigDict()`, or the section itself
            place = _name(attributes[0], sections) if attributes else section
            sections[last.id] = f"{place}." if place else ""
            if attributes and not _is_section(last, function):  # its fields are set in a loop
                yield Field(place, "{}", _comment(node, comments, lines))
        elif isinstance(last, ast.Attribute):
            value = ast.unparse(node.value)
            is_section = value.startswith("_") or (value == "ConfigDict()" and _is_section(last, function))
            if not is_section:
                default = re.sub(r"ConfigDict\((.*)\)", lambda match: match[1] or "{}", value)
                yield Field(_name(last, sections), default, _comment(node, comments, lines))


def _is_section(target: ast.expr, function: ast.FunctionDef) -> bool:
    """Return whether the function assigns fields of this attribute, as in `config.check.against = ...`."""
    prefix = ast.unparse(target) + "."
    return any(
        ast.unparse(node.targets[-1]).startswith(prefix)
        for node in function.body
        if isinstance(node, ast.Assign)
    )


def _name(target: ast.expr, sections: dict[str, str]) -> str:
    variable, _, rest = ast.unparse(target).partition(".")
    return sections.get(variable, f"{variable}.") + rest


def _comment(node: ast.Assign, comments: dict[int, str], lines: list[str]) -> str:
    """Return the comment within an assignment, or else that of the lines above it."""
    within = [
        comments[line]
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        if line in comments
    ]
    if within:
        return " ".join(within)
    above: list[str] = []
    line = node.lineno - 1
    while line in comments and lines[line - 1].lstrip().startswith("#"):
        above.insert(0, comments[line])
        line -= 1
    return " ".join(above)

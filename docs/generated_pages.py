"""Generate the reference pages of the documentation from the code, as a hook of mkdocs.

`reference/config.md` has every field of `configs/default.py`; `reference/report.md` has every key of `report.json` and
every column of the CSV files; `reference/packages.md` has the first line of every module's docstring. `model_cards/`
has the cards of the shipped networks. The generated pages cannot disagree with the code.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
DEFAULTS = ROOT / "configs" / "default.py"
PACKAGE = ROOT / "kneefair_jax"

# The functions of configs/default.py whose fields stand below another name than their own.
_SECTIONS = {
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


class Field(NamedTuple):
    """A field of a config: `data.seed`, its default as source text, and its comment."""

    name: str
    default: str
    comment: str


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to the site; mkdocs calls this."""
    from mkdocs.structure.files import File  # only the environment of the documentation has mkdocs

    for name, page in PAGES.items():
        files.append(File.generated(config, name, content=page()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links to the model cards, which lie in the package, lead to the site's copies; mkdocs calls this."""
    return markdown.replace("](../kneefair_jax/weights/", "](model_cards/")


def config_page() -> str:
    """Return the page of all config fields, in the order of configs/default.py."""
    source = DEFAULTS.read_text()
    lines = [
        "# Config fields",
        "",
        "This page is generated from `configs/default.py`. Set a field on the command line, as in",
        "`--config.train.steps=2000`, or in a config of your own. An unknown field is an error.",
    ]
    for function in ast.parse(source).body:
        if isinstance(function, ast.FunctionDef):
            table = list(fields(source, function))
            if table:
                summary = (ast.get_docstring(function) or "").partition("\n")[0]
                lines += ["", f"## {_title(function.name)}", "", summary.replace("Return the", "The"), ""]
                lines += _rows(
                    ("field", "default", "meaning"),
                    ([_code(f.name), _code(f.default), f.comment] for f in table),
                )
    return "\n".join(lines) + "\n"


def fields(source: str, function: ast.FunctionDef) -> Iterator[Field]:
    """Yield the fields that a function of configs/default.py sets.

    Args:
        source: the text of the file.
        function: a function that builds a ConfigDict by assignments `name.field = default  # comment`.
    """
    section = _SECTIONS.get(function.name, "")
    sections: dict[str, str] = {}  # a variable -> the section that it holds
    for statement in function.body:
        if isinstance(statement, ast.Assign):
            paths = [_path(target, sections, section) for target in statement.targets]
            name = next((path for path in paths if path), section)
            sections |= {target.id: name for target in statement.targets if isinstance(target, ast.Name)}
            default = re.sub(r"^ConfigDict\((.*)\)$", r"\1", ast.unparse(statement.value)) or "{}"
            comment = _comment(source.splitlines(), statement)
            is_section = default == "{}" or re.fullmatch(r"_\w+\(\)", default)
            if any(paths) and (comment or not is_section):
                yield Field(name, default, comment)
        elif isinstance(statement, ast.For):  # the OAI's codes of quality
            for element in ast.literal_eval(statement.iter):
                yield Field(f"{section}.quality.{element}", "''", "see `data.quality`")


def _path(target: ast.expr, sections: dict[str, str], section: str) -> str:
    """Return `data.seed` for the target `data.seed`; "" for a variable. `sections` as in `fields`."""
    if not isinstance(target, ast.Attribute):
        return ""
    if isinstance(target.value, ast.Name):
        prefix = sections.get(target.value.id, section)
    else:
        prefix = _path(target.value, sections, section)
    return f"{prefix}.{target.attr}".lstrip(".")


def _comment(lines: list[str], statement: ast.stmt) -> str:
    """Return the comments on a statement's lines, or else the lines of comment directly above it."""
    own = range(statement.lineno - 1, statement.end_lineno or statement.lineno)
    comments = [lines[i].rpartition("  # ")[2] for i in own if "  # " in lines[i]]
    first = statement.lineno - 1
    while not comments and lines[first - 1].lstrip().startswith("# "):
        first -= 1
    return " ".join(comments) or " ".join(line.strip()[2:] for line in lines[first : statement.lineno - 1])


def report_page() -> str:
    """Return the page of the keys of `report.json` and of the columns of the CSV files."""
    from kneefair_jax.report import schema

    lines = [
        "# Columns and JSON keys",
        "",
        "This page is generated from the types of `report.json`, schema "
        f"{schema.SCHEMA} (`kneefair_jax/report/schema.py` and `score_schema.py`), and from the functions that write",
        "the CSV files. A report has the same schema beside it as `report.schema.json`. Undefined numbers are null.",
        "",
        "## report.json",
    ]
    definitions = schema.json_schema()["$defs"]
    for name, definition in definitions.items():
        lines += ["", f"### {name}", "", definition["description"], ""]
        required = set(definition["required"])
        lines += _rows(
            ("key", "type", "present"),
            (
                [_code(key), _type(value), "always" if key in required else "some reports"]
                for key, value in definition["properties"].items()
            ),
        )
    lines += ["", "## CSV files", ""]
    lines += ["`low` and `high` are the ends of the 95 % interval of the number to their left.", ""]
    lines += _rows(
        ("file", "columns"), ([_code(name), _columns(columns)] for name, columns in csv_columns().items())
    )
    return "\n".join(lines) + "\n"


def _type(definition: dict[str, Any]) -> str:
    """Return a JSON Schema as words: `list of [CohortRow](#cohortrow)`."""
    if reference := definition.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if choices := definition.get("anyOf"):
        return " or ".join(_type(choice) for choice in choices)
    if "const" in definition:
        return _code(str(definition["const"]))
    kind = definition.get("type", "any")
    if kind == "array":
        if definition.get("maxItems") == 2:
            return "interval"
        return f"list of {_type(definition['items'])}"
    if kind == "object" and "additionalProperties" in definition:
        return f"name → {_type(definition['additionalProperties'])}"
    return str(kind)


def csv_columns() -> dict[str, list[str]]:
    """Return file name -> the columns that `kneefair_jax.report.csv_tables` writes, from a small report."""
    import pandas as pd

    from kneefair_jax import fairness
    from kneefair_jax.report import csv_tables

    rows = [
        {
            "patient_id": f"p{i}",
            "dice": 0.9 + 0.001 * i,
            "sex": "fm"[i % 2],
            "age": ("old", "young", "young")[i % 3],
        }
        for i in range(60)
    ]
    report = fairness.GroupReport(
        pd.DataFrame(rows), score="dice", by=["sex", "age"], patient="patient_id", draws=99
    )
    return {name: list(table[0]) for name, table in csv_tables.rows(report.to_dict()).items() if table}


def packages_page() -> str:
    """Return the page of all packages and modules, with the first line of each docstring."""
    lines = [
        "# Packages",
        "",
        "This page is generated from the modules' docstrings. Imports between packages run one way;",
        "`tests/test_structure.py` has the order and enforces it.",
        "",
        "| folder | contents |",
        "| --- | --- |",
        *(_row((_code(name), text)) for name, text in _FOLDERS.items()),
    ]
    for folder in [PACKAGE, *sorted(path.parent for path in PACKAGE.rglob("*/__init__.py"))]:
        lines += [
            "",
            f"## {'.'.join(folder.relative_to(ROOT).parts)}",
            "",
            _summary(folder / "__init__.py"),
            "",
        ]
        modules = [path for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
        lines += _rows(("module", "contents"), ((_code(path.stem), _summary(path)) for path in modules))
    return "\n".join(lines) + "\n"


_FOLDERS = {
    "configs/": "a Python file for each kind of run; `default.py` explains every field",
    "kneefair_jax/": "the package",
    "recipes/": "SLURM, Kubernetes, Cloud TPUs, two processes on one machine",
    "examples/": "executed notebooks",
    "tests/": "mirrors the package",
    "benchmarks/": "scripts that measure speed and statistics, with their results; `compare_commits` runs two commits "
    "and compares every number that they write, bit for bit",
}


def _summary(path: Path) -> str:
    """Return the first paragraph of a module's docstring in one line."""
    paragraph = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0]
    return " ".join(paragraph.split())


def _columns(names: list[str]) -> str:
    return ", ".join(_code(name) for name in names)


def _rows(header: tuple[str, ...], rows: Any) -> list[str]:
    return [_row(header), _row(["---"] * len(header)), *map(_row, rows)]


def _row(cells: Any) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _code(text: str) -> str:
    return f"`{text}`"


def _title(function: str) -> str:
    titles = {
        "get_config": "Every run",
        "_data": "data, of every source",
        "_mitigation": "mitigation",
        "_augment": "augment",
        "_report": "report",
        "study": "study",
        "external": "data, of an external cohort",
    }
    return titles.get(function, f'data, of the source "{function}"')


PAGES = {
    "reference/config.md": config_page,
    "reference/report.md": report_page,
    "reference/packages.md": packages_page,
    "model_cards/phantom.md": (PACKAGE / "weights" / "phantom.md").read_text,
    "model_cards/phantom-v2.md": (PACKAGE / "weights" / "phantom-v2.md").read_text,
}

"""Generate the reference pages of the documentation from the code, as a hook of mkdocs.

`reference/config.md` has every field of `configs/default.py`; `reference/report.md` has every key of `report.json` and
every column of the CSV files; `reference/packages.md` has the first line of every module's docstring. `model_cards/`
has the cards of the shipped networks. The generated pages cannot disagree with the code.
"""

import ast
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DEFAULTS = ROOT / "configs" / "default.py"
PACKAGE = ROOT / "kneefair_jax"


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
    from kneefair_jax.cli import run_help

    lines = [
        "# Config fields",
        "",
        "This page is generated from `configs/default.py`. Set a field on the command line, as in",
        "`--config.train.steps=2000`, or in a config of your own. An unknown field is an error.",
    ]
    for group in run_help.groups(DEFAULTS):
        rows = ([_code(field.name), _code(field.default), field.comment] for field in group.fields)
        lines += ["", f"## {group.title}", "", *_rows(("field", "default", "meaning"), rows)]
    return "\n".join(lines) + "\n"


def report_page() -> str:
    """Return the page of the keys of `report.json` and of the columns of the CSV files."""
    from kneefair_jax.report import schema

    lines = [
        "# Columns and JSON keys",
        "",
        "This page is generated from the types of `report.json`, schema "
        f"{schema.SCHEMA} (`kneefair_jax/report/schema.py`), and from the functions that write",
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


PAGES = {
    "reference/config.md": config_page,
    "reference/report.md": report_page,
    "reference/packages.md": packages_page,
    "model_cards/phantom.md": (PACKAGE / "weights" / "phantom.md").read_text,
    "model_cards/phantom-v1.md": (PACKAGE / "weights" / "phantom-v1.md").read_text,
}

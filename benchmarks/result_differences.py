"""Compare two folders of results: read what is compared, and name the kind of each difference.

A difference has one of three kinds:

* `rounding`: numbers of a report, a page or a CSV file agree within 1e-9, as after a library replaces our code;
* `text`: a sentence differs, at one of the keys of `SENTENCE_PATH` or in a page;
* `values`: all others, such as a number, a group, the name of a test, an id or the order of columns. A number in a
  sentence is a value where the words around it are equal.
"""

import difflib
import html
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from benchmarks.fault_runs import checkpoint_arrays
from kneefair_jax.runtime import run_files

# Keys of JSON files that differ between two runs of one commit.
VOLATILE = {"commit", "command", "started", "times", "seconds", "date"}
# Parts of pages: figures, whose numbers are those of report.json, levels of headings, and what holds the config,
# seconds, minutes or the commit; all of these are in the JSON file too.
VOLATILE_CELLS = re.compile(
    r"<svg.*?</svg>|</?h[1-6]|<pre><code>.*?</code></pre>|<(dd|td)>[\d.]+( s| min)?</(dd|td)>"
    r"|<dt>(Commit|Command)</dt><dd>.*?</dd>",
    re.DOTALL,
)
# Keys of a config that may be those of an earlier layout, at the end of a leaf's path.
MOVED_PATH = re.compile(r"(\['(mitigation|data|report)'\]|\['study'\]\['settings'\]\['\w+'\])\['\w+'\]$")
# Later commits alone write these: config fields, with the defaults as before; hashes of input files; the models of
# an audit side by side.
ADDED_PATH = re.compile(
    r"\['data'\](\['phantom'\]\['(films|structures)'\]|\['external_orientation'\])$|\['run'\]\['inputs'\]"
    r"|\['models'\]\['summaries'\]|/models\.csv\[|\['cohort'\]\['warnings'\]$|\['report'\]\['author'\]$"
)
# Columns of CSV files that later commits alone write, by file.
ADDED_COLUMNS = {"summaries.csv": ["patients"]}
# Keys of JSON files that were renamed, and values of `report.resolution`.
RENAMED_KEYS = {"root_cause": "attribute_leakage", "fit": "train_scores", "left_out": "excluded"}
RENAMED_VALUES = {"source": "native", "grid": "working"}
# Keys and columns that hold sentences, and pages.
SENTENCE_PATH = re.compile(
    r"\['(notes?|warnings?|reasons?|unranked|excluded|detail)'\](\[\d+\])?$"
    r"|/checklist\.csv\['(topic|value|section|where)'\]\[\d+\]$|\.html$"
)
# Largest difference of two numbers that counts as rounding, relative or absolute.
TOLERANCE = {"rel_tol": 1e-9, "abs_tol": 1e-12}
# A number as Python and pandas write a float; integers and ids such as 007 are no floats.
FLOAT = re.compile(r"-?(0|[1-9]\d*)(\.\d+|(\.\d+)?e[-+]?\d+)")
# A number of a sentence or page with the relation before it, `p < 0.001`; an embedded image counts as one number.
NUMBER = re.compile(r"data:image/[^\"')]*|(?:[<=>≤≥]\s?)?[-+\u2212]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
STYLE = re.compile(r"<style.*?</style>", re.DOTALL)
# Where a page or a sentence is split: at lines, tags and ends of clauses.
BREAK = re.compile(r"\n|(?=<[/a-z])|(?<=[.;:])\s")


def contents(out: Path) -> Iterator[tuple[str, Any]]:
    """Name and value of everything that is compared below a folder of results."""
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.name == "state" and path.parent.parent.name == "checkpoints":
            yield from leaves(checkpoint_arrays(path), name)
        elif "checkpoints" in path.parts or "store" in path.parts or path.name == "environment.json":
            continue
        elif path.name == "cases.parquet":
            yield from ((f"{name}/{column}", values) for column, values in pd.read_parquet(path).items())
        elif path.suffix == ".npz":
            with np.load(path) as file:
                yield from leaves(dict(file), name)
        elif path.name.startswith(".written-") or path.name.endswith(".schema.json"):
            continue
        elif path.suffix == ".json" and path.name not in ("config.json", "finished.json", "hardware.json"):
            values = leaves(json.loads(path.read_text()), name)
            yield from ((in_new_names(leaf), in_new_values(leaf, value)) for leaf, value in values)
        elif path.suffix == ".jsonl":
            yield from leaves([json.loads(line) for line in path.read_text().splitlines()], name)
        elif path.suffix == ".csv":
            yield from cells(path, name)
        elif path.suffix == ".html":
            yield name, in_new_names(VOLATILE_CELLS.sub("", path.read_text()))
        elif path.suffix in (".png", ".safetensors"):
            yield name, path.read_bytes()


def cells(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the columns of a CSV file in their order, then its cells as written, without `ADDED_COLUMNS`."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except pd.errors.EmptyDataError:
        table = pd.DataFrame()
    table = table.drop(columns=ADDED_COLUMNS.get(path.name, []), errors="ignore")
    yield f"{name}[columns]", list(table.columns)
    yield from leaves(table.to_dict("list"), name)


def in_new_names(text: str) -> str:
    """Return a leaf's path or a page with the new names of fields that moved, such as `mitigation.eta`."""

    def rename(match: re.Match[str]) -> str:
        return run_files.new_name(match[0]) or match[0]

    def rename_path(match: re.Match[str]) -> str:
        field = ".".join(re.findall(r"\w+", match[0]))
        new = run_files.new_name(field)
        return "".join(f"['{part}']" for part in new.split(".")) if new else match[0]

    text = MOVED_PATH.sub(rename_path, text)
    for old, new in RENAMED_KEYS.items():
        text = text.replace(f"['{old}']", f"['{new}']")
    return re.sub(r"\bmitigation\.\w+(?![\w.])", rename, text)


def in_new_values(leaf: str, value: Any) -> Any:
    """Return a leaf of a JSON file; a resolution has its new name."""
    return RENAMED_VALUES.get(value, value) if leaf.endswith("['resolution']") else value


def leaves(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The leaves of a tree with their paths, keys of `VOLATILE` left out; None and empty nodes are leaves."""

    def is_leaf(node: Any) -> bool:
        return node is None or (isinstance(node, dict | list) and not node)

    for keys, value in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf):
        if not VOLATILE & {getattr(key, "key", None) for key in keys}:
            yield name + jax.tree_util.keystr(keys), value


def equal(a: Any, b: Any) -> bool:
    """Whether two values are the same: arrays and columns of floats by their bytes, other values by their text."""
    if isinstance(a, pd.Series) and isinstance(b, pd.Series):
        if pd.api.types.is_float_dtype(a) and pd.api.types.is_float_dtype(b):
            return equal(a.to_numpy(), b.to_numpy())
        return a.dtype == b.dtype and a.equals(b)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and repr(a) == repr(b)


def kind(name: str, a: Any, b: Any) -> str:
    """Return the kind of the difference of two values of one name: `values`, `rounding` or `text`."""
    if isinstance(a, float) and isinstance(b, float):
        return "rounding" if math.isclose(a, b, **TOLERANCE) else "values"
    if not (isinstance(a, str) and isinstance(b, str)):
        return "values"
    if SENTENCE_PATH.search(name):
        return sentence_kind(a, b)
    return number_kind(a, b)


def number_kind(a: str, b: str) -> str:
    """Return `rounding` for two floats as text that agree within the tolerance, `values` for all others."""
    is_float = FLOAT.fullmatch(a) and FLOAT.fullmatch(b)
    return "rounding" if is_float and math.isclose(float(a), float(b), **TOLERANCE) else "values"


def sentence_kind(a: str, b: str) -> str:
    """Return the kind of the difference of two texts: `text`, unless numbers differ between the same words.

    Clauses with the same words are paired in their order, and their numbers compared.
    """
    before, after = (
        [part for part in BREAK.split(html.unescape(STYLE.sub("", text))) if part] for text in (a, b)
    )
    words_before, words_after = ([NUMBER.sub("\0", part) for part in parts] for parts in (before, after))
    matches = difflib.SequenceMatcher(None, words_before, words_after, autojunk=False).get_matching_blocks()
    kinds = {
        number_kind(x, y)
        for match in matches
        for i in range(match.size)
        for x, y in zip(NUMBER.findall(before[match.a + i]), NUMBER.findall(after[match.b + i]), strict=True)
        if x != y
    }
    return "values" if "values" in kinds else "rounding" if words_before == words_after and kinds else "text"


def differences(before: Path, after: Path) -> tuple[int, dict[str, list[str]]]:
    """Return how many values two result folders share, and the names of those that differ, by kind.

    A value that only one folder has is one of `values`, unless it is null, which a report may omit, or of `ADDED_PATH`.
    """
    values_before, values_after = dict(contents(before)), dict(contents(after))
    names = values_before.keys() & values_after.keys()
    single = values_before.keys() ^ values_after.keys()
    both = values_before | values_after
    missing = [name for name in single if both[name] is not None and not ADDED_PATH.search(name)]
    different: dict[str, list[str]] = {"values": sorted(missing)}
    for name in sorted(names):
        a, b = values_before[name], values_after[name]
        if not equal(a, b):
            different.setdefault(kind(name, a, b), []).append(name)
    return len(names), different

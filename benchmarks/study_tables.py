"""Write the tables of docs/mitigations.md, from the `study.json` that each study wrote.

    python benchmarks/study_tables.py                       # docs/mitigations.md, from benchmarks/results/study_*.json
    python benchmarks/study_tables.py runs/study/report/study.json   # one study's table, to the screen

A table stands there between `<!-- study NAME -->` and `<!-- end -->`; NAME is that of the file.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from kneefair_jax.fairness import seed_intervals
from kneefair_jax.fairness.hypothesis_tests import holm

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MARKED = re.compile(r"(<!-- study (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

HEADER = (
    "| method | mean Dice | worst group | gap | change of the gap | closed | HD95, mm |",
    "|---|---|---|---|---|---|---|",
)


def table(study: Mapping[str, Any]) -> str:
    """A study's results as Markdown: what was compared, a row a method, with which command and on what."""
    comparison, runs = study["comparison"], study["runs"]
    conditions = study["conditions"]
    lines = [
        f"*{study['title']}*. {study['description']} {comparison['seeds']} seeds; {conditions['Training']}; "
        f"tested on {conditions['Tested on']}.",
        "",
        *HEADER,
    ]
    order = [comparison["baseline"], *runs["config"]["study"]["methods"], *comparison["methods"]]
    tests = gap_tests(comparison)
    lines += [_row(name, comparison["methods"][name], tests) for name in dict.fromkeys(order)]
    lines += [
        "",
        f"`{_command(runs)}`: {runs['count']} runs, {_minutes(runs['seconds'])} of training on {runs['device']} "
        f"(jax {runs['versions'].get('jax', '?')}).",
    ]
    return "\n".join(lines)


def readme(text: str, studies: Mapping[str, Mapping[str, Any]]) -> str:
    """The page's text with every marked table made anew.

    Raises:
        KeyError: a table is of a study that there is not.
    """
    return MARKED.sub(lambda match: f"{match[1]}{table(studies[match[2]])}\n{match[3]}", text)


def read() -> dict[str, Any]:
    """The committed studies by name."""
    return {
        path.stem.removeprefix("study_"): json.loads(path.read_text())
        for path in sorted(RESULTS.glob("study_*.json"))
    }


def _command(runs: Mapping[str, Any]) -> str:
    """Return a study's command; runs older than `report.resolution` were scored at the working resolution."""
    config = runs["config"]
    older = (
        "resolution" not in config["report"] and config["data"]["source"] != "phantom"
    )  # these are the grid's own
    command = re.sub(
        r"python launch\.py --mode=study --config=configs/(\w+)\.py",
        r"kneefair study --config=\1",
        runs["command"],
    )
    return f"{command}{older * ' --config.report.resolution=working'}"


def gap_tests(comparison: Mapping[str, Any]) -> dict[str, tuple[list[float] | None, float | None]]:
    """Return method -> interval and corrected p of its change of the gap, as of the primary family today.

    The stored ones are of the version that made the study. The studies have two groups, so the gap is the pair.
    """
    methods = comparison["methods"]
    baseline, oracle = comparison["baseline"], comparison["oracle"]
    seeds = {name: np.array(entry["pair"]["per_seed"]) for name, entry in methods.items()}
    compared = [name for name in methods if name not in (baseline, oracle)]
    errors, freedom, _ = seed_intervals.pooled_errors(np.stack([seeds[baseline], *map(seeds.get, compared)]))
    shared = {name: (float(error), freedom) for name, error in zip(compared, errors, strict=True)}
    changes = {name: seeds[name] - seeds[baseline] for name in methods if name != baseline}
    corrected = holm({name: seed_intervals.p_value(changes[name], shared=shared[name]) for name in compared})
    return {
        name: (seed_intervals.interval(change, shared=shared.get(name)), corrected.get(name))
        for name, change in changes.items()
    }


def _row(name: str, entry: Mapping[str, Any], tests: Mapping[str, Any]) -> str:
    change, closed = entry["change"], entry["closed"]
    gap_change = ""
    if change and change["gap"]["value"] is not None:
        interval, p = tests[name]
        gap_change = f"{_number(change['gap']['value'], sign=True)} {_ends(interval, sign=True)}"
        gap_change += f", p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}" if p is not None else ""
    share = ""
    if closed and closed["value"] is not None:
        share = f"{closed['value']:.0%} {_ends(closed['seeds'], percent=True)}"
    distance = entry["hd95"]["value"]
    return (
        f"| `{name}` | {_number(entry['mean']['value'])} {_ends(entry['mean']['seeds'])} | "
        f"{_number(entry['worst']['value'])} | {_number(entry['gap']['value'])} {_ends(entry['gap']['seeds'])} | "
        f"{gap_change} | {share} | {'' if distance is None else f'{distance:.1f}'} |"
    )


def _number(value: float | None, sign: bool = False) -> str:
    if value is None:
        return ""
    rounded = round(value, 3) + 0.0  # no minus before a zero
    return f"{rounded:+.3f}" if sign and rounded else f"{rounded:.3f}"


def _ends(ends: list[float] | None, sign: bool = False, percent: bool = False) -> str:
    if ends is None:
        return ""
    low, high = (f"{end:.0%}" if percent else _number(end, sign) for end in ends)
    return f"[{low}, {high}]"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min"


def main(paths: list[str]) -> None:
    """Prints the tables of the given files, or writes those of the page."""
    if paths:
        print("\n\n".join(table(json.loads(Path(path).read_text())) for path in paths))
        return
    path = ROOT / "docs" / "mitigations.md"
    path.write_text(readme(path.read_text(), read()))


if __name__ == "__main__":
    main(sys.argv[1:])

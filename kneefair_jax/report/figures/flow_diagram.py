"""Draw the flow of patients from the list of cases to the ranked groups."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kneefair_jax.report.figures import svg
from kneefair_jax.report.text.formatting import amount

_LINE, _PAD, _GAP = 0.17, 0.08, 0.22  # inches
_MAIN, _SIDE = (0.05, 3.5), (4.0, 3.5)  # left end and width of the columns
_CHARACTERS = 52


def flow(counts: Mapping[str, Any], name: str) -> str:
    """Draw the steps as boxes from top to bottom, with exclusions on the right.

    Args:
        counts: the result of `build.patient_flow`.
        name: the figure's name, unique on the page.
    """
    steps = _steps(counts)
    heights = [max(_height(main), _height(side)) for main, side in steps]
    total = sum(heights) + _GAP * (len(steps) - 1) + 0.1
    with svg.style():
        figure = Figure(figsize=(svg.WIDTH, total))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, svg.WIDTH), ylim=(total, 0))
        axes.set_axis_off()
        top = 0.05
        for k, ((main, side), height) in enumerate(zip(steps, heights, strict=True)):
            if k:
                _arrow(axes, (_MAIN[0] + 0.5, top - _GAP), (_MAIN[0] + 0.5, top))
            _box(axes, _MAIN, top, height, main, svg.INK)
            if side:
                middle = top + height / 2
                _arrow(axes, (sum(_MAIN), middle), (_SIDE[0], middle))
                _box(axes, _SIDE, top, height, side, svg.MUTED)
            top += height + _GAP
        words = "; ".join(" ".join([*main, *side]) for main, side in steps)
        return svg.text(figure, name, f"Flow of patients. {words}.")


def _steps(counts: Mapping[str, Any]) -> list[tuple[list[str], list[str]]]:
    """Return the lines of each step's box, and of the box on its right."""
    excluded = [f"{amount(entry['records'], 'record')}: {entry['reason']}" for entry in counts["excluded"]]
    tested = counts["tested"]
    steps = [
        (
            ["Listed", amount(counts["listed"], "record")],
            [
                f"Excluded: {amount(sum(entry['records'] for entry in counts['excluded']), 'record')}",
                *excluded,
            ]
            if excluded
            else [],
        ),
        (["Cohort", _cases_and_patients(counts["cohort"])], []),
    ]
    untested = {split: entry for split, entry in counts["splits"].items() if split != "test"}
    if untested:
        lines = (f"{split}: {_cases_and_patients(entry)}" for split, entry in untested.items())
        steps[-1][1].extend(["Not tested", *lines])
    not_in_tests = [
        f"{amount(counts[key], 'patient')} {text}"
        for key, text in (("not_scored", "without a score"), ("failed", "with a failed segmentation"))
        if counts[key]
    ]
    ranked = [
        f"{attribute}: {entry['ranked']} of {amount(entry['groups'], 'group')}"
        for attribute, entry in counts["groups"].items()
    ]
    return [
        *steps,
        (
            ["Tested", _cases_and_patients(tested)],
            ["Not in tests of gaps in means", *not_in_tests] if not_in_tests else [],
        ),
        (["Without a failed segmentation", amount(counts["without_failure"], "patient")], []),
        (["Ranked groups", *ranked], []),
    ]


def _cases_and_patients(entry: Mapping[str, int]) -> str:
    return f"{amount(entry['cases'], 'case')} of {amount(entry['patients'], 'patient')}"


def _wrap(lines: Sequence[str]) -> list[str]:
    return [part for line in lines for part in textwrap.wrap(line, _CHARACTERS)]


def _height(lines: Sequence[str]) -> float:
    return _LINE * len(_wrap(lines)) + 2 * _PAD if lines else 0.0


def _box(
    axes: Axes, column: tuple[float, float], top: float, height: float, lines: Sequence[str], color: str
) -> None:
    """Draw a box with its first line bold."""
    left, width = column
    axes.add_patch(Rectangle((left, top), width, height, facecolor="none", edgecolor=color, linewidth=0.8))
    for k, line in enumerate(_wrap(lines)):
        weight = "normal" if k else "bold"
        axes.text(left + 0.1, top + _PAD + _LINE * (k + 0.5), line, va="center", fontweight=weight)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    arrow = {"arrowstyle": "-|>", "color": svg.MUTED, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=arrow)

"""Draw the cohort and its scores: flow of patients, distributions by group, heat map of structures, training curves."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from kneefair_jax.report.figures import svg
from kneefair_jax.report.figures.svg import ROW, WIDTH, label_rows, rows_of, value_axis
from kneefair_jax.report.text.formatting import DASH, AttributeGroups, amount, number

_MAX_POINTS = 400
# Of the flow of patients.
_LINE, _PAD, _GAP = 0.17, 0.08, 0.22  # inches
_MAIN, _SIDE = (0.05, 3.5), (4.0, 3.5)  # left end and width of the columns
_CHARACTERS = 52


def distributions(
    values: Mapping[str, np.ndarray], groups: Sequence[AttributeGroups], title: str, name: str
) -> str:
    """Draw the score of every case by group, with a box (quartiles) and a line (5th to 95th percentile).

    Args:
        values: group name -> f64[cases], without NaN.
        groups: the groups to show, in order; groups without values have an empty row.
        title: the score's name for a reader.
        name: the figure's name, unique on the page.
    """
    rows = rows_of(groups)
    jitter = np.random.default_rng(0)
    medians = []
    with svg.style():
        figure = Figure(figsize=(WIDTH, ROW * 1.5 * len(rows) + 0.6), layout="constrained")
        axes = figure.subplots()
        value_axis(axes)
        for y, row in enumerate(rows):
            points = values.get(row.name or "", np.empty(0))
            if not len(points):
                continue
            lower, first, median, third, upper = np.percentile(points, (5, 25, 50, 75, 95))
            medians.append(f"{row.label} {number(median)}")
            # In a large group the dots inside the box overlap and take most of the page's bytes.
            dots = points if len(points) <= _MAX_POINTS else points[(points < lower) | (points > upper)]
            if len(dots) > _MAX_POINTS:  # every n-th by score, with the lowest and the highest
                dots = np.sort(dots)[np.linspace(0, len(dots) - 1, _MAX_POINTS).round().astype(int)]
            heights = y + jitter.uniform(-0.26, 0.26, len(dots))
            axes.plot(dots, heights, "o", color=svg.ACCENT, markersize=2.6, alpha=0.4, markeredgewidth=0)
            axes.plot((lower, upper), (y, y), color=svg.INK, linewidth=0.8)
            axes.barh(y, third - first, 0.52, first, facecolor="none", edgecolor=svg.INK, linewidth=0.9)
            axes.plot((median, median), (y - 0.26, y + 0.26), color=svg.INK, linewidth=2)
        axes.set_xlabel(f"{title} of a case, mean over structures")
        label_rows(axes, rows)
        return svg.text(
            figure, name, f"{title} of every case by group. Medians: {', '.join(medians) or DASH}."
        )


def heat_map(
    scores: Mapping[str, Any],
    groups: Sequence[AttributeGroups],
    title: str,
    name: str,
    *,
    lower_is_better: bool = False,
) -> str:
    """Draw the mean of every structure in every group, darker the worse it is than that structure's mean.

    Groups too small to rank are gray and have no shade, as in the tables.

    Args:
        scores: one score of the report.
        groups: the groups to show, in order.
        title: the score's name for a reader.
        name: the figure's name, unique on the page.
        lower_is_better: whether the score is an error.
    """
    rows = rows_of(groups)
    columns = {"all": scores, **scores["structures"]}
    cells = [[part["groups"].get(row.name) or {} for part in columns.values()] for row in rows]
    shape = len(rows), len(columns)
    means = np.array([[cell.get("mean") for cell in line] for line in cells], float).reshape(shape)
    ranked = np.array([[cell.get("ranked", False) for cell in line] for line in cells], bool).reshape(shape)
    overall = np.array([part["overall"]["mean"] for part in columns.values()], float)
    shortfall = np.clip((means - overall) if lower_is_better else (overall - means), 0, None)
    shortfall = np.where(ranked, np.nan_to_num(shortfall), 0.0)
    # At most about half opaque, so that the number is readable on a light and on a dark page.
    shade = 0.55 * shortfall / max(shortfall.max(initial=0), 1e-9)
    with svg.style():
        figure = Figure(figsize=(WIDTH, ROW * 1.15 * len(rows) + 0.5), layout="constrained")
        axes = figure.subplots()
        for y, row in enumerate(rows):
            for x in range(len(columns)):
                if row.name is None:
                    continue
                axes.barh(y, 0.96, 0.92, x - 0.48, color=svg.ACCENT, alpha=shade[y, x], linewidth=0)
                color = svg.INK if ranked[y, x] else svg.MUTED
                axes.text(x, y, number(means[y, x]), ha="center", va="center", color=color)
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.xaxis.tick_top()
        axes.set_xticks(range(len(columns)), [column.replace(" ", "\n") for column in columns])
        axes.tick_params(length=0, labelcolor=svg.INK)
        axes.spines[:].set_visible(False)
        label_rows(axes, rows, [name for name, entry in scores["groups"].items() if not entry.get("ranked")])
        side = "excess over" if lower_is_better else "shortfall below"
        gaps = dict(zip(columns, shortfall.max(axis=0, initial=0), strict=True))
        furthest = max(gaps, key=gaps.__getitem__)
        alt = (
            f"Mean {title} by group and structure; the table has the same numbers. "
            f"The largest {side} a structure's mean is {number(gaps[furthest])}, in {furthest}."
        )
        return svg.text(figure, name, alt)


def _marker(points: Sequence[tuple[float, float]]) -> str:
    """Return the marker of a line that a single point would not draw."""
    return "o" if len(points) == 1 else ""


def curves(records: Sequence[Mapping[str, Any]], name: str) -> str:
    """Draw the training loss and the validation scores by step.

    Args:
        records: `{"step", "loss"}` or `{"step", "validation": {"overall", "worst_group"}}`, in any order.
        name: the figure's name, unique on the page.
    """
    losses = [(record["step"], record["loss"]) for record in records if record.get("loss") is not None]
    validation: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        for key, value in (record.get("validation") or {}).items():
            if value is not None:
                validation.setdefault(key.replace("_", " "), []).append((record["step"], value))
    strokes = itertools.cycle(("-", "--", "-.", ":"))
    with svg.style():
        figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        if losses:
            left.plot(*zip(*losses, strict=True), _marker(losses), color=svg.INK, linewidth=1.1)
        for key, points in validation.items():
            right.plot(*zip(*points, strict=True), next(strokes) + _marker(points), label=key, linewidth=1.5)
        for axes, title in ((left, "Training loss"), (right, "Validation Dice")):
            axes.set_title(title)
            axes.set_xlabel("step")
            axes.grid(axis="y")
            axes.tick_params(labelcolor=svg.MUTED)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if validation:
            right.legend(loc="lower right")
        last = ", ".join(f"{key} {number(points[-1][1])}" for key, points in validation.items())
        ends = f"from {number(losses[0][1])} to {number(losses[-1][1])}" if losses else DASH
        return svg.text(figure, name, f"Training loss by step, {ends}. Last validation Dice: {last or DASH}.")


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
    if counts["not_scored"]["cases"]:
        untested["without a Dice"] = counts["not_scored"]
    if untested:
        lines = (f"{name}: {_cases_and_patients(entry)}" for name, entry in untested.items())
        steps[-1][1].extend(["Not tested", *lines])
    ranked = [
        f"{attribute}: {entry['ranked']} of {amount(entry['groups'], 'group')}"
        for attribute, entry in counts["groups"].items()
    ]
    return [
        *steps,
        (
            ["Tested", _cases_and_patients(tested)],
            [
                "Not in tests of gaps in means",
                f"{amount(counts['failed'], 'patient')} with a failed segmentation",
            ]
            if counts["failed"]
            else [],
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

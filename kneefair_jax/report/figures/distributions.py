"""Draw distributions of scores by group, the heat map of structures, and training curves."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kneefair_jax.report.figures import svg
from kneefair_jax.report.figures.svg import ROW, WIDTH, label_rows, rows_of, value_axis
from kneefair_jax.report.text.formatting import DASH, AttributeGroups, number

_MAX_POINTS = 400


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

    Args:
        scores: one score of the report.
        groups: the groups to show, in order.
        title: the score's name for a reader.
        name: the figure's name, unique on the page.
        lower_is_better: whether the score is an error.
    """
    rows = rows_of(groups)
    columns = {"all": scores, **scores["structures"]}
    means = np.array(
        [[(part["groups"].get(row.name) or {}).get("mean") for part in columns.values()] for row in rows],
        float,
    ).reshape(len(rows), len(columns))
    overall = np.array([part["overall"]["mean"] for part in columns.values()], float)
    shortfall = np.nan_to_num(np.clip((means - overall) if lower_is_better else (overall - means), 0, None))
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
                axes.text(x, y, number(means[y, x]), ha="center", va="center")
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.xaxis.tick_top()
        axes.set_xticks(range(len(columns)), [column.replace(" ", "\n") for column in columns])
        axes.tick_params(length=0, labelcolor=svg.INK)
        axes.spines[:].set_visible(False)
        label_rows(axes, rows)
        side = "excess over" if lower_is_better else "shortfall below"
        gaps = dict(zip(columns, shortfall.max(axis=0, initial=0), strict=True))
        furthest = max(gaps, key=gaps.__getitem__)
        alt = (
            f"Mean {title} by group and structure; the table has the same numbers. "
            f"The largest {side} a structure's mean is {number(gaps[furthest])}, in {furthest}."
        )
        return svg.text(figure, name, alt)


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
            left.plot(*zip(*losses, strict=True), color=svg.INK, linewidth=1.1)
        for key, points in validation.items():
            right.plot(*zip(*points, strict=True), next(strokes), label=key, linewidth=1.5)
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

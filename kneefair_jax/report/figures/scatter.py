"""Draw a score by group against the structures' size or a second attribute, and accuracy against confidence."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kneefair_jax.fairness import patient_table
from kneefair_jax.groups import display_label, is_missing, partition
from kneefair_jax.report.figures import svg
from kneefair_jax.report.figures.svg import WIDTH, looks, plane
from kneefair_jax.report.text.formatting import (
    DASH,
    AttributeGroups,
    levels_of,
    listing,
    number,
)

_TICK_CHARACTERS = 76  # of the labels of all ticks beside each other
_BINS = 6
_MIN_CASES = 5  # of a bin whose mean is drawn


def areas(
    cases: pd.DataFrame,
    attributes: Sequence[str],
    score: str,
    failure_dice: float = patient_table.FAILURE_DICE,
) -> pd.DataFrame | None:
    """Return each case's macro score and the area of its structures.

    Args:
        cases: a row for each case and structure; `true_area_mm2` is NaN where the spacing is unknown.
        attributes: categorical columns.
        score: the column of the score.
        failure_dice: `failure_dice` of `patient_table.macro`.

    Returns:
        Columns `area` (cm2, the sum over structures), `score` and the attributes; None where fewer than two cases
        have both.
    """
    if "true_area_mm2" not in cases:
        return None
    by_case = cases.groupby("case_id", sort=True)
    area = by_case["true_area_mm2"].sum(min_count=1) / 100
    macro = patient_table.macro(cases, score, failure_dice)
    frame = by_case[list(attributes)].first().assign(area=area, score=macro)
    frame = frame[np.isfinite(frame["area"]) & frame["score"].notna()]
    return frame if len(frame) > 1 else None


def size(frame: pd.DataFrame, groups: Sequence[AttributeGroups], title: str, name: str) -> str:
    """Draw the score of every case against the area of its structures, a panel an attribute, with means of bins.

    Args:
        frame: the result of `areas`.
        groups: one attribute each.
        title: the score's name for a reader.
        name: the figure's name, unique on the page.
    """
    correlation = frame["area"].rank().corr(frame["score"].rank())
    with svg.style():
        figure, panels = panel_grid(len(groups))
        for axes, entry in zip(panels, groups, strict=True):
            plane(axes)
            axes.set_title(entry.title)
            levels = partition(frame, [entry.key], missing_as_level=True)
            for (g, group), look in zip(enumerate(levels.names), looks(), strict=False):
                members = frame[levels.index == g]
                dots = look | {"linestyle": "", "markersize": 3, "alpha": 0.35, "markeredgewidth": 0}
                axes.plot(members["area"], members["score"], **dots)
                line = binned(members["area"].to_numpy(), members["score"].to_numpy())
                axes.plot(*line, **look, linewidth=1.5, markersize=5, label=entry.labels.get(group, group))
            axes.legend(loc="lower right")
            axes.set_xlabel("area of the reference masks, cm²")
            # A few far outliers would compress the range of the other cases.
            lower, upper = np.percentile(frame["score"], (1, 100))
            margin = 0.05 * (upper - lower) or 0.01
            axes.set_ylim(lower - margin, upper + margin)
        panels[0].set_ylabel(f"{title} of a case")
        alt = f"{title} of a case against the area of its structures. Spearman's correlation over all cases: "
        return svg.text(figure, name, f"{alt}{number(correlation, 2)}.")


def binned(x: np.ndarray, y: np.ndarray) -> tuple[list[float], list[float]]:
    """Return the means of x and y in bins of equal numbers of cases, in the order of x."""
    bins = min(_BINS, len(x) // _MIN_CASES)
    parts = np.array_split(np.argsort(x, kind="stable"), bins) if bins else []
    return [float(x[part].mean()) for part in parts], [float(y[part].mean()) for part in parts]


def intersections(scores: Mapping[str, Any], groups: Sequence[AttributeGroups], title: str, name: str) -> str:
    """Draw the means of the groups of two attributes: levels of the second on the x axis, a line for each of the first.

    Parallel lines mean that the gap by one attribute is the same at every level of the other. Groups too small to rank
    are hollow and not joined.

    Args:
        scores: one score of the report.
        groups: two attributes each.
        title: the score's name for a reader.
        name: the figure's name, unique on the page.
    """
    with svg.style():
        figure, texts = intersections_figure(scores, groups, title)
        return svg.text(figure, name, f"Mean {title} by pairs of attributes: {listing(texts or [DASH])}.")


def intersections_figure(
    scores: Mapping[str, Any], groups: Sequence[AttributeGroups], title: str
) -> tuple[Figure, list[str]]:
    """Draw the figure of `intersections`; return its means in words too."""
    texts = []
    with svg.style():
        figure, panels = panel_grid(len(groups))
        for axes, entry in zip(panels, groups, strict=True):
            cells = _cells(entry)
            line_attribute, x_attribute = entry.key.split(",")
            rows, columns = (
                _in_order((cell[i] for cell in cells), attribute, scores["groups"])
                for i, attribute in enumerate((line_attribute, x_attribute))
            )
            plane(axes)
            axes.set_title(entry.title)
            for (i, row), look in zip(enumerate(rows), looks(), strict=False):
                # Shifted, so that intervals do not hide each other.
                shift = 0.08 * (i - (len(rows) - 1) / 2)
                points = []
                for x, column in enumerate(columns):
                    mean = scores["groups"].get(cells.get((row, column)) or "") or {}
                    if mean.get("mean") is None:
                        continue
                    points.append((x + shift, mean["mean"], mean["ranked"]))
                    small = "" if mean["ranked"] else " (not ranked)"
                    texts.append(f"{row}, {column} {number(mean['mean'])}{small}")
                    if mean.get("interval") and None not in mean["interval"]:
                        axes.plot([x + shift] * 2, mean["interval"], color=look["color"], linewidth=1.2)
                if points:
                    at, means, ranked = zip(*points, strict=True)
                    style = look | {"linewidth": 1.2, "markersize": 5}
                    axes.plot(at, np.where(ranked, means, np.nan), **style, label=row)
                    hollow = style | {"linestyle": "", "markerfacecolor": svg.PAPER}
                    axes.plot(at, np.where(ranked, np.nan, means), **hollow)
            width = max(_TICK_CHARACTERS // (min(2, len(groups)) * len(columns)), 1)
            axes.set_xticks(range(len(columns)), [textwrap.fill(column, width) for column in columns])
            axes.set_xlim(-0.5, len(columns) - 0.5)
            axes.set_xlabel(x_attribute)
            # Room for the legend, so that it hides no interval.
            lower, upper = axes.get_ylim()
            axes.set_ylim(lower - 0.35 * (upper - lower), upper)
            axes.legend(title=line_attribute, loc="lower center", ncols=3)
        panels[0].set_ylabel(f"mean {title}")
    return figure, texts


def reliability(
    curves: Mapping[str, Any],
    groups: Sequence[AttributeGroups],
    slopes: Mapping[str, float | None],
    name: str,
) -> str:
    """Draw the share of correct pixels against the network's confidence, a line a group; the diagonal is calibrated.

    Args:
        curves: group -> `{"confidence": [...], "accuracy": [...], "pixels": [...]}`, empty bins None.
        groups: one attribute each, or the group of all patients.
        slopes: group -> its calibration slope, for the legend.
        name: the figure's name, unique on the page.
    """
    texts = []
    with svg.style():
        figure, panels = panel_grid(len(groups))
        for axes, entry in zip(panels, groups, strict=True):
            plane(axes)
            axes.set_title(entry.title or "all patients")
            axes.plot((0, 1), (0, 1), color=svg.MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
            minimum = 1.0
            for (group, label), look in zip(entry.labels.items(), looks(), strict=False):
                curve = curves[group]
                legend = label if slopes.get(group) is None else f"{label}: slope {number(slopes[group], 2)}"
                points = [
                    (confidence, accuracy)
                    for confidence, accuracy in zip(curve["confidence"], curve["accuracy"], strict=True)
                    if confidence is not None and accuracy is not None
                ]
                if not points:
                    continue
                axes.plot(*zip(*points, strict=True), **look, linewidth=1.2, markersize=4, label=legend)
                minimum = min(minimum, *(min(point) for point in points))
                furthest = max(points, key=lambda point: abs(point[0] - point[1]))
                texts.append(
                    f"{legend.replace(':', ',')}, {number(furthest[1], 2)} at confidence {number(furthest[0], 2)}"
                )
            axes.set(xlim=(minimum - 0.03, 1.01), ylim=(minimum - 0.03, 1.01), xlabel="confidence")
            axes.legend(loc="lower right")
        panels[0].set_ylabel("share of correct pixels")
        alt = f"Reliability curves by group. Furthest from the diagonal: {', '.join(texts) or DASH}."
        return svg.text(figure, name, alt)


def panel_grid(count: int) -> tuple[Figure, list[Axes]]:
    """Create a figure of panels, two in a row."""
    columns = min(2, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(WIDTH, 3.0 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, list(grid[:count])


def _cells(groups: AttributeGroups) -> dict[tuple[str, str], str]:
    """Return the labels of both levels -> the group's name, without groups of unknown levels."""
    first, second = groups.key.split(",")
    levels = {name: levels_of(name, (first, second)) for name in groups.labels if not is_missing(name)}
    return {(display_label(pair[first]), display_label(pair[second])): name for name, pair in levels.items()}


def _in_order(levels: Iterable[str], attribute: str, names: Iterable[str]) -> list[str]:
    """Return distinct levels in the order of the attribute's groups; the first row of a pair may lack a level.

    Args:
        levels: as displayed.
        attribute: whose levels.
        names: of all groups, those of one attribute in the order of its levels.
    """
    order = [display_label(name.removeprefix(f"{attribute}=")) for name in names if "," not in name]
    present = list(dict.fromkeys(levels))
    return sorted(present, key=lambda level: order.index(level) if level in order else len(order))

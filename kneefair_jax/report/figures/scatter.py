"""A score against something else, by group: the bones' size, another attribute, the network's confidence."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kneefair_jax import groups
from kneefair_jax.fairness import patient_table
from kneefair_jax.report.figures import svg
from kneefair_jax.report.figures.svg import WIDTH, looks, plane
from kneefair_jax.report.text.formatting import DASH, Block, levels_of, listing, number, readable

_BINS = 6
_FEWEST = 5  # cases in a bin whose mean is drawn


def sized(
    cases: pd.DataFrame,
    attributes: Sequence[str],
    score: str,
    failure_dice: float = patient_table.FAILURE_DICE,
) -> pd.DataFrame | None:
    """Each case's score and the area of its bones.

    Args:
        cases: a row per case and structure; `true_area_mm2` NaN where the spacing is unknown.
        attributes: categorical columns.
        score: the column of the macro score.
        failure_dice: that of `patient_table.macro`.

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
    known = frame[np.isfinite(frame["area"]) & frame["score"].notna()]
    return known if len(known) > 1 else None


def size(frame: pd.DataFrame, blocks: Sequence[Block], title: str, name: str) -> str:
    """The score of every case against the area of its bones, a panel an attribute, with the means of equal bins.

    Args:
        frame: of `sized`.
        blocks: one attribute each.
        title: the score's name for a reader.
        name: the figure's name, used once a page.
    """
    correlation = frame["area"].rank().corr(frame["score"].rank())
    with svg.style():
        figure, panels = _panels(len(blocks))
        for axes, block in zip(panels, blocks, strict=True):
            plane(axes)
            axes.set_title(block.title)
            part = groups.partition(frame, [block.key], missing_as_level=True)
            for (g, group), look in zip(enumerate(part.names), looks(), strict=False):
                members = frame[part.index == g]
                dots = look | {"linestyle": "", "markersize": 3, "alpha": 0.35, "markeredgewidth": 0}
                axes.plot(members["area"], members["score"], **dots)
                line = binned(members["area"].to_numpy(), members["score"].to_numpy())
                axes.plot(*line, **look, linewidth=1.5, markersize=5, label=block.labels.get(group, group))
            axes.legend(loc="lower right")
            axes.set_xlabel("area of the reference masks, cm²")
            # Some far outliers would flatten all others.
            low, high = np.percentile(frame["score"], (1, 100))
            margin = 0.05 * (high - low) or 0.01
            axes.set_ylim(low - margin, high + margin)
        panels[0].set_ylabel(f"{title} of a case")
        alt = f"{title} of a case against the area of its bones. Spearman's correlation over all cases: "
        return svg.text(figure, name, f"{alt}{number(correlation, 2)}.")


def binned(x: np.ndarray, y: np.ndarray) -> tuple[list[float], list[float]]:
    """Means of x and y in bins of equally many cases, in the order of x."""
    bins = min(_BINS, len(x) // _FEWEST)
    parts = np.array_split(np.argsort(x, kind="stable"), bins) if bins else []
    return [float(x[part].mean()) for part in parts], [float(y[part].mean()) for part in parts]


def intersections(scores: Mapping[str, Any], blocks: Sequence[Block], title: str, name: str) -> str:
    """The means of the groups of two attributes: levels of the second side by side, a line for each of the first.

    Parallel lines: the gap of one attribute is the same at every level of the other.

    Args:
        scores: one score of the report.
        blocks: two attributes each.
        title: the score's name for a reader.
        name: the figure's name, used once a page.
    """
    words = []
    with svg.style():
        figure, panels = _panels(len(blocks))
        for axes, block in zip(panels, blocks, strict=True):
            cells = _cells(block)
            first, second = block.key.split(",")
            rows, columns = (list(dict.fromkeys(cell[i] for cell in cells)) for i in (0, 1))
            plane(axes)
            axes.set_title(block.title)
            for (i, row), look in zip(enumerate(rows), looks(), strict=False):
                # Side by side, so that intervals do not hide each other.
                shift = 0.08 * (i - (len(rows) - 1) / 2)
                points = []
                for x, column in enumerate(columns):
                    entry = scores["groups"].get(cells.get((row, column)) or "") or {}
                    if entry.get("mean") is None:
                        continue
                    points.append((x + shift, entry["mean"]))
                    words.append(f"{row}, {column} {number(entry['mean'])}")
                    if entry.get("interval") and None not in entry["interval"]:
                        axes.plot([x + shift] * 2, entry["interval"], color=look["color"], linewidth=1.2)
                if points:
                    axes.plot(*zip(*points, strict=True), **look, linewidth=1.2, markersize=5, label=row)
            axes.set_xticks(range(len(columns)), columns)
            axes.set_xlim(-0.5, len(columns) - 0.5)
            axes.set_xlabel(second)
            # Room for the names, so that they hide no interval.
            low, high = axes.get_ylim()
            axes.set_ylim(low - 0.35 * (high - low), high)
            axes.legend(title=first, loc="lower center", ncols=3)
        panels[0].set_ylabel(f"mean {title}")
        return svg.text(figure, name, f"Mean {title} where two attributes meet: {listing(words or [DASH])}.")


def reliability(
    curves: Mapping[str, Any], blocks: Sequence[Block], slopes: Mapping[str, float | None], name: str
) -> str:
    """The share of pixels that are right by how sure the network was, a line a group; the diagonal is calibrated.

    Args:
        curves: group -> `{"confidence": [...], "accuracy": [...], "pixels": [...]}`, empty bins None.
        blocks: one attribute each, or the block of all.
        slopes: group -> its calibration slope, for the legend.
        name: the figure's name, used once a page.
    """
    words = []
    with svg.style():
        figure, panels = _panels(len(blocks))
        for axes, block in zip(panels, blocks, strict=True):
            plane(axes)
            axes.set_title(block.title or "all patients")
            axes.plot((0, 1), (0, 1), color=svg.MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
            lowest = 1.0
            for (group, label), look in zip(block.labels.items(), looks(), strict=False):
                curve = curves[group]
                named = label if slopes.get(group) is None else f"{label}: slope {number(slopes[group], 2)}"
                points = [
                    (sure, right)
                    for sure, right in zip(curve["confidence"], curve["accuracy"], strict=True)
                    if sure is not None and right is not None
                ]
                if not points:
                    continue
                axes.plot(*zip(*points, strict=True), **look, linewidth=1.2, markersize=4, label=named)
                lowest = min(lowest, *(min(point) for point in points))
                furthest = max(points, key=lambda point: abs(point[0] - point[1]))
                words.append(
                    f"{named.replace(':', ',')}, {number(furthest[1], 2)} at confidence {number(furthest[0], 2)}"
                )
            axes.set(xlim=(lowest - 0.03, 1.01), ylim=(lowest - 0.03, 1.01), xlabel="confidence")
            axes.legend(loc="lower right")
        panels[0].set_ylabel("share of pixels that are right")
        alt = f"Reliability curves by group. Furthest from the diagonal: {', '.join(words) or DASH}."
        return svg.text(figure, name, alt)


def _panels(many: int) -> tuple[Figure, list[Axes]]:
    """Panels two in a row, as high as they need to be."""
    columns = min(2, many)
    lines = -(-many // columns)
    figure = Figure(figsize=(WIDTH, 3.0 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[many:]:
        axes.set_axis_off()
    return figure, list(grid[:many])


def _cells(block: Block) -> dict[tuple[str, str], str]:
    """Levels of the two attributes, for a reader -> the group's name; those of unknown levels are left out."""
    attributes = block.key.split(",")
    known = [name for name in block.labels if not groups.is_missing(name)]
    levels = {name: levels_of(name, attributes) for name in known}
    return {(readable(of[attributes[0]]), readable(of[attributes[1]])): name for name, of in levels.items()}

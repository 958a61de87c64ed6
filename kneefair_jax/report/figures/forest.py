"""Draw estimates with their intervals: means of groups, differences of groups, areas under the curve."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from kneefair_jax.fairness.patient_table import ALL_STRUCTURES
from kneefair_jax.report.figures import svg
from kneefair_jax.report.figures.svg import ROW, WIDTH, Row, label_rows, rows_of, value_axis
from kneefair_jax.report.text import findings
from kneefair_jax.report.text.formatting import AttributeGroups, group_title, interval, number, signed


def means(
    scores: Mapping[str, Any],
    groups: Sequence[AttributeGroups],
    title: str,
    name: str,
    pooled: Mapping[str, Any] | None = None,
    marked: Collection[str] = (),
) -> str:
    """Draw group means with their intervals, one panel for all structures and one for each.

    Args:
        scores: one score of the report, `report["scores"]["dice"]`.
        groups: the groups to show, in order.
        title: the score's name for a reader.
        name: the figure's name, unique on the page.
        pooled: group -> its pooled mean over all structures, `report["pooled"]`.
        marked: groups that differ significantly in the mean over all structures.

    Returns:
        An `<svg>`: filled circles for ranked groups, hollow circles for groups too small to rank, diamonds for the
        worst group of each attribute, small hollow diamonds below them for pooled means, a dashed line for the mean
        over all patients.
    """
    with svg.style():
        figure = means_figure(scores, groups, pooled, marked)
        return svg.text(figure, name, f"Mean {title} by group. {_extremes(scores, groups)}")


def means_figure(
    scores: Mapping[str, Any],
    groups: Sequence[AttributeGroups],
    pooled: Mapping[str, Any] | None = None,
    marked: Collection[str] = (),
) -> Figure:
    """Draw the figure of `means`."""
    rows = rows_of(groups)
    # A table of one score per case has one structure, `ALL_STRUCTURES`, which is the first panel.
    structures = {name: part for name, part in scores["structures"].items() if name != ALL_STRUCTURES}
    panels = {"All structures": scores, **structures}
    columns = 4 if len(panels) == 4 else min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    layout = ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.1, hspace=0.04)
    with svg.style():
        figure = Figure(figsize=(WIDTH, lines * (ROW * len(rows) + 0.75)), layout=layout)
        grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for axes, (panel, part) in zip(grid, panels.items(), strict=False):
            is_overall = part is scores
            _means_panel(axes, part, rows, (pooled or {}) if is_overall else {}, marked if is_overall else ())
            axes.tick_params(labelbottom=True)
            axes.set_title(panel[:1].upper() + panel[1:])
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        for axes in grid[::columns]:
            label_rows(axes, rows)
    return figure


def _means_panel(
    axes: Axes,
    part: Mapping[str, Any],
    rows: Sequence[Row],
    pooled: Mapping[str, Any],
    marked: Collection[str],
) -> None:
    worst = {summary["worst"]["group"] for summary in part["summaries"].values()}
    value_axis(axes, 3)
    if part["overall"]["mean"] is not None:
        axes.axvline(part["overall"]["mean"], color=svg.MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    for y, row in enumerate(rows):
        entry = part["groups"].get(row.name)
        if entry is None or entry["mean"] is None:
            continue
        color = svg.ALERT if row.name in marked else svg.ACCENT
        if entry["interval"] and None not in entry["interval"]:
            axes.plot(entry["interval"], (y, y), color=color, linewidth=1.6, solid_capstyle="butt")
        axes.plot(
            entry["mean"],
            y,
            "D" if row.name in worst else "o",
            color=color,
            markersize=5,
            markerfacecolor=color if entry["ranked"] else svg.PAPER,
        )
        if mean := pooled.get(row.name or ""):
            height = y + 0.3
            axes.plot(mean["interval"], (height, height), color=svg.INK, linewidth=0.6, solid_capstyle="butt")
            axes.plot(
                mean["mean"],
                height,
                "D",
                color=svg.INK,
                markersize=3,
                markeredgewidth=0.7,
                markerfacecolor=svg.PAPER,
            )


def _extremes(scores: Mapping[str, Any], groups: Sequence[AttributeGroups]) -> str:
    """Name the lowest and the highest mean, for an alt text."""
    means = {
        name: scores["groups"][name]["mean"]
        for entry in groups
        for name in entry.labels
        if scores["groups"][name]["mean"] is not None
    }
    if not means:
        return "No group has a score."
    attributes = [entry.key for entry in groups if "," not in entry.key]
    return " ".join(
        f"{word}: {group_title(name, attributes)}, {number(means[name])}."
        for word, name in (
            ("Lowest", min(means, key=means.__getitem__)),
            ("Highest", max(means, key=means.__getitem__)),
        )
    )


def gaps(scores: Mapping[str, Any], groups: Sequence[AttributeGroups], title: str, name: str) -> str:
    """Draw the signed difference of every pair of groups with its interval, a line at 0, and the equivalence margin.

    A pair is marked where it differs significantly: by its p, corrected over the primary family, and by its interval.

    Args:
        scores: one score of the report, its summaries with `pairs`.
        groups: the groups whose pairs to show, in order; attributes without pairs are omitted.
        title: the score's name for a reader.
        name: the figure's name, unique on the page.

    Returns:
        An `<svg>`: filled diamonds where a pair differs significantly, hollow circles where it does not.
    """
    rows: list[Row] = []
    pair_of_row: dict[str, Mapping[str, Any]] = {}
    margins, equivalence_intervals = set(), {}
    for entry in groups:
        summary = scores["summaries"][entry.key]
        pairs = [pair for pair in summary["pairs"] if pair["difference"] is not None]
        if equivalence := summary["equivalence"]:
            margins.add(equivalence["delta"])
            for pair, ends in zip(summary["pairs"], equivalence["intervals"], strict=False):
                equivalence_intervals[f"{pair['first']}|{pair['second']}"] = ends
        if pairs:
            rows.append(Row(None, entry.title))
        for pair in pairs:
            key = f"{pair['first']}|{pair['second']}"
            pair_of_row[key] = pair
            rows.append(Row(key, f"{entry.labels[pair['first']]} vs {entry.labels[pair['second']]}"))
    with svg.style():
        figure = Figure(figsize=(WIDTH, ROW * len(rows) + 0.7), layout="constrained")
        axes = figure.subplots()
        value_axis(axes)
        for delta in sorted(margins):
            axes.axvspan(-delta, delta, color=svg.RULE, alpha=0.5, linewidth=0)
        axes.axvline(0, color=svg.MUTED, linewidth=0.9)
        significant_pairs = []
        for y, row in enumerate(rows):
            if row.name is None:
                continue
            pair = pair_of_row[row.name]
            if row.name in equivalence_intervals:
                axes.plot(equivalence_intervals[row.name], [y + 0.28] * 2, color=svg.MUTED, linewidth=1)
            significant = findings.is_significant_pair(pair)
            _estimate(axes, y, pair["difference"], pair["interval"], significant)
            if significant:
                significant_pairs.append(
                    f"{row.label} {signed(pair['difference'])} {interval(pair['interval'])}"
                )
        axes.set_xlabel(f"difference in mean {title}, first minus second group")
        label_rows(axes, rows)
        alt = f"Differences in mean {title} between groups. Statistically significant: "
        return svg.text(figure, name, alt + (", ".join(significant_pairs) or "none") + ".")


def aucs(leakage: Mapping[str, Any], name: str) -> str:
    """Draw how well each attribute is predicted from image, crop, mask and features, with a line at chance.

    Args:
        leakage: `report["attribute_leakage"]`: attribute -> stage -> `{"auc", "interval", "patients"}`.
        name: the figure's name, unique on the page.
    """
    rows: list[Row] = []
    entries: dict[str, Mapping[str, Any]] = {}
    for attribute, stages in leakage.items():
        rows.append(Row(None, attribute))
        for stage, entry in stages.items():
            entries[f"{attribute}|{stage}"] = entry
            rows.append(Row(f"{attribute}|{stage}", stage))
    texts = []
    with svg.style():
        figure = Figure(figsize=(WIDTH, ROW * len(rows) + 0.7), layout="constrained")
        axes = figure.subplots()
        value_axis(axes)
        axes.axvline(0.5, color=svg.MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        for y, row in enumerate(rows):
            if row.name is None or (entry := entries[row.name])["auc"] is None:
                continue
            _estimate(axes, y, entry["auc"], entry["interval"])
            texts.append(f"{row.name.replace('|', ' from the ')} {number(entry['auc'], 2)}")
        axes.set_xlim(min(0.4, axes.get_xlim()[0]), 1.01)
        axes.set_xlabel("area under the ROC curve; 0.5 is chance")
        label_rows(axes, rows)
        return svg.text(
            figure, name, f"How well an attribute is predicted: {', '.join(texts) or 'not known'}."
        )


def _estimate(
    axes: Axes, y: float, value: float, ends: Sequence[float | None] | None, is_marked: bool = False
) -> None:
    """Draw an estimate with its interval in one row; a filled diamond where it is marked."""
    limits = [end for end in ends or () if end is not None]
    color = svg.ALERT if is_marked else svg.ACCENT
    if len(limits) == 2:
        axes.plot(limits, (y, y), color=color, linewidth=1.6, solid_capstyle="butt")
    face = color if is_marked else svg.PAPER
    axes.plot(value, y, "D" if is_marked else "o", color=color, markersize=5, markerfacecolor=face)

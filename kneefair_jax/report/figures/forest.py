"""Estimates with their intervals, a row each: means of groups, differences of groups, areas under the curve."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from kneefair_jax.report.figures import svg
from kneefair_jax.report.figures.svg import ROW, WIDTH, Row, label_rows, rows_of, value_axis
from kneefair_jax.report.text import findings
from kneefair_jax.report.text.formatting import MINUS, Block, group, interval, number, signed


def means(
    scores: Mapping[str, Any],
    blocks: Sequence[Block],
    title: str,
    name: str,
    pooled: Mapping[str, Any] | None = None,
) -> str:
    """Group means with their intervals, one panel for all structures and one for each.

    Args:
        scores: one score of the report, `report["scores"]["dice"]`.
        blocks: the groups to show, in order.
        title: the score's name for a reader.
        name: the figure's name, used once a page.
        pooled: group -> its pooled mean over all structures, `report["pooled"]`.

    Returns:
        An `<svg>`: filled circles for ranked groups, hollow for those too small to rank, diamonds for the
        worst of each attribute, small hollow diamonds below them for pooled means, a dashed line for the mean
        over all patients.
    """
    with svg.style():
        figure = means_figure(scores, blocks, pooled)
        return svg.text(figure, name, f"Mean {title} by group. {_extremes(scores, blocks)}")


def means_figure(
    scores: Mapping[str, Any], blocks: Sequence[Block], pooled: Mapping[str, Any] | None = None
) -> Figure:
    """The figure of `means`."""
    rows = rows_of(blocks)
    panels = {"All structures": scores, **{part: scores["structures"][part] for part in scores["structures"]}}
    columns = 4 if len(panels) == 4 else min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    layout = ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.1, hspace=0.04)
    with svg.style():
        figure = Figure(figsize=(WIDTH, lines * (ROW * len(rows) + 0.75)), layout=layout)
        grid = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
        for axes, (panel, part) in zip(grid, panels.items(), strict=False):
            _means_panel(axes, part, rows, (pooled or {}) if part is scores else {})
            axes.set_title(panel[:1].upper() + panel[1:])
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        for axes in grid[::columns]:
            label_rows(axes, rows)
    return figure


def _means_panel(axes: Axes, part: Mapping[str, Any], rows: Sequence[Row], pooled: Mapping[str, Any]) -> None:
    worst = {(summary.get("worst") or {}).get("group") for summary in part["summaries"].values()}
    value_axis(axes, 3)
    if part["overall"]["mean"] is not None:
        axes.axvline(part["overall"]["mean"], color=svg.MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    for y, row in enumerate(rows):
        entry = part["groups"].get(row.name)
        if entry is None or entry["mean"] is None:
            continue
        colour = svg.ALERT if row.name in worst else svg.ACCENT
        if entry["interval"] and None not in entry["interval"]:
            axes.plot(entry["interval"], (y, y), color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot(
            entry["mean"],
            y,
            "D" if row.name in worst else "o",
            color=colour,
            markersize=5,
            markerfacecolor=colour if entry.get("ranked", True) else svg.PAPER,
        )
        if one := pooled.get(row.name or ""):
            below = y + 0.3
            axes.plot(one["interval"], (below, below), color=svg.INK, linewidth=0.6, solid_capstyle="butt")
            axes.plot(
                one["mean"],
                below,
                "D",
                color=svg.INK,
                markersize=3,
                markeredgewidth=0.7,
                markerfacecolor=svg.PAPER,
            )


def _extremes(scores: Mapping[str, Any], blocks: Sequence[Block]) -> str:
    """The lowest and the highest mean in words, for an alt text."""
    means = {
        name: scores["groups"][name]["mean"]
        for block in blocks
        for name in block.labels
        if scores["groups"][name]["mean"] is not None
    }
    if not means:
        return "No group has a score."
    attributes = [block.key for block in blocks if "," not in block.key]
    return " ".join(
        f"{word}: {group(name, attributes)}, {number(means[name])}."
        for word, name in (
            ("Lowest", min(means, key=means.__getitem__)),
            ("Highest", max(means, key=means.__getitem__)),
        )
    )


def gaps(scores: Mapping[str, Any], blocks: Sequence[Block], title: str, name: str) -> str:
    """The signed difference of every pair of groups, with its interval, a line at 0, and the margin where one is given.

    A pair is marked where it differs significantly: by its p, corrected over the primary family, and by its interval.

    Args:
        scores: one score of the report, its summaries with `pairs`.
        blocks: whose pairs to show, in order; those without pairs are left out.
        title: the score's name for a reader.
        name: the figure's name, used once a page.

    Returns:
        An `<svg>`: filled diamonds where a pair differs significantly, hollow circles where it does not.
    """
    rows: list[Row] = []
    found: dict[str, Mapping[str, Any]] = {}
    margins, deciding = set(), {}
    for block in blocks:
        summary = scores["summaries"].get(block.key) or {}
        equivalence = summary.get("equivalence") or {}
        pairs = [pair for pair in summary.get("pairs") or [] if pair["difference"] is not None]
        for pair, ends in zip(summary.get("pairs") or [], equivalence.get("intervals") or [], strict=False):
            deciding[f"{pair['first']}|{pair['second']}"] = ends
        if pairs:
            rows.append(Row(None, block.title))
        for pair in pairs:
            key = f"{pair['first']}|{pair['second']}"
            found[key] = pair
            rows.append(Row(key, f"{_label(block, pair['first'])} {MINUS} {_label(block, pair['second'])}"))
        if equivalence:
            margins.add(equivalence["delta"])
    with svg.style():
        figure = Figure(figsize=(WIDTH, ROW * len(rows) + 0.7), layout="constrained")
        axes = figure.subplots()
        value_axis(axes)
        for delta in sorted(margins):
            axes.axvspan(-delta, delta, color=svg.RULE, alpha=0.5, linewidth=0)
        axes.axvline(0, color=svg.MUTED, linewidth=0.9)
        apart = []
        for y, row in enumerate(rows):
            if row.name is None:
                continue
            pair = found[row.name]
            if row.name in deciding:
                axes.plot(deciding[row.name], [y + 0.28] * 2, color=svg.MUTED, linewidth=1)
            significant = findings.is_named(pair)
            _estimate(axes, y, pair["difference"], pair.get("interval"), significant)
            if significant:
                apart.append(f"{row.label} {signed(pair['difference'])} {interval(pair['interval'])}")
        axes.set_xlabel(f"difference in mean {title}")
        label_rows(axes, rows)
        alt = f"Differences in mean {title} between groups. Statistically significant: "
        return svg.text(figure, name, alt + (", ".join(apart) or "none") + ".")


def aucs(root_cause: Mapping[str, Any], name: str) -> str:
    """How well each attribute is predicted from the image, the crop, the mask and the features, with a line at chance.

    Args:
        root_cause: attribute -> stage -> `{"auc", "interval", "patients"}`.
        name: the figure's name, used once a page.
    """
    rows: list[Row] = []
    found: dict[str, Mapping[str, Any]] = {}
    for attribute, stages in root_cause.items():
        rows.append(Row(None, attribute))
        for stage, entry in stages.items():
            found[f"{attribute}|{stage}"] = entry
            rows.append(Row(f"{attribute}|{stage}", stage))
    words = []
    with svg.style():
        figure = Figure(figsize=(WIDTH, ROW * len(rows) + 0.7), layout="constrained")
        axes = figure.subplots()
        value_axis(axes)
        axes.axvline(0.5, color=svg.MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        for y, row in enumerate(rows):
            entry = found.get(row.name or "") or {}
            if entry.get("auc") is None:
                continue
            _estimate(axes, y, entry["auc"], entry.get("interval"))
            words.append(f"{(row.name or '').replace('|', ' from the ')} {number(entry['auc'], 2)}")
        axes.set_xlim(min(0.4, axes.get_xlim()[0]), 1.01)
        axes.set_xlabel("area under the ROC curve; 0.5 is guessing")
        label_rows(axes, rows)
        return svg.text(
            figure, name, f"How well an attribute is predicted: {', '.join(words) or 'not at all known'}."
        )


def _estimate(
    axes: Axes, y: float, value: float, ends: Sequence[float | None] | None, marked: bool = False
) -> None:
    """Draw an estimate with its interval in one row; a filled diamond where it is marked."""
    known = [end for end in ends or () if end is not None]
    colour = svg.ALERT if marked else svg.ACCENT
    if len(known) == 2:
        axes.plot(known, (y, y), color=colour, linewidth=1.6, solid_capstyle="butt")
    face = colour if marked else svg.PAPER
    axes.plot(value, y, "D" if marked else "o", color=colour, markersize=5, markerfacecolor=face)


def _label(block: Block, name: str) -> str:
    return block.labels.get(name, name)

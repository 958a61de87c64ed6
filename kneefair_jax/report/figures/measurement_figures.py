"""Draw the agreement of measurements by group (Bland and Altman, Lancet 327:307, 1986)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kneefair_jax.groups import partition
from kneefair_jax.report.figures import svg
from kneefair_jax.report.figures.scatter import panel_grid
from kneefair_jax.report.figures.svg import looks, plane
from kneefair_jax.report.text import measurements
from kneefair_jax.report.text.formatting import MINUS, AttributeGroups, signed

PREFIX = "agreement_"
MOST_DOTS = 400  # of a group


def agreement(measured: pd.DataFrame, groups: Sequence[AttributeGroups]) -> dict[str, str]:
    """Draw error against the mean of reference and prediction, a panel an attribute, a color a group.

    Args:
        measured: a row per knee and measurement: `measurement`, `unit`, `reference`, `predicted` and the categorical
            attributes.
        groups: one attribute each.

    Returns:
        `agreement_` and the measurement -> SVG, of measurements that two knees have or more.
    """
    figures = {}
    for measurement in measurements.MAIN:
        rows = measured[measured["measurement"] == measurement].dropna(subset=["reference", "predicted"])
        if len(rows) < 2 or not groups:
            continue
        unit = rows["unit"].iloc[0]
        error, mean = rows["predicted"] - rows["reference"], (rows["predicted"] + rows["reference"]) / 2
        texts = []
        with svg.style():
            figure, axes_of = panel_grid(len(groups))
            for axes, entry in zip(axes_of, groups, strict=True):
                plane(axes)
                axes.set_title(entry.title)
                axes.axhline(0, color=svg.MUTED, linewidth=0.9)
                levels = partition(rows, [entry.key], missing_as_level=True)
                for (g, group), look in zip(enumerate(levels.names), looks(), strict=False):
                    members = np.flatnonzero(levels.index == g)
                    label = entry.labels.get(group, group)
                    bias, deviation = error.iloc[members].mean(), error.iloc[members].std()
                    rows_shown = members[:: max(1, len(members) // MOST_DOTS)]
                    dots = look | {"linestyle": "", "markersize": 3, "alpha": 0.35, "markeredgewidth": 0}
                    axes.plot(mean.iloc[rows_shown], error.iloc[rows_shown], **dots)
                    line = {"color": look["color"], "linestyle": look["linestyle"]}
                    axes.axhline(bias, linewidth=1.5, label=label, **line)
                    if len(members) > 1:
                        for limit in (bias - 1.96 * deviation, bias + 1.96 * deviation):
                            axes.axhline(limit, linewidth=0.8, alpha=0.6, **line)
                    texts.append(f"{label}: mean error {signed(bias, 2)} {unit}")
                low, high = axes.get_ylim()
                axes.set_ylim(low, high + 0.25 * (high - low))  # room for the legend
                axes.legend(loc="upper right", fontsize=8, ncols=3)
                axes.set_xlabel(f"mean of reference and prediction, {unit}")
            axes_of[0].set_ylabel(f"prediction {MINUS} reference, {unit}")
            alt = f"Agreement of {measurements.title(measurement)} by group. {'; '.join(texts)}."
            name = f"{PREFIX}{measurement}"
            figures[name] = svg.text(figure, name, alt)
    return figures

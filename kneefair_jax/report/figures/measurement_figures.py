"""Draw the agreement of measurements by group (Bland and Altman, Lancet 327:307, 1986), and errors along contours."""

from collections.abc import Mapping, Sequence
from typing import Any

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


def agreement(
    table: pd.DataFrame, groups: Sequence[AttributeGroups], errors: Mapping[str, Any]
) -> dict[str, str]:
    """Draw error against the mean of reference and prediction, a panel an attribute, a color a group.

    Args:
        table: a row per knee and measurement: `measurement`, `unit`, `reference`, `predicted` and the categorical
            attributes.
        groups: one attribute each.
        errors: measurement -> `measurement_errors.MeasurementErrors` as a mapping, for bias and limits of agreement.

    Returns:
        `agreement_` and the measurement -> SVG, of measurements that two knees have or more.
    """
    figures = {}
    for measurement in measurements.MAIN:
        rows = table[table["measurement"] == measurement].dropna(subset=["reference", "predicted"])
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
                    of_group = errors[measurement]["groups"][group]
                    bias = of_group["bias"]["estimate"]
                    rows_shown = members[:: max(1, len(members) // MOST_DOTS)]
                    dots = look | {"linestyle": "", "markersize": 3, "alpha": 0.35, "markeredgewidth": 0}
                    axes.plot(mean.iloc[rows_shown], error.iloc[rows_shown], **dots)
                    line = {"color": look["color"], "linestyle": look["linestyle"]}
                    axes.axhline(bias, linewidth=1.5, label=label, **line)
                    for limit in of_group["limits"] or ():
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


def contours(bones: Mapping[str, Any], groups: Sequence[AttributeGroups], name: str) -> str:
    """Draw the mean knee, and each group's mean contour with its errors enlarged, a panel an attribute.

    Parts at which groups differ, by the simultaneous bands, are marked on the mean knee.

    Args:
        bones: bone -> `contour_bands.ContourBands` as a mapping.
        groups: one attribute each.
        name: the figure's name, unique on the page.
    """
    largest = max(
        np.abs(band["mean"]).max()
        for bone in bones.values()
        for band in (bone["overall"], *bone["groups"].values())
    )
    # Errors are in mm, places in bicondylar widths: the largest error is drawn as a twentieth of the width.
    scale = 0.05 / largest if largest > 0 else 0.0
    texts = []
    with svg.style():
        figure, axes_of = panel_grid(len(groups))
        figure.set_size_inches(svg.WIDTH, 4.2 * -(-len(groups) // 2))
        for axes, entry in zip(axes_of, groups, strict=True):
            axes.set_title(f"{entry.title} (largest mean error {largest:.2f} mm)")
            axes.set_aspect("equal")
            axes.invert_yaxis()
            axes.set_axis_off()
            differs = []
            for bone, result in bones.items():
                places = _closed(np.array(result["places"]), bone)
                axes.plot(*places.T, color=svg.MUTED, linewidth=0.9)
                marked = np.zeros(len(result["places"]), bool)
                for pair in result["pairs"][entry.key]:
                    band = pair["difference"]
                    if band["low"] is not None:
                        marked |= (np.array(band["low"]) > 0) | (np.array(band["high"]) < 0)
                axes.plot(
                    *np.array(result["places"])[marked].T,
                    "o",
                    color=svg.ALERT,
                    markersize=4,
                    markeredgewidth=0,
                )
                if marked.any():
                    differs.append(f"{bone} {marked.mean():.0%}")
                outwards = _normals(np.array(result["places"]), bone)
                for group, look in zip(entry.labels, looks(), strict=False):
                    if group in result["groups"]:
                        shift = scale * np.array(result["groups"][group]["mean"])[:, None] * outwards
                        line = {"color": look["color"], "linestyle": look["linestyle"], "linewidth": 1.3}
                        label = entry.labels[group] if bone == next(iter(bones)) else None
                        axes.plot(*_closed(np.array(result["places"]) + shift, bone).T, **line, label=label)
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, fontsize=8)
            texts.append(f"{entry.title}: groups differ along {', '.join(differs) or 'no part'}")
        return svg.text(figure, name, f"Errors along the contours by group. {'; '.join(texts)}.")


def _closed(points: np.ndarray, bone: str) -> np.ndarray:
    return np.concatenate([points, points[:1]]) if bone == "patella" else points


def _normals(points: np.ndarray, bone: str) -> np.ndarray:
    """Return the outward directions f64[J, 2] along a contour that runs from the medial to the lateral side."""
    along = np.gradient(points, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-12)
    turned = np.stack([-along[:, 1], along[:, 0]], axis=1)  # down, where the contour runs to the lateral side
    return turned if bone == "femur" else -turned

"""Draw a comparison of methods as inline SVG, by the rules of `report.figures`.

A method has the same marker in every figure, so that a gray print is readable; in the plane of more methods than
markers it has a number instead.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kneefair_jax.report.figures import svg
from kneefair_jax.report.text.formatting import DASH, listing, number
from kneefair_jax.report.text.study_text import clip_intervals, has_two_groups, label, pair_titles

_WIDTH = 7.6
_MARKERS = "osD^vP<X>phd8H"
_STROKES = ("-", "--", "-.", ":")
_MAX_MARKERS = 12  # methods that markers alone can distinguish


class _MethodStyles:
    """Marker or number, stroke, color and legend label of each method."""

    def __init__(self, study: Mapping[str, Any], *, is_numbered: bool = False):
        comparison = study["comparison"]
        self.study, self.baseline, self.oracle = study, comparison["baseline"], comparison["oracle"]
        compared = [name for name in comparison["methods"] if name not in (self.baseline, self.oracle)]
        self.marker = {name: _MARKERS[1:][i % len(_MARKERS[1:])] for i, name in enumerate(compared)}
        self.stroke = {name: _STROKES[i % len(_STROKES)] for i, name in enumerate(compared)}
        self.number = {name: i for i, name in enumerate(comparison["methods"], 1)} if is_numbered else {}

    def plot_style(self, name: str, *, is_filled: bool = True) -> dict[str, Any]:
        """Return the keyword arguments of a method's plot."""
        color = {self.baseline: svg.INK, self.oracle: svg.MUTED}.get(name, svg.ACCENT)
        marker = {self.baseline: "o", self.oracle: "*"}.get(name) or (
            "o" if self.number else self.marker[name]
        )
        return {
            "marker": marker,
            "color": color,
            "linestyle": self.stroke.get(name, "-"),
            "linewidth": 1.1,
            "markersize": (8 if marker == "*" else 6) - (2 if self.number else 0),
            "markerfacecolor": color if is_filled else svg.PAPER,
        }

    def legend_label(self, name: str) -> str:
        """Return the method's label, after its number where there is one."""
        return f"{self.number[name]} {label(self.study, name)}" if self.number else label(self.study, name)

    def legend(self, figure: Figure, names: Sequence[str], **style: Any) -> None:
        """Add a legend below the panels, in the order of the table."""
        handles = [
            figure.axes[0].plot([], [], label=self.legend_label(name), **self.plot_style(name) | style)[0]
            for name in names
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=4, labelcolor=svg.INK)


def is_numbered(study: Mapping[str, Any]) -> bool:
    """Return whether the plane has too many methods for markers alone."""
    return len(study["comparison"]["methods"]) > _MAX_MARKERS


def plane(study: Mapping[str, Any], name: str) -> str:
    """Draw the overall mean against the worst group's mean and against the gap, with the Pareto front.

    Args:
        study: see `study_page.write`.
        name: the figure's name, unique on the page.

    Returns:
        An `<svg>`: whiskers are intervals over seeds, filled markers lie on the Pareto front of their panel, a star
        is the oracle. The gap's axis points down, so that up and right is better in both panels, as far as 0.
        Numbered points fill the panel, and long whiskers are cut at its edge.
    """
    styles, methods = _MethodStyles(study, is_numbered=is_numbered(study)), study["comparison"]["methods"]
    names = [m for m in methods if methods[m]["gap"]["value"] is not None]
    # Neighboring points have their numbers on different sides.
    order = sorted(names, key=lambda m: methods[m]["mean"]["value"])
    fronts = []
    with svg.style():
        # Numbers need room: one panel above the other, as wide as the page.
        layout, height = ((2, 1), 7.6) if styles.number else ((1, 2), 3.4)
        figure = Figure(figsize=(_WIDTH, height + 0.2 * ((len(names) + 3) // 4)), layout="constrained")
        panels = {"worst": "Worst group's mean", "gap": _gap_title(study)}
        for axes, (side, title) in zip(figure.subplots(*layout), panels.items(), strict=True):
            front = [m for m in names if (methods[m]["front"] or {}).get(side)]
            front.sort(key=lambda m: methods[m]["mean"]["value"])
            points = [(methods[m]["mean"]["value"], methods[m][side]["value"]) for m in front]
            if points:
                axes.plot(*zip(*points, strict=True), color=svg.MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
            for m in names:
                _point(
                    axes,
                    clip_intervals(methods[m]["mean"], "mean"),
                    clip_intervals(methods[m][side], side),
                    styles.plot_style(m, is_filled=m in front or m == styles.oracle),
                    styles.number.get(m),
                    order.index(m),
                )
            if styles.number:
                _set_limits(axes, [(methods[m]["mean"]["value"], methods[m][side]["value"]) for m in names])
            _format_axes(axes, title, "mean Dice over all patients")
            if side == "gap":
                if axes.get_ylim()[0] < 0:
                    axes.axhline(0, color=svg.MUTED, linewidth=0.8)
                axes.invert_yaxis()
            if front:
                fronts.append(f"{title}: {listing(label(study, m) for m in front)}.")
        styles.legend(figure, names, linestyle="")
        alt = "Overall mean against worst group's mean and against gap, by method. On the Pareto front by "
        return svg.text(figure, name, alt + (" ".join(fronts) or DASH))


def _point(
    axes: Axes,
    x: Mapping[str, Any],
    y: Mapping[str, Any],
    style: Mapping[str, Any],
    number: int | None,
    side: int,
) -> None:
    alpha = 0.7 if number is None else 0.25
    whisker = {"color": style["color"], "linewidth": 1.0, "alpha": alpha, "solid_capstyle": "butt"}
    if x["seeds"]:
        axes.plot(x["seeds"], (y["value"], y["value"]), **whisker)
    if y["seeds"]:
        axes.plot((x["value"], x["value"]), y["seeds"], **whisker)
    axes.plot(x["value"], y["value"], zorder=3, **style)
    if number is not None:
        point = (x["value"], y["value"])
        across, up = ((4, 3), (-4, -3), (-4, 3), (4, -3))[side % 4]
        axes.annotate(
            str(number),
            point,
            (across, up),
            textcoords="offset points",
            ha="left" if across > 0 else "right",
            va="bottom" if up > 0 else "top",
            color=style["color"],
            fontsize=8,
            zorder=2.5,  # over whiskers, under points
            bbox={"boxstyle": "square,pad=0", "facecolor": svg.PAPER, "edgecolor": "none"},
        )


def _set_limits(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Set limits that include the points, not the ends of all whiskers."""
    for axis, values in zip("xy", zip(*points, strict=True), strict=True):
        margin = 0.08 * (max(values) - min(values)) or 0.01
        axes.set(**{f"{axis}lim": (min(values) - margin, max(values) + margin)})


def _format_axes(axes: Axes, title: str, xlabel: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(xlabel)
    axes.grid()
    axes.tick_params(labelcolor=svg.MUTED)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))


def sweep(study: Mapping[str, Any], name: str) -> str:
    """Draw the signed gap of the comparison's pair over the swept setting, a line a method, with intervals over seeds.

    Args:
        study: see `study_page.write`; its `sweep` is not None.
        name: the figure's name, unique on the page.
    """
    styles, setting = _MethodStyles(study), study["sweep"]
    points = sorted(setting["points"], key=lambda point: point["share"])
    names = [m for m in study["comparison"]["methods"] if any(gap(point, m) for point in points)]
    shares = [point["share"] for point in points]
    # Shifted, so that whiskers do not hide each other.
    step = 0.012 * ((max(shares) - min(shares)) or 1)
    ends = []
    with svg.style():
        figure = Figure(figsize=(_WIDTH, 3.4 + 0.2 * ((len(names) + 3) // 4)), layout="constrained")
        axes = figure.subplots()
        axes.axhline(0, color=svg.MUTED, linewidth=0.8)
        for i, m in enumerate(names):
            style = styles.plot_style(m)
            gaps = [(point["share"], gap(point, m)) for point in points]
            line = [(share + step * (i - (len(names) - 1) / 2), value) for share, value in gaps if value]
            for x, value in line:
                if interval := clip_intervals(value, "gap").get("seeds"):
                    axes.plot((x, x), interval, color=style["color"], linewidth=1.0, alpha=0.7)
            axes.plot([x for x, _ in line], [value["value"] for _, value in line], **style)
            ends.append(
                f"{label(study, m)} from {number(line[0][1]['value'])} to {number(line[-1][1]['value'])}"
            )
        title = _gap_title(study)
        _format_axes(axes, title, setting["label"])
        axes.set_xticks(shares, [f"{100 * share:.3g} %" for share in shares])
        styles.legend(figure, names)
        return svg.text(figure, name, f"{title} by {setting['label']}: {', '.join(ends) or DASH}.")


def gap(point: Mapping[str, Any], method: str) -> Mapping[str, Any] | None:
    """Return a method's gap at one point of the sweep, signed with two groups; None where it has none."""
    entry = point["comparison"]["methods"].get(method)
    return entry["gap"] if entry and entry["gap"]["value"] is not None else None


def _gap_title(study: Mapping[str, Any]) -> str:
    """Return the title of the gap: signed for two groups, of each method's extreme groups for more."""
    if not study["comparison"]["pair"]:
        return "Gap"
    if has_two_groups(study["comparison"]):
        return "Gap: {} minus {}".format(*pair_titles(study))
    return "Gap: highest minus lowest group mean"

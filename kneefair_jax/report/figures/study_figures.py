"""A comparison of methods -> figures as inline SVG, by the rules of `report.figures`.

A method keeps its marker in every figure, so that a grey print can be read too; in the plane of more methods than
markers it has a number instead.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kneefair_jax.report.figures import svg
from kneefair_jax.report.text.formatting import DASH, listing, number
from kneefair_jax.report.text.study_text import label, pair, two_groups, within

_WIDTH = 7.6
_MARKERS = "osD^vP<X>phd8H"
_STROKES = ("-", "--", "-.", ":")
_MANY = 12  # methods that markers alone still tell apart


class _Look:
    """Marker or number, stroke and colour of each method, and the label that the legend gives it."""

    def __init__(self, study: Mapping[str, Any], *, numbered: bool = False):
        found = study["comparison"]
        self.study, self.baseline, self.oracle = study, found["baseline"], found["oracle"]
        others = [name for name in found["methods"] if name not in (self.baseline, self.oracle)]
        self.marker = {name: _MARKERS[1:][i % len(_MARKERS[1:])] for i, name in enumerate(others)}
        self.stroke = {name: _STROKES[i % len(_STROKES)] for i, name in enumerate(others)}
        self.number = {name: i for i, name in enumerate(found["methods"], 1)} if numbered else {}

    def of(self, name: str, *, filled: bool = True) -> dict[str, Any]:
        """Keyword arguments of a plot."""
        colour = {self.baseline: svg.ALERT, self.oracle: svg.MUTED}.get(name, svg.ACCENT)
        marker = {self.baseline: "o", self.oracle: "*"}.get(name) or (
            "o" if self.number else self.marker[name]
        )
        return {
            "marker": marker,
            "color": colour,
            "linestyle": self.stroke.get(name, "-"),
            "linewidth": 1.1,
            "markersize": (8 if marker == "*" else 6) - (2 if self.number else 0),
            "markerfacecolor": colour if filled else svg.PAPER,
        }

    def named(self, name: str) -> str:
        """The method's label, after its number where there is one."""
        return f"{self.number[name]} {label(self.study, name)}" if self.number else label(self.study, name)

    def legend(self, figure: Figure, names: Sequence[str], **style: Any) -> None:
        """Below the panels, in the order of the table."""
        handles = [
            figure.axes[0].plot([], [], label=self.named(name), **self.of(name) | style)[0] for name in names
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=4, labelcolor=svg.INK)


def numbered(study: Mapping[str, Any]) -> bool:
    """Whether the plane has too many methods for markers alone."""
    return len(study["comparison"]["methods"]) > _MANY


def plane(study: Mapping[str, Any], name: str) -> str:
    """Overall mean against the worst group's mean and against the gap, with the front that no method dominates.

    Args:
        study: see `study_page.write`.
        name: the figure's name, used once a page.

    Returns:
        An `<svg>`: whiskers are intervals over seeds, filled markers lie on the Pareto front of their panel, a star
        is the oracle. The gap's axis points down, so that up and right is better in both panels, as far as 0.
        Numbered points fill the panel, and long whiskers run out of it.
    """
    look, methods = _Look(study, numbered=numbered(study)), study["comparison"]["methods"]
    shown = [m for m in methods if methods[m]["gap"]["value"] is not None]
    # Numbers of neighbours stand on different sides of their points.
    sides = sorted(shown, key=lambda m: methods[m]["mean"]["value"])
    fronts = []
    with svg.style():
        # Numbers need room: the panels one above the other, as wide as the page.
        rows, height = ((2, 1), 7.6) if look.number else ((1, 2), 3.4)
        figure = Figure(figsize=(_WIDTH, height + 0.2 * ((len(shown) + 3) // 4)), layout="constrained")
        panels = {"worst": "Worst group's mean", "gap": _gap_title(study)}
        for axes, (side, title) in zip(figure.subplots(*rows), panels.items(), strict=True):
            front = [m for m in shown if (methods[m]["front"] or {}).get(side)]
            front.sort(key=lambda m: methods[m]["mean"]["value"])
            points = [(methods[m]["mean"]["value"], methods[m][side]["value"]) for m in front]
            if points:
                axes.plot(*zip(*points, strict=True), color=svg.MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
            for m in shown:
                _point(
                    axes,
                    within(methods[m]["mean"], "mean"),
                    within(methods[m][side], side),
                    look.of(m, filled=m in front or m == look.oracle),
                    look.number.get(m),
                    sides.index(m),
                )
            if look.number:
                _fit(axes, [(methods[m]["mean"]["value"], methods[m][side]["value"]) for m in shown])
            _axes(axes, title, "mean Dice over all patients")
            if side == "gap":
                if axes.get_ylim()[0] < 0:
                    axes.axhline(0, color=svg.MUTED, linewidth=0.8)
                axes.invert_yaxis()
            if front:
                fronts.append(f"{title}: {listing(label(study, m) for m in front)}.")
        look.legend(figure, shown, linestyle="")
        alt = "Overall mean against worst group's mean and against gap, by method. On the Pareto front by "
        return svg.text(figure, name, alt + (" ".join(fronts) or DASH))


def _point(
    axes: Axes,
    x: Mapping[str, Any],
    y: Mapping[str, Any],
    look: Mapping[str, Any],
    number: int | None,
    side: int,
) -> None:
    alpha = 0.7 if number is None else 0.25
    whisker = {"color": look["color"], "linewidth": 1.0, "alpha": alpha, "solid_capstyle": "butt"}
    if x["seeds"]:
        axes.plot(x["seeds"], (y["value"], y["value"]), **whisker)
    if y["seeds"]:
        axes.plot((x["value"], x["value"]), y["seeds"], **whisker)
    axes.plot(x["value"], y["value"], zorder=3, **look)
    if number is not None:
        at = (x["value"], y["value"])
        across, up = ((4, 3), (-4, -3), (-4, 3), (4, -3))[side % 4]
        axes.annotate(
            str(number),
            at,
            (across, up),
            textcoords="offset points",
            ha="left" if across > 0 else "right",
            va="bottom" if up > 0 else "top",
            color=look["color"],
            fontsize=8,
            zorder=2.5,  # over whiskers, under points
            bbox={"boxstyle": "square,pad=0", "facecolor": svg.PAPER, "edgecolor": "none"},
        )


def _fit(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Limits that hold the points, not the ends of all whiskers."""
    for axis, values in zip("xy", zip(*points, strict=True), strict=True):
        margin = 0.08 * (max(values) - min(values)) or 0.01
        axes.set(**{f"{axis}lim": (min(values) - margin, max(values) + margin)})


def _axes(axes: Axes, title: str, xlabel: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(xlabel)
    axes.grid()
    axes.tick_params(labelcolor=svg.MUTED)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))


def sweep(study: Mapping[str, Any], name: str) -> str:
    """The signed gap of the comparison's pair by what is swept, a line a method with intervals over seeds.

    Args:
        study: see `study_page.write`; its `sweep` is not None.
        name: the figure's name, used once a page.
    """
    look, swept = _Look(study), study["sweep"]
    points = sorted(swept["points"], key=lambda point: point["share"])
    shown = [m for m in study["comparison"]["methods"] if any(gap(point, m) for point in points)]
    shares = [point["share"] for point in points]
    # Side by side, so that whiskers do not hide each other.
    step = 0.012 * ((max(shares) - min(shares)) or 1)
    ends = []
    with svg.style():
        figure = Figure(figsize=(_WIDTH, 3.4 + 0.2 * ((len(shown) + 3) // 4)), layout="constrained")
        axes = figure.subplots()
        axes.axhline(0, color=svg.MUTED, linewidth=0.8)
        for i, m in enumerate(shown):
            found = [(point["share"], gap(point, m)) for point in points]
            line = [(share + step * (i - (len(shown) - 1) / 2), over) for share, over in found if over]
            for x, over in line:
                if ends_of := within(over, "gap").get("seeds"):
                    axes.plot((x, x), ends_of, color=look.of(m)["color"], linewidth=1.0, alpha=0.7)
            axes.plot([x for x, _ in line], [over["value"] for _, over in line], **look.of(m))
            ends.append(
                f"{label(study, m)} from {number(line[0][1]['value'])} to {number(line[-1][1]['value'])}"
            )
        title = _gap_title(study)
        _axes(axes, title, swept["label"])
        axes.set_xticks(shares, [f"{100 * share:.3g} %" for share in shares])
        look.legend(figure, shown)
        return svg.text(figure, name, f"{title} by {swept['label']}: {', '.join(ends) or DASH}.")


def gap(point: Mapping[str, Any], method: str) -> Mapping[str, Any] | None:
    """One method's gap at one point of the sweep, signed with two groups; None where it has none."""
    found = point["comparison"]["methods"].get(method)
    return found["gap"] if found and found["gap"]["value"] is not None else None


def _gap_title(study: Mapping[str, Any]) -> str:
    """Which gap it is: the signed one of two groups, or that of the extreme groups of each method."""
    if not study["comparison"]["pair"]:
        return "Gap"
    if two_groups(study["comparison"]):
        return "Gap: {} minus {}".format(*pair(study))
    return "Gap: highest minus lowest group mean"

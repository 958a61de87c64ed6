"""Convert a matplotlib figure to inline SVG with the page's color scheme, the same bytes in every run.

The module also has what the figures share: rows of groups, the axis of a score, the style of a group.
"""

import io
import itertools
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import matplotlib
from cycler import cycler
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kneefair_jax.report.text.formatting import AttributeGroups

# Placeholders: matplotlib writes these colors, and `text` replaces each by the page's variable, so that one SVG serves
# the light page, the dark page and print. The fallbacks are for an SVG copied out of the page.
INK, MUTED, RULE, PAPER = "#010101", "#020202", "#030303", "#040404"
ACCENT, ALERT = "#050505", "#060606"
_VARIABLES = {
    INK: "var(--ink, #1b1f24)",
    MUTED: "var(--muted, #5b6470)",
    RULE: "var(--rule, #d8dde3)",
    PAPER: "var(--paper, #ffffff)",
    ACCENT: "var(--accent, #0072b2)",  # Okabe and Ito's blue and vermilion
    ALERT: "var(--alert, #d55e00)",
}

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: searchable, small, in the page's own font
    "svg.hashsalt": "kneefair_jax",
    "text.parse_math": False,  # a dollar sign in a group's name is a dollar sign
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=[ACCENT, "#009e73", INK, MUTED]),
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.color": RULE,
    "ytick.labelcolor": INK,
    "ytick.left": False,
    "legend.frameon": False,
}
WIDTH = 7.6  # inches; the page scales a figure to its own width
ROW = 0.24
# Okabe and Ito's colors, which color-blind readers can distinguish; the first two follow the page's scheme.
# No group has the color of a significant difference.
_COLORS = (ACCENT, "#009e73", "#cc79a7", "#b58900", INK, MUTED)
_MARKERS = "osD^vP<X>"
_STROKES = ("-", "--", "-.", ":")


def style() -> AbstractContextManager[None]:
    """Return the context in which a figure is drawn and converted to text."""
    return matplotlib.rc_context(_STYLE)


def text(figure: Figure, name: str, alt: str) -> str:
    """Convert a figure to an `<svg>` element.

    Args:
        figure: a figure drawn inside `style()`.
        name: a name that is unique on the page, the prefix of the ids in the figure.
        alt: the alternative text for readers who cannot see the figure.
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The browser draws the text, with fonts that have the glyphs that matplotlib's font does not have.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].rstrip()
    svg = re.sub(r"\s*<metadata>.*?</metadata>|\s*<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href=", "href=")
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    # Style rules apply to the entire page: matplotlib's `* {...}` would change more than its figure.
    svg = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, variable)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1)


class Row(NamedTuple):
    """A row of a figure: a group, or the heading of the groups below it (name None)."""

    name: str | None
    label: str


def rows_of(groups: Sequence[AttributeGroups]) -> list[Row]:
    """Return a heading for each attribute, and a row for each of its groups."""
    rows: list[Row] = []
    for entry in groups:
        if entry.title:
            rows.append(Row(None, entry.title))
        rows += [Row(name, label) for name, label in entry.labels.items()]
    return rows


def label_rows(axes: Axes, rows: Sequence[Row], unranked: Collection[str] = ()) -> None:
    """Write the labels on the left side, headings bold, `unranked` groups gray, the first row at the top."""
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
        if row.name is None:
            tick.set_fontweight("bold")
        elif row.name in unranked:
            tick.set_color(MUTED)


def value_axis(axes: Axes, ticks: int = 4) -> None:
    """Set few ticks and a grid across the rows."""
    axes.grid(axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(ticks))


def plane(axes: Axes) -> None:
    """Set a grid and few ticks on both axes."""
    axes.grid()
    axes.tick_params(labelcolor=MUTED)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))


def looks() -> Iterator[dict[str, Any]]:
    """Yield keyword arguments of `plot` for one group after the other: color, marker and stroke differ."""
    for color, marker, stroke in zip(
        itertools.cycle(_COLORS), itertools.cycle(_MARKERS), itertools.cycle(_STROKES), strict=False
    ):
        yield {"color": color, "marker": marker, "linestyle": stroke}

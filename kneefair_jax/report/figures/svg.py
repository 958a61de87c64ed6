"""A matplotlib figure -> inline SVG that follows the page's colour scheme and is the same at every run.

And what the figures share: rows of groups, the axis of a score, the look of a group.
"""

import io
import itertools
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import matplotlib
from cycler import cycler
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kneefair_jax.report.text.formatting import Block

# Placeholders: matplotlib writes these colours, `text` turns each into the page's variable, so that one SVG
# serves the light page, the dark page and print. The fallbacks are for an SVG copied out of the page.
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
    "axes.prop_cycle": cycler(color=[ACCENT, ALERT, INK, MUTED]),
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
# Okabe and Ito's colours, which the colour-blind tell apart; the first two follow the page's scheme.
_COLOURS = (ACCENT, ALERT, "#009e73", "#cc79a7", INK, MUTED)
_MARKERS = "osD^vP<X>"
_STROKES = ("-", "--", "-.", ":")


def style() -> AbstractContextManager[None]:
    """The context in which a figure is drawn and turned into text."""
    return matplotlib.rc_context(_STYLE)


def text(figure: Figure, name: str, alt: str) -> str:
    """The figure as an `<svg>` element.

    Args:
        figure: drawn inside `style()`.
        name: unlike every other figure's on the page; it keeps the ids inside them apart.
        alt: what the figure shows, for those who cannot see it.
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The browser draws the text, with fonts that have the letters matplotlib's own lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].rstrip()
    svg = re.sub(r"\s*<metadata>.*?</metadata>|\s*<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href=", "href=")
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    # HTML gives a page one set of style rules: matplotlib's `* {...}` would reach beyond its figure.
    svg = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1)


class Row(NamedTuple):
    """A line of a figure: a group, or the heading of the groups below it (name None)."""

    name: str | None
    label: str


def rows_of(blocks: Sequence[Block]) -> list[Row]:
    """A heading for each block with a title, and a row for each of its groups."""
    rows: list[Row] = []
    for block in blocks:
        if block.title:
            rows.append(Row(None, block.title))
        rows += [Row(name, label) for name, label in block.labels.items()]
    return rows


def label_rows(axes: Axes, rows: Sequence[Row]) -> None:
    """Names down the left side, headings bold, the first at the top."""
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
        if row.name is None:
            tick.set_fontweight("bold")


def value_axis(axes: Axes, ticks: int = 4) -> None:
    """Few ticks and a grid across the rows."""
    axes.grid(axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(ticks))


def plane(axes: Axes) -> None:
    """A grid and few ticks both ways."""
    axes.grid()
    axes.tick_params(labelcolor=MUTED)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))


def looks() -> Iterator[dict[str, Any]]:
    """Keyword arguments of `plot` for one group after the other: colour, marker and stroke all differ."""
    for colour, marker, stroke in zip(
        itertools.cycle(_COLOURS), itertools.cycle(_MARKERS), itertools.cycle(_STROKES), strict=False
    ):
        yield {"color": colour, "marker": marker, "linestyle": stroke}

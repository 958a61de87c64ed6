"""What the figures share: rows of groups, the axis of a score, the look of a group."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kneefair_jax.report import svg
from kneefair_jax.report.wording import Block

WIDTH = 7.6  # inches; the page scales a figure to its own width
ROW = 0.24
# Okabe and Ito's colours, which the colour-blind tell apart; the first two follow the page's scheme.
_COLOURS = (svg.ACCENT, svg.ALERT, "#009e73", "#cc79a7", svg.INK, svg.MUTED)
_MARKERS = "osD^vP<X>"
_STROKES = ("-", "--", "-.", ":")


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
    axes.tick_params(labelcolor=svg.MUTED)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))


def looks() -> Iterator[dict[str, Any]]:
    """Keyword arguments of `plot` for one group after the other: colour, marker and stroke all differ."""
    for colour, marker, stroke in zip(
        itertools.cycle(_COLOURS), itertools.cycle(_MARKERS), itertools.cycle(_STROKES), strict=False
    ):
        yield {"color": colour, "marker": marker, "linestyle": stroke}

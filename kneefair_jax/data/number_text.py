"""Numbers that a person wrote in a table or a flag, by one strict rule."""

import math
import re

import numpy as np
import pandas as pd

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")


def parse(text: str) -> float:
    """Return the finite number that a text states in decimal notation, with a point.

    `float` itself takes `0_3` for 3, and `inf`, `nan` and digits of any script.

    Raises:
        ValueError: the text is anything else.
    """
    number = float(text) if _NUMBER.fullmatch(text.strip(" \t")) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not a finite number in decimal notation")
    return number


def is_number(text: str) -> bool:
    """Tell whether a text is a finite number in decimal notation."""
    return not math.isnan(_or_nan(text))


def with_point(cell: str) -> str:
    """Return a number that is written with a decimal comma with a point, `65.5` for `65,5`; "" for any other text."""
    return cell.replace(",", ".") if _COMMA.fullmatch(cell) else ""


def column(cells: pd.Series) -> pd.Series:
    """Return a column of text as f64 on the same index, NaN where a cell is no number."""
    numbers = {cell: _or_nan(cell) for cell in cells.unique()}
    return cells.map(numbers).astype(np.float64)


def _or_nan(cell: str) -> float:
    try:
        return parse(cell)
    except ValueError:
        return math.nan

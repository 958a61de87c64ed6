"""The spacing that a person states for films whose files state none: `--spacing`."""

import re

import numpy as np

from kneefair_jax.data import cell_text
from kneefair_jax.data.readers.spacing import LARGEST_MM, SMALLEST_MM
from kneefair_jax.errors import InputError
from kneefair_jax.predict.films import Film

KIND = "stated"
_LARGEST_RATIO = 2  # of rows to columns or the reverse; pixels of radiographs are square, or nearly so
_SAME = 0.01  # relative difference up to which a header and the flag state one spacing


def parse(text: str) -> np.ndarray:
    """Return f32[2], mm per pixel down and across, of `0.15`, `0.15,0.2` or, as in tables, `0.15x0.2`.

    Raises:
        InputError: it is not one number or two, not between 0.01 and 5 mm, two integers with a comma (which may be one
            number with a decimal comma), or of pixels more than twice as long as wide.
    """
    try:
        values = [cell_text.parse_number(word) for word in re.split("[,x]", text)]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(SMALLEST_MM <= value <= LARGEST_MM for value in values):
        raise InputError(
            f"--spacing {text}: give the pixel spacing in mm, between {SMALLEST_MM} and {LARGEST_MM:g}, as one number "
            "or as ROW,COLUMN, with decimal points: --spacing 0.15 or --spacing 0.15,0.2"
        )
    if re.fullmatch(r"\s*\d+\s*,\s*\d+\s*", text):
        decimal = re.sub(r"\s*,\s*", ".", text.strip())
        raise InputError(
            f"--spacing {text}: the comma may be a decimal comma; write {decimal} for one number, or "
            f"{text.replace(',', 'x')} for ROW x COLUMN"
        )
    if max(values) > _LARGEST_RATIO * min(values):
        raise InputError(
            f"--spacing {text}: {values[0]:g} mm down and {values[1]:g} mm across differ by more than a factor of "
            f"{_LARGEST_RATIO}, which no radiograph has; give ROW,COLUMN with decimal points: --spacing 0.15,0.2"
        )
    return np.array(np.broadcast_to(np.array(values, np.float32), 2))


def applied(film: Film, spacing: np.ndarray) -> Film:
    """Return the film with this spacing where its file states none; else as it is, with a note where the two differ.

    Args:
        film: as read.
        spacing: f32[2], mm per pixel down and across, of the film as it is displayed.
    """
    own = film.view.of_pair(spacing)
    if np.isnan(film.spacing).any():
        return film._replace(spacing=own, spacing_kind=KIND)
    if np.allclose(film.spacing, own, rtol=_SAME):
        return film
    stated, used = (" x ".join(f"{value:.4g}" for value in pair) for pair in (own, film.spacing))
    # A text that began with `--spacing` would be a formula of a spreadsheet.
    note = f"the header states {used} mm, and --spacing {stated} mm; areas are by the header"
    return film._replace(notes=(*film.notes, note))

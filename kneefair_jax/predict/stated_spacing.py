"""The spacing that a person states for films whose files state none: `--spacing`."""

import re

import numpy as np

from kneefair_jax.data import number_text
from kneefair_jax.data.readers.spacing import LARGEST_MM, SMALLEST_MM
from kneefair_jax.errors import InputError
from kneefair_jax.predict.films import Film

KIND = "stated"
_SAME = 0.01  # relative difference up to which a header and the flag state one spacing


def parse(text: str) -> np.ndarray:
    """Return f32[2], mm per pixel down and across, of `0.15`, `0.15,0.2` or, as in tables, `0.15x0.2`.

    Raises:
        InputError: it is not one number or two, or not between 0.01 and 5 mm.
    """
    try:
        values = [number_text.parse(word) for word in re.split("[,x]", text)]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(SMALLEST_MM <= value <= LARGEST_MM for value in values):
        raise InputError(
            f"--spacing {text}: give the pixel spacing in mm, between {SMALLEST_MM} and {LARGEST_MM:g}, as one number "
            "or as ROW,COLUMN, with decimal points: --spacing 0.15 or --spacing 0.15,0.2"
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
    note = f"--spacing states {stated} mm, the header {used} mm; areas are by the header"
    return film._replace(notes=(*film.notes, note))

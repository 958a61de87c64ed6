"""Label schemes: which structure a label stands for, and what a left/right flip does to it.

A scheme is no more than the tuple of its structures' names: label 0 is background and label i + 1 is
`structures[i]`. Sides are part of the name ("right femur"), so the swap table follows from the names.
"""

import re

import numpy as np

from kneefair_jax.errors import InputError

SCHEMES: dict[str, tuple[str, ...]] = {
    # One knee. The patella hides part of the femur, and the tibia part of the fibula.
    "knee": ("femur", "tibia", "fibula", "patella"),
    # A bilateral film; image left is the patient's right (the structures of arXiv 2308.04356).
    "knees": (
        "right patella",
        "left patella",
        "right femur",
        "left femur",
        "right tibia",
        "left tibia",
        "right fibula",
        "left fibula",
    ),
    # Chest radiographs, for trying the code on public films (JSRT).
    "chest": ("right lung", "left lung", "heart"),
}

# Structures that are unions of others: many masks draw the whole femur, patella's shadow included.
UNIONS: dict[str, tuple[str, ...]] = {"whole femur": ("femur", "patella")}

# Okabe and Ito's colours, which stay apart for colour-blind readers; background first.
COLOURS: np.ndarray = np.array(
    [
        (0, 0, 0),
        (230, 159, 0),
        (86, 180, 233),
        (0, 158, 115),
        (204, 121, 167),
        (240, 228, 66),
        (0, 114, 178),
        (213, 94, 0),
        (153, 153, 153),
    ],
    np.uint8,
)

# The label of void pixels (not annotated, or outside the field of view) in the arrays of a cohort.
VOID = 255

_OTHER_SIDE = {"right": "left", "left": "right", "r": "l", "l": "r"}


def parse(text: str) -> tuple[str, ...]:
    """The structures of a scheme by its name in `SCHEMES`, or by their own names between commas.

    Raises:
        InputError: a name is empty or given twice, or there are more than 254.
    """
    if text in SCHEMES:
        return SCHEMES[text]
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise InputError(
            f"label scheme {text!r}: give one of {sorted(SCHEMES)}, or the names of labels 1, 2, ... "
            "between commas, each once"
        )
    if len(names) >= VOID:
        raise InputError(
            f"label scheme: {len(names)} structures, and a cohort has up to {VOID - 1}; name fewer"
        )
    return names


def translation(structures: tuple[str, ...], into: tuple[str, ...]) -> np.ndarray:
    """What each label of one scheme is called in another, which may hold unions of its structures.

    Args:
        structures: names of labels 1, 2, ... that there are.
        into: names of labels 1, 2, ... that are wanted: structures, or unions of `UNIONS`.

    Returns:
        i32[len(structures) + 1]; 0 for a structure that is no part of what is wanted.

    Raises:
        InputError: a wanted name is neither, or two of them share a structure.
    """
    table = np.zeros(len(structures) + 1, np.int32)
    for label, name in enumerate(into, start=1):
        parts = (name,) if name in structures else UNIONS.get(name, (name,))
        if missing := [part for part in parts if part not in structures]:
            raise InputError(
                f"label scheme: {missing[0]!r} is none of {structures}, nor a union of them ({', '.join(UNIONS)})"
            )
        for part in parts:
            place = 1 + structures.index(part)
            if table[place]:
                raise InputError(f"label scheme: {part!r} is in both {into[table[place] - 1]!r} and {name!r}")
            table[place] = label
    return table


def flip_table(structures: tuple[str, ...]) -> np.ndarray:
    """The label that each label becomes when the image is flipped left to right.

    Returns:
        i32[len(structures) + 1]; names that differ in a word right or left (r or l) change places, whatever
        their case and whether spaces, hyphens or underscores join their words; every other label stays.

    Raises:
        InputError: a sided structure lacks its partner, so that a flipped mask could not be labelled.
    """
    words = [tuple(re.split(r"[\s_-]+", name.lower())) for name in structures]
    table = np.arange(len(structures) + 1, dtype=np.int32)
    for label, name in enumerate(words, start=1):
        partner = tuple(_OTHER_SIDE.get(word, word) for word in name)
        if partner not in words:
            raise InputError(
                f"label scheme: {structures[label - 1]!r} has no partner {' '.join(partner)!r} to swap with on a flip"
            )
        table[label] = words.index(partner) + 1
    return table


def with_void(table: np.ndarray) -> np.ndarray:
    """A `flip_table` for labels that hold `VOID`, which stays `VOID`; i32[256] of i32[S + 1]."""
    extended = np.arange(VOID + 1, dtype=np.int32)
    extended[: len(table)] = table
    return extended


def clear_void(label: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """A mask, by default the label map itself, with background in place of the label map's void pixels.

    Scores of both masks then leave these pixels out: they are of no structure, in overlaps, areas and surfaces.
    """
    return background_where(label == VOID, label if mask is None else mask)


def background_where(void: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mask, integers [H, W], with background in place of the void pixels, bool[H, W]."""
    return np.where(void, mask.dtype.type(0), mask)

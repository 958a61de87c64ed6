"""Label schemes: the structure that each label stands for, and the label after a left/right flip.

A scheme is the tuple of its structures' names: label 0 is background and label i + 1 is
`structures[i]`. Sides are part of the name ("right femur"), so the swap table follows from the names.
"""

import re
from collections.abc import Sequence

import numpy as np

from kneefair_jax.errors import InputError

# Overlap classes: pixels where two bones project onto each other, which no other class contains. The bone that the
# scheme `knee` draws in front is first.
OVERLAPS: dict[str, tuple[str, str]] = {
    "femur and patella": ("patella", "femur"),
    "tibia and fibula": ("tibia", "fibula"),
}

_KNEE = ("femur", "tibia", "fibula", "patella")
SCHEMES: dict[str, tuple[str, ...]] = {
    # One knee. The patella hides part of the femur, and the tibia part of the fibula.
    "knee": _KNEE,
    # One knee with both bones of an overlap: `femur` is the femur beside the patella, `patella` the patella beside the
    # femur, `femur and patella` the pixels of both; tibia and fibula likewise.
    "knee_overlaps": (*_KNEE, *OVERLAPS),
    # A bilateral film; image left is the patient's right (the structures of Littlefield et al., arXiv 2308.04356).
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

# Structures that are unions of classes: a name and its alternatives, of which the first that a scheme has applies. With
# overlap classes a union is the whole bone. Without them `whole femur` includes the part of the patella outside the
# femur, as many masks are drawn.
UNIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "whole femur": (("femur", "femur and patella"), ("femur", "patella")),
    "whole tibia": (("tibia", "tibia and fibula"),),
    "whole fibula": (("fibula", "tibia and fibula"),),
    "whole patella": (("patella", "femur and patella"),),
}

# Okabe and Ito's colors, which color-blind readers can distinguish; background first.
COLORS: np.ndarray = np.array(
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
    """Return the structures of a scheme, given by its name in `SCHEMES` or as their names separated by commas.

    Raises:
        InputError: a name is empty or given twice, or there are more than 254.
    """
    if text in SCHEMES:
        return SCHEMES[text]
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise InputError(
            f"label scheme {text!r}: give one of {sorted(SCHEMES)}, or the names of labels 1, 2, ... "
            "separated by commas, each once"
        )
    if len(names) >= VOID:
        raise InputError(
            f"label scheme: {len(names)} structures, but a cohort has at most {VOID - 1}; name fewer"
        )
    return names


def membership(structures: Sequence[str], names: Sequence[str], in_front: str = "") -> np.ndarray:
    """Return which labels of a scheme belong to each of several structures or unions, which may share labels.

    `membership(...)[:, label]` are the masks, bool[len(names), H, W], of a label map [H, W] without void pixels. Class
    probabilities [..., C] times the transposed table are the probabilities of these masks.

    An overlap class that is not among the names belongs to the bone in front: `patella` is then the patella with
    `femur and patella`, as in the scheme `knee`, and `femur` the femur that the patella does not cover.

    Args:
        structures: the names of labels 1, 2, ... of the label map.
        names: structures, overlap classes, or unions of `UNIONS`.
        in_front: a bone that covers the other bone of its overlap class, in place of the one that `knee` draws in
            front: "fibula" for masks in which the fibula is drawn over the tibia.

    Returns:
        bool[len(names), len(structures) + 1].

    Raises:
        InputError: the scheme lacks a structure, all alternatives of a union, or the overlap class of `in_front`.
    """
    if in_front and not any(in_front in OVERLAPS.get(name, ()) for name in structures):
        raise InputError(
            f"label scheme: {in_front!r} in front needs an overlap class of this bone ({', '.join(OVERLAPS)}), but the "
            f"classes are {tuple(structures)}"
        )
    table = np.zeros((len(names), len(structures) + 1), bool)
    for row, name in enumerate(names):
        for part in _classes(name, structures, names, in_front):
            table[row, 1 + structures.index(part)] = True
    return table


def _classes(name: str, structures: Sequence[str], names: Sequence[str], in_front: str) -> tuple[str, ...]:
    """Return the classes of one name; arguments and errors as for `membership`."""
    if name in structures:
        overlap_classes = (
            overlap
            for overlap, bones in OVERLAPS.items()
            if overlap in structures
            and overlap not in names
            and name == (in_front if in_front in bones else bones[0])
        )
        return (name, *overlap_classes)
    alternatives = UNIONS.get(name, ())
    for classes in alternatives:
        if set(classes) <= set(structures):
            return classes
    if alternatives:
        needed = " or ".join(" with ".join(map(repr, classes)) for classes in alternatives)
        raise InputError(
            f"label scheme: {name!r} needs the classes {needed}, but the classes are {tuple(structures)}"
        )
    raise InputError(
        f"label scheme: {name!r} is none of {tuple(structures)}, nor a union of them ({', '.join(UNIONS)})"
    )


def translation(structures: Sequence[str], into: Sequence[str], in_front: str = "") -> np.ndarray:
    """Return the label in one scheme of each label of another scheme.

    Args:
        structures: the names of labels 1, 2, ... of the label map.
        into: the names of labels 1, 2, ... of the result: structures, or unions of `UNIONS` that share no class.
        in_front: as for `membership`: "fibula" translates `knee_overlaps` into `knee` with the fibula over the tibia.

    Returns:
        i32[len(structures) + 1]; 0 for a structure that is not part of the result.

    Raises:
        InputError: as `membership`, or two names of `into` share a class.
    """
    members = membership(structures, into, in_front)
    for label in np.flatnonzero(members.sum(axis=0) > 1).tolist():
        first, second = [name for name, row in zip(into, members, strict=True) if row[label]][:2]
        raise InputError(
            f"label scheme: {structures[label - 1]!r} is in both {first!r} and {second!r}, but a pixel of a label map "
            "has one structure; name one of the two"
        )
    return np.where(members.any(axis=0), 1 + members.argmax(axis=0), 0).astype(np.int32)


def whole_bones(structures: Sequence[str]) -> tuple[str, ...]:
    """Return the unions that are whole bones in a scheme; empty where it has no overlap classes."""
    return tuple(
        name
        for name, alternatives in UNIONS.items()
        if any(set(classes) <= set(structures) and set(classes) & OVERLAPS.keys() for classes in alternatives)
    )


def shared_class(first: str, second: str) -> str | None:
    """Return the overlap class that two whole bones share; None of other names."""
    for overlap, bones in OVERLAPS.items():
        if {first, second} == {f"whole {bone}" for bone in bones}:
            return overlap
    return None


def class_beside(name: str) -> str:
    """Return the class of a whole bone beside its overlap: `femur` of `whole femur`; other names as they are."""
    return name.removeprefix("whole ") if name in UNIONS else name


def scored_structures(structures: Sequence[str]) -> tuple[str, ...]:
    """Return the structures that scores and losses by region use: whole bones replace their classes.

    An overlap class, or the rest of its bone, may have few pixels or none, so that its Dice is uninformative: 99 % of
    the patella lies in front of the femur.
    """
    bones = whole_bones(structures)
    in_bones = membership(structures, bones).any(axis=0)[1:]
    return (*bones, *(name for name, inside in zip(structures, in_bones, strict=True) if not inside))


def scored_labels(structures: Sequence[str]) -> np.ndarray | None:
    """Return which labels belong to each of `scored_structures`, bool[S, C]; None where each is the next label."""
    names = scored_structures(structures)
    return None if names == tuple(structures) else membership(structures, names)


def label_sets(structures: Sequence[str], annotated: Sequence[str]) -> np.ndarray:
    """Return the classes that a pixel of each label may be of, in a mask that shows only some structures.

    Where the whole femur alone was annotated, its pixels are femur or `femur and patella`, and all other pixels are of
    one of the other classes or background. Two classes are in one set if the annotated structures do not tell them
    apart.

    Args:
        structures: the names of labels 1, 2, ...
        annotated: structures or unions, as for `membership`.

    Returns:
        bool[C, C], C = len(structures) + 1: row l is the set of label l, which contains l.

    Raises:
        InputError: as `membership`.
    """
    members = membership(structures, annotated)
    sets: np.ndarray = (members[:, :, None] == members[:, None, :]).all(axis=0)
    return sets


def is_determined(sets: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return which structures a mask with these sets of labels shows: those that each set is inside or outside of.

    Args:
        sets: bool[..., C, C] (`label_sets`).
        members: bool[S, C], the labels of each structure (`membership`).

    Returns:
        bool[..., S].
    """
    inside = (sets[..., None, :] & members).sum(-1)  # [..., C, S], labels of a set in a structure
    result: np.ndarray = ((inside == 0) | (inside == sets.sum(-1)[..., None])).all(-2)
    return result


def layers(structures: Sequence[str], names: Sequence[str]) -> list[np.ndarray]:
    """Split structures that may share labels into as few label maps as possible.

    Args:
        structures: the names of labels 1, 2, ... of the label map.
        names: S structures or unions, as for `membership`.

    Returns:
        u8[len(structures) + 1] tables: `table[label]` holds s + 1 where a pixel is of `names[s]`, 0 elsewhere; each
        structure is in one of the tables.

    Raises:
        InputError: as `membership`.
    """
    tables: list[np.ndarray] = []
    for value, members in enumerate(membership(structures, names), start=1):
        disjoint = (table for table in tables if not table[members].any())
        if (table := next(disjoint, None)) is None:
            tables.append(table := np.zeros(len(structures) + 1, np.uint8))
        table[members] = value
    return tables


def flip_table(structures: tuple[str, ...]) -> np.ndarray:
    """Return the label that each label becomes when the image is flipped left to right.

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


def add_void(table: np.ndarray) -> np.ndarray:
    """Extend a `flip_table`, i32[S + 1], to labels with `VOID`, which stays `VOID`: i32[256]."""
    extended = np.arange(VOID + 1, dtype=np.int32)
    extended[: len(table)] = table
    return extended


def clear_void(label: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Return a mask, by default the label map itself, with background in place of the label map's void pixels.

    Scores of both masks then ignore these pixels: they belong to no structure in overlaps, areas and surfaces.
    """
    return background_where(label == VOID, label if mask is None else mask)


def background_where(void: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the mask, integers [H, W], with background in place of the void pixels, bool[H, W]."""
    return np.where(void, mask.dtype.type(0), mask)

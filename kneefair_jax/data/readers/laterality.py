"""Which knee a film shows, by its DICOM header, and where a table or a run states another.

PS3.3 of the DICOM standard: FrameLaterality (C.7.6.16.2.8) is of a frame, ImageLaterality (C.7.6.1, C.8.11) of an image
and Laterality (C.7.3.1) of a series. They "shall be consistent", so none counts where they are not.
"""

import re
from typing import Any, NamedTuple

from kneefair_jax.data.readers import functional_groups

COLUMNS = ("side", "laterality")  # of tables, and attributes of groups
SIDES = {"R": "right", "L": "left"}
_CODES = {"R": "R", "RIGHT": "R", "L": "L", "LEFT": "L", "B": "B", "BOTH": "B", "BILATERAL": "B"}


class Laterality(NamedTuple):
    """What a header states.

    Attributes:
        side: R, L, B (both knees), or "" where the tags state nothing or contradict each other.
        bilateral: whether the film shows both knees, by the tags or by a description.
        notes: what is odd about the tags.
    """

    side: str = ""
    bilateral: bool = False
    notes: tuple[str, ...] = ()


def of_dicom(dataset: Any, *, oriented: bool) -> Laterality:
    """Return what a DICOM header states.

    A study of both knees has films of one knee too, so StudyDescription counts where no tag states a side.

    Args:
        dataset: the header.
        oriented: whether it states the orientation of the film.
    """
    tags = {
        "FrameLaterality": functional_groups.value(dataset, "FrameAnatomySequence", "FrameLaterality"),
        "ImageLaterality": dataset.get("ImageLaterality"),
        "Laterality": dataset.get("Laterality"),
    }
    stated = {name: code for name, value in tags.items() if (code := parse(value))}
    side = next(iter(stated.values()), "")
    notes = []
    if len(set(stated.values())) > 1:
        side = ""
        contradiction = " and ".join(f"{name} {code}" for name, code in stated.items())
        notes.append(f"{contradiction} contradict each other, so the header states no side")
    if str(dataset.get("FieldOfViewHorizontalFlip") or "").strip().upper() == "YES" and not oriented:
        notes.append(
            "FieldOfViewHorizontalFlip is YES and PatientOrientation states no direction, so right and left of the "
            "film are not known"
        )
    bilateral = "B" in stated.values() or _is_bilateral(dataset, "SeriesDescription")
    if not stated:
        bilateral = bilateral or _is_bilateral(dataset, "StudyDescription")
    return Laterality(side, bilateral, tuple(notes))


def parse(text: Any) -> str:
    """Return R, L or B for a code or a word in any case; "" for any other."""
    return _CODES.get(str(text or "").strip().upper(), "")


def contradiction(side: str, other: str, source: str) -> str:
    """Return a note where a film's header states one knee, and another source the other; else "".

    Args:
        side: R, L, B or "", of the header.
        other: the same, of the other source.
        source: what states it, for the note.
    """
    if {side, other} != set(SIDES):
        return ""
    return f"the header states the {SIDES[side]} knee, and {source} the {SIDES[other]} knee; correct the wrong one"


def _is_bilateral(dataset: Any, name: str) -> bool:
    """Whether a description has the word, next to any punctuation: `KNEES, BILATERAL; AP`, `XR_KNEE_BILATERAL`."""
    return bool(re.search(r"(?<![a-z])bilateral(?![a-z])", str(dataset.get(name) or "").lower()))

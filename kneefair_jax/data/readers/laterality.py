"""Reads the knee that a film shows from its DICOM header, and notes contradictions with a table or a run.

PS3.3 of the DICOM standard: FrameLaterality (C.7.6.16.2.8) is of a frame, ImageLaterality (C.7.6.1, C.8.11) of an image
and Laterality (C.7.3.1) of a series. They "shall be consistent", so inconsistent tags are ignored.
"""

import re
from typing import Any, NamedTuple

from kneefair_jax.data.readers import functional_groups

COLUMNS = ("side", "laterality")  # of tables, and attributes of groups
SIDES = {"R": "right", "L": "left"}
_CODES = {"R": "R", "RIGHT": "R", "L": "L", "LEFT": "L", "B": "B", "BOTH": "B", "BILATERAL": "B"}


class Laterality(NamedTuple):
    """The laterality of a header.

    Attributes:
        side: R, L, B (both knees), or "" if the tags are absent or contradict each other.
        bilateral: whether the film shows both knees, by the tags or by a description.
        notes: warnings on the tags.
    """

    side: str = ""
    bilateral: bool = False
    notes: tuple[str, ...] = ()


def of_dicom(dataset: Any, *, oriented: bool) -> Laterality:
    """Return the laterality of a DICOM header.

    A study of both knees has films of one knee too, so StudyDescription is used only if no tag states a side.

    Args:
        dataset: the header.
        oriented: whether the header states the orientation of the film.
    """
    tags = {
        "FrameLaterality": functional_groups.value(dataset, "FrameAnatomySequence", "FrameLaterality"),
        "ImageLaterality": dataset.get("ImageLaterality"),
        "Laterality": dataset.get("Laterality"),
    }
    codes = {name: code for name, value in tags.items() if (code := parse(value))}
    side = next(iter(codes.values()), "")
    notes = []
    if len(set(codes.values())) > 1:
        side = ""
        contradiction = " and ".join(f"{name} {code}" for name, code in codes.items())
        notes.append(f"{contradiction} contradict each other, so the header states no side")
    if str(dataset.get("FieldOfViewHorizontalFlip") or "").strip().upper() == "YES" and not oriented:
        notes.append(
            "FieldOfViewHorizontalFlip is YES and PatientOrientation states no direction, so right and left of the "
            "film are not known"
        )
    bilateral = "B" in codes.values() or _is_bilateral(dataset, "SeriesDescription")
    if not codes:
        bilateral = bilateral or _is_bilateral(dataset, "StudyDescription")
    return Laterality(side, bilateral, tuple(notes))


def parse(text: Any) -> str:
    """Return R, L or B for a code or a word in any case of letters; "" for any other text."""
    return _CODES.get(str(text or "").strip().upper(), "")


def contradiction(header_side: str, source_side: str, source: str) -> str:
    """Return a note if a film's header states one knee and another source the opposite one; else "".

    Args:
        header_side: R, L, B or "".
        source_side: the same, by the other source.
        source: name of the other source, for the note.
    """
    if {header_side, source_side} != set(SIDES):
        return ""
    return (
        f"the header states the {SIDES[header_side]} knee, and {source} the {SIDES[source_side]} knee; correct the "
        "wrong one"
    )


def _is_bilateral(dataset: Any, name: str) -> bool:
    """Return whether a description has the word bilateral: `KNEES, BILATERAL; AP`, `XR_KNEE_BILATERAL`."""
    return bool(re.search(r"(?<![a-z])bilateral(?![a-z])", str(dataset.get(name) or "").lower()))

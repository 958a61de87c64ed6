"""Functional groups of DICOM objects with frames: attributes of all frames, or of each (PS3.3 C.7.6.16)."""

from typing import Any


def items(dataset: Any, macro: str) -> list[Any]:
    """Return the first item of a macro: one where all frames share it, else one per frame that states it.

    Args:
        dataset: of the file; one without functional groups has no items.
        macro: keyword of the macro's sequence, such as `PlaneOrientationSequence`.
    """
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        stated = [group.get(macro)[0] for group in dataset.get(groups) or () if group.get(macro)]
        if stated:
            return stated
    return []


def value(dataset: Any, macro: str, name: str) -> Any:
    """Return an attribute of the header, else of the macro's first item; None where neither states it."""
    stated = dataset.get(name)
    if _is_empty(stated) and (first := items(dataset, macro)[:1]):
        stated = first[0].get(name)
    return None if _is_empty(stated) else stated


def _is_empty(stated: Any) -> bool:
    return stated is None or (hasattr(stated, "__len__") and not len(stated))

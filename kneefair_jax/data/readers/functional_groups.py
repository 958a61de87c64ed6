"""Reads functional groups of multi-frame DICOM objects: attributes of all frames, or by frame (PS3.3 C.7.6.16)."""

from typing import Any


def items(dataset: Any, macro: str) -> list[Any]:
    """Return the first item of a macro: one item if all frames share it, else one for each frame that has it.

    Args:
        dataset: of the file; without functional groups it has no items.
        macro: keyword of the macro's sequence, such as `PlaneOrientationSequence`.
    """
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        first_items = [group.get(macro)[0] for group in dataset.get(groups) or () if group.get(macro)]
        if first_items:
            return first_items
    return []


def value(dataset: Any, macro: str, name: str) -> Any:
    """Return an attribute of the header, or else of the macro's first item; None if neither has it."""
    attribute = dataset.get(name)
    if _is_empty(attribute) and (macro_items := items(dataset, macro)):
        attribute = macro_items[0].get(name)
    return None if _is_empty(attribute) else attribute


def _is_empty(attribute: Any) -> bool:
    return attribute is None or (hasattr(attribute, "__len__") and not len(attribute))

"""Remove from a prediction what cannot be part of a bone: small pieces beside the bone, and holes in it.

On the film of one knee each bone is one piece without holes, as a whole outline: where two bones overlap, a pixel
counts for both (`clean_outlines`). In a label map the bone in front hides part of the other one and may cut it in two;
there both bones of a pair of `anatomy.OVERLAPS` are one piece (`clean_labels`).

Pieces are connected by edges or corners. Pieces of similar size are kept, because two of them may be two knees, about
which `quality.anatomy_warnings` warns.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from kneefair_jax import anatomy

# A piece with a smaller share of the largest piece's pixels is removed. In pictures of two knees the smaller femur has
# at least 0.69 of the larger one's pixels (`quality.MAX_DETACHED_SHARE`).
KEPT_SHARE = 0.3
_BONES = ("patella", "fibula", "tibia", "femur", "whole femur")
_SIDE_PREFIXES = ("", "right ", "left ")
_NEIGHBORS = np.ones((3, 3), bool)


class _Bone(NamedTuple):
    """A bone in the classes of a network, or in the labels of a mask.

    Attributes:
        members: bool[C], the classes of the bone.
        piece: bool[C], the classes that are one piece with it.
        reassignment: f32[C, C], which class a pixel's probability moves to where the bone is removed; a row of zeros
            for a class of this bone alone.
        hole_label: i32[C], the label of a pixel in a hole of the bone by its label before; other bones keep theirs.
    """

    members: np.ndarray
    piece: np.ndarray
    reassignment: np.ndarray
    hole_label: np.ndarray


def clean_outlines(probabilities: np.ndarray, structures: Sequence[str]) -> np.ndarray:
    """Return the probabilities of a network with overlap classes whose whole bones have no small pieces and holes.

    A pixel belongs to a whole bone where the sum over its classes is above 0.5. A removed piece gets the most probable
    of the other classes; of an overlap class, the other bone.

    Args:
        probabilities: f32[h, w, C] of the network's classes, on its working grid.
        structures: the names of classes 1, 2, ...

    Returns:
        f32[h, w, C], which add up to one; unchanged if the network has no overlap classes, or segments other bones.
    """
    result = probabilities
    bones = [
        _whole_bone(name, structures) for name in anatomy.whole_bones(structures) if _is_knee(structures)
    ]
    for _ in range(2):  # the class of a removed piece may be a piece of another bone
        for bone in bones:
            outline = result[..., bone.members].sum(-1) > 0.5
            result = _without_small_pieces(result, bone, outline, outline)
    for bone in bones:
        outline = result[..., bone.members].sum(-1) > 0.5
        result = _without_holes(result, bone, outline)
    return result


def clean_labels(probabilities: np.ndarray, structures: Sequence[str]) -> np.ndarray:
    """Return the probabilities of a label map whose bones have no small pieces and holes.

    A removed piece gets the most probable of the other structures, or background. A hole is background within a bone,
    or femur within the patella.

    Args:
        probabilities: f32[h, w, C] of background and each structure of the label map.
        structures: the names of labels 1, 2, ..., without overlap classes.

    Returns:
        f32[h, w, C], which add up to one; unchanged if the structures are not those of a knee.
    """
    result = probabilities
    bones = _bones(structures) if _is_knee(structures) else []
    for _ in range(2):
        for bone in bones:
            label = result.argmax(-1)
            result = _without_small_pieces(result, bone, bone.members[label], bone.piece[label])
    for bone in bones:
        result = _without_holes(result, bone, bone.members[result.argmax(-1)])
    return result


def _is_knee(structures: Sequence[str]) -> bool:
    """Return whether all structures are bones of a knee; bones of the same names in films of a hip are not whole."""
    names = {name.removeprefix("right ").removeprefix("left ") for name in structures}
    return names <= {*_BONES, *anatomy.OVERLAPS, *anatomy.UNIONS} and bool(names & {"femur", "whole femur"})


def _whole_bone(name: str, structures: Sequence[str]) -> _Bone:
    """Return a whole bone of a network with overlap classes."""
    (members,) = anatomy.membership(structures, (name,))
    reassignment = np.diag(~members).astype(np.float32)
    hole_label = np.arange(len(members))
    bone = anatomy.class_beside(name)
    hole_label[0] = 1 + structures.index(bone)
    for overlap, pair in anatomy.OVERLAPS.items():
        if bone in pair and overlap in structures:
            other = pair[pair[0] == bone]
            if other in structures:
                reassignment[1 + structures.index(overlap), 1 + structures.index(other)] = 1
                hole_label[1 + structures.index(other)] = 1 + structures.index(overlap)
    return _Bone(members, members, reassignment, hole_label)


def _bones(structures: Sequence[str]) -> list[_Bone]:
    """Return the bones of a label map."""
    label = {name: 1 + number for number, name in enumerate(structures)}
    bones = []
    for side in _SIDE_PREFIXES:
        for bone in _BONES:
            if f"{side}{bone}" not in label:
                continue
            value = label[f"{side}{bone}"]
            members = np.arange(len(structures) + 1) == value
            piece, hole_label = members.copy(), np.arange(len(structures) + 1)
            hole_label[0] = value
            for pair in anatomy.OVERLAPS.values():
                other = label.get(f"{side}{pair[pair[0] == bone]}")
                if bone in pair and other:
                    piece[other] = True
                    if bone == "patella":
                        hole_label[other] = value
            bones.append(_Bone(members, piece, np.diag(~members).astype(np.float32), hole_label))
    return bones


def _without_small_pieces(
    probabilities: np.ndarray, bone: _Bone, own: np.ndarray, piece: np.ndarray
) -> np.ndarray:
    """Remove small pieces.

    Args:
        probabilities: f32[h, w, C].
        bone: whose pieces.
        own: bool[h, w], its pixels.
        piece: bool[h, w], the pixels that connect its pieces.
    """
    pieces, count = ndimage.label(piece, _NEIGHBORS)
    sizes = np.bincount(pieces[own], minlength=count + 1)
    is_small = sizes < KEPT_SHARE * sizes.max()
    is_small[0] = False
    is_removed = own & is_small[pieces]
    if not is_removed.any():
        return probabilities
    # A ring around it too, from which interpolation to the film's pixels would make specks.
    is_kept = own & ~is_removed
    is_removed = ndimage.binary_dilation(is_removed) & ~ndimage.binary_dilation(is_kept) | is_removed
    reassignment = probabilities[is_removed] @ bone.reassignment
    total = reassignment.sum(-1, keepdims=True)
    background = np.eye(reassignment.shape[-1], dtype=reassignment.dtype)[0]
    result = probabilities.copy()
    result[is_removed] = np.where(total > 0, reassignment / np.where(total > 0, total, 1), background)
    return result


def _without_holes(probabilities: np.ndarray, bone: _Bone, own: np.ndarray) -> np.ndarray:
    label = probabilities.argmax(-1)
    can_fill = bone.members[label] | (bone.hole_label[label] != label)
    holes = ndimage.binary_fill_holes(own) & ~own & can_fill
    if not holes.any():
        return probabilities
    result = probabilities.copy()
    result[holes] = np.eye(probabilities.shape[-1], dtype=probabilities.dtype)[bone.hole_label[label[holes]]]
    return result

"""Remove from a prediction what cannot be part of a bone: small pieces beside the bone, and holes in it.

On the film of one knee each bone is one piece without holes, as a whole outline: where two bones overlap, a pixel
counts for both. Without overlap classes the patella hides part of the femur, and may cut it in two; there femur and
patella together are one piece.

Pieces of similar size are kept, because two of them may be two knees, about which `prediction.quality_warnings` warns.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from kneefair_jax import anatomy

# A piece with a smaller share of the largest piece's pixels is removed. In pictures of two knees the smaller femur has
# at least 0.69 of the larger one's pixels (`prediction.PIECE`).
KEPT_SHARE = 0.3
_BONES = ("femur", "tibia", "fibula", "patella")
_SIDE_PREFIXES = ("", "right ", "left ")


class _Bone(NamedTuple):
    """A bone in a network's classes.

    Attributes:
        members: bool[C], the classes of its whole outline.
        piece: bool[C], the classes that are one piece with it.
        without: f32[C, C], which class a pixel's probability moves to where the bone is removed; a row of zeros for the
            bone's own class.
        filled: i32[C], the label of a pixel in a hole of the bone by its label before; other bones keep theirs.
    """

    members: np.ndarray
    piece: np.ndarray
    without: np.ndarray
    filled: np.ndarray


def clean(probabilities: np.ndarray, structures: Sequence[str]) -> np.ndarray:
    """Return the probabilities of a prediction without small pieces and holes of bones.

    A removed piece gets the most probable of the other classes. Structures that are no bones of the knee stay as they
    are.

    Args:
        probabilities: f32[h, w, C] of a network's classes, on its working grid.
        structures: the names of classes 1, 2, ...

    Returns:
        f32[h, w, C], which add up to one.
    """
    result = probabilities
    bones = _bones(structures)
    for _ in range(2):  # the class of a removed piece may be a piece of another bone
        for bone in bones:
            result = _without_small_pieces(result, bone)
    for bone in bones:
        result = _without_holes(result, bone)
    return result


def _bones(structures: Sequence[str]) -> list[_Bone]:
    classes = len(structures) + 1
    label = {name: 1 + number for number, name in enumerate(structures)}
    bones = []
    for name in (f"{side}{bone}" for bone in reversed(_BONES) for side in _SIDE_PREFIXES):
        if name not in label:
            continue
        members, piece = np.zeros((2, classes), bool)
        without, filled = np.eye(classes, dtype=np.float32), np.arange(classes)
        members[label[name]] = True
        without[label[name]] = 0
        filled[0] = label[name]
        for overlap, pair in anatomy.OVERLAPS.items():
            if overlap in label and name in pair:
                other = label[pair[pair[0] == name]]
                members[label[overlap]] = True
                without[label[overlap]] = 0
                without[label[overlap], other] = 1
                filled[other] = label[overlap]
        piece |= members
        patella = f"{name.removesuffix('femur')}patella"
        if name.endswith("femur") and "femur and patella" not in label and patella in label:
            piece[label[patella]] = True
        bones.append(_Bone(members, piece, without, filled))
    return bones


def _without_small_pieces(probabilities: np.ndarray, bone: _Bone) -> np.ndarray:
    label = probabilities.argmax(-1)
    own = bone.members[label]
    pieces, count = ndimage.label(bone.piece[label])
    sizes = np.bincount(pieces[own], minlength=count + 1)
    is_small = sizes < KEPT_SHARE * sizes.max()
    is_small[0] = False
    removed = own & is_small[pieces]
    if not removed.any():
        return probabilities
    # A ring around it too, from which interpolation to the film's pixels would make specks.
    removed = ndimage.binary_dilation(removed) & (removed | ~own)
    others = probabilities[removed] @ bone.without
    total = others.sum(-1, keepdims=True)
    background = np.eye(others.shape[-1], dtype=others.dtype)[0]
    result = probabilities.copy()
    result[removed] = np.where(total > 0, others / np.where(total > 0, total, 1), background)
    return result


def _without_holes(probabilities: np.ndarray, bone: _Bone) -> np.ndarray:
    label = probabilities.argmax(-1)
    own = bone.members[label]
    holes = ndimage.binary_fill_holes(own) & ~own & (bone.filled[label] != label)
    if not holes.any():
        return probabilities
    result = probabilities.copy()
    result[holes] = np.eye(probabilities.shape[-1], dtype=probabilities.dtype)[bone.filled[label[holes]]]
    return result

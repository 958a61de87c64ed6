"""Small pieces and holes of bones, by hand."""

import numpy as np
from hypothesis import given
from hypothesis.extra import numpy as arrays

from kneefair_jax import anatomy
from kneefair_jax.predict import cleaning

KNEE, OVERLAPS = anatomy.SCHEMES["knee"], anatomy.SCHEMES["knee_overlaps"]


def probabilities(label, structures, second=None):
    """0.6 for the label of a pixel, 0.3 for a second one (background where there is none), the rest for all."""
    classes = len(structures) + 1
    second = np.zeros_like(label) if second is None else second
    eye = np.eye(classes, dtype=np.float32)
    return 0.6 * eye[label] + 0.3 * eye[second] + np.float32(0.1 / classes)


def cleaned(label, structures=KNEE, second=None):
    label = np.asarray(label)
    result = cleaning.clean(probabilities(label, structures, second), structures)
    np.testing.assert_allclose(result.sum(-1), 1, atol=1e-5)
    return result.argmax(-1).tolist()


def test_a_small_piece_gets_its_second_class():
    label = [[1, 1, 1, 1, 0, 0, 0, 1, 0]]
    assert cleaned(label) == [[1, 1, 1, 1, 0, 0, 0, 0, 0]]
    second = np.array([[0, 0, 0, 0, 0, 0, 0, 2, 0]])
    label = [[1, 1, 1, 1, 0, 2, 2, 1, 0]]
    assert cleaned(label, second=second) == [[1, 1, 1, 1, 0, 2, 2, 2, 0]]


def test_pieces_of_similar_size_are_kept():
    """A third of the larger piece is more than `KEPT_SHARE`."""
    label = [[1, 1, 1, 0, 1], [2, 2, 2, 0, 2]]
    assert cleaned(label) == label


def test_the_patella_may_cut_the_femur_where_no_class_is_both():
    label = [[1, 1, 1, 1, 4, 4, 1, 0, 0, 1]]
    assert cleaned(label) == [[1, 1, 1, 1, 4, 4, 1, 0, 0, 0]]


def test_holes_are_filled_and_a_gap_between_two_bones_is_none():
    hole = [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    assert cleaned(hole) == [[1] * 3] * 3
    # The notch: background between femur and patella.
    notch = [[1, 1, 1], [1, 0, 1], [1, 4, 1]]
    assert cleaned(notch) == notch


def test_a_hole_of_the_whole_femur_in_the_patella_is_both():
    """Femur around, `femur and patella` (5) inside; a pixel of patella (4) alone is a hole of the femur."""
    label = [[1, 1, 1, 1, 1], [1, 5, 5, 5, 1], [1, 5, 4, 5, 1], [1, 5, 5, 5, 1], [1, 1, 1, 1, 1]]
    expected = np.where(np.array(label) == 4, 5, label).tolist()
    assert cleaned(label, OVERLAPS) == expected


def test_a_removed_piece_of_one_bone_leaves_the_other_bone_of_an_overlap():
    """A speck of `femur and patella` on the femur, far from the patella: it stays femur."""
    label = [[1, 1, 5, 1, 1, 1, 1, 1, 5, 5, 5, 5, 5, 4, 4]]
    assert cleaned(label, OVERLAPS) == [[1, 1, 1, 1, 1, 1, 1, 1, 5, 5, 5, 5, 5, 4, 4]]


def test_each_side_of_a_bilateral_film_is_a_bone_of_its_own():
    names = anatomy.SCHEMES["knees"]
    right, left = 1 + names.index("right tibia"), 1 + names.index("left tibia")
    label = [[right] * 8 + [0] + [left] * 2 + [0] + [left] * 10 + [0, right]]
    expected = [[right] * 8 + [0] + [0] * 2 + [0] + [left] * 10 + [0, 0]]
    assert cleaned(label, names) == expected


def test_other_structures_stay_as_they_are():
    label = [[1, 1, 1, 1, 1, 0, 1, 0, 3, 3, 3, 3, 0, 3]]
    assert cleaned(label, anatomy.SCHEMES["chest"]) == label


def pieces_of(mask):
    """Connected pieces of a mask as sets of pixels, by walking from neighbor to neighbor."""
    left = {tuple(pixel) for pixel in np.argwhere(mask)}
    pieces = []
    while left:
        todo, piece = [left.pop()], set()
        while todo:
            y, x = todo.pop()
            piece.add((y, x))
            near = {(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)} & left
            left -= near
            todo += near
        pieces.append(piece)
    return pieces


@given(mask=arrays.arrays(np.bool_, (7, 8)))
def test_one_bone_by_brute_force(mask):
    """Kept: pieces of at least 30 % of the largest one, and background that they enclose."""
    pieces = pieces_of(mask)
    largest = max(map(len, pieces), default=0)
    kept = np.zeros(mask.shape, bool)
    for piece in pieces:
        if len(piece) >= 0.3 * largest:
            kept[tuple(zip(*piece, strict=True))] = True
    outside = np.zeros((9, 10), bool)  # with a border, from which the outer background is reached
    for piece in pieces_of(~np.pad(kept, 1)):
        if (0, 0) in piece:
            outside[tuple(zip(*piece, strict=True))] = True
    expected = np.where(outside[1:-1, 1:-1], 0, 2)
    np.testing.assert_array_equal(cleaned(2 * mask.astype(int)), expected)

"""Small pieces and holes of bones, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from benchmarks import phantom_scores
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
    clean = cleaning.clean_outlines if structures == OVERLAPS else cleaning.clean_labels
    result = clean(probabilities(label, structures, second), structures)
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


def test_the_tibia_may_cut_the_fibula_and_the_fibula_the_tibia():
    """Which of the two a network draws in front, its structures do not tell."""
    for front, back in ((2, 3), (3, 2)):
        label = [[1, 0, front, front, front, 0, 0], [back] * 2 + [front] * 3 + [back, 0], [0] * 6 + [back]]
        assert cleaned(label) == label
        row = [back, back, *label[1]]
        assert cleaned([[*row, 0, back]]) == [[*row, 0, 0]]


def test_a_hole_of_the_patella_is_femur_or_background():
    assert cleaned([[4, 4, 4, 1], [4, 1, 4, 1], [4, 0, 4, 1], [4, 4, 4, 1]]) == [[4, 4, 4, 1]] * 4


def test_pieces_that_touch_at_a_corner_are_one():
    label = [[2, 2, 2, 2, 0], [0, 0, 0, 0, 2]]
    assert cleaned([[1] * 5, *label]) == [[1] * 5, *label]


@pytest.mark.parametrize("names", [("pelvis", "femur"), ("tibia", "fibula", "talus"), ("femur", "cartilage")])
def test_films_of_other_joints_stay_as_they_are(names):
    assert cleaned([[1, 1, 1, 1, 0, 1, 0, 2, 2, 2, 2, 0, 2]], names) == [
        [1, 1, 1, 1, 0, 1, 0, 2, 2, 2, 2, 0, 2]
    ]


def test_an_overlap_class_without_one_of_its_bones():
    names = ("femur", "femur and patella")
    result = cleaning.clean_outlines(probabilities(np.array([[1, 1, 1, 1, 2, 2, 0, 2]]), names), names)
    assert result.argmax(-1).tolist() == [[1, 1, 1, 1, 2, 2, 0, 0]]


def test_outlines_are_where_the_sum_over_the_classes_is_above_a_half():
    """Femur 0.3 and `femur and patella` 0.3 are the femur, although background with 0.4 is more probable."""
    table = np.zeros((1, 6, 7), np.float32)
    table[..., 0], table[..., 1], table[..., 5] = 0.4, 0.3, 0.3
    table[0, 4] = np.eye(7)[0]
    result = cleaning.clean_outlines(table, OVERLAPS)
    assert ((result[..., 1] + result[..., 5]) > 0.5).tolist() == [[True, True, True, True, False, False]]


@pytest.mark.slow
@pytest.mark.parametrize("in_front", ["", "fibula", None])
def test_exact_masks_of_phantoms_stay_as_they_are(in_front):
    """Few bones of wide phantoms have a second piece, which the edge of the picture or another bone cuts off."""
    _, labels = phantom_scores.films("varied wide", 64, 128)
    structures, clean = (
        (KNEE, cleaning.clean_labels) if in_front is not None else (OVERLAPS, cleaning.clean_outlines)
    )
    if in_front is not None:
        labels = anatomy.translation(OVERLAPS, KNEE, in_front)[labels]
    eye = np.eye(len(structures) + 1, dtype=np.float32)
    changed = 0
    for label in labels:
        result = clean(0.98 * eye[label] + np.float32(0.02 / len(eye)), structures).argmax(-1)
        changed += (result != label).any()
        assert (result != label).sum() <= 0.03 * (label > 0).sum()
    assert changed <= 3


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


EDGES = ((-1, 0), (1, 0), (0, -1), (0, 1))
CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))


def pieces_of(mask, steps):
    """Connected pieces of a mask as sets of pixels, by walking from neighbor to neighbor."""
    left = {tuple(pixel) for pixel in np.argwhere(mask)}
    pieces = []
    while left:
        todo, piece = [left.pop()], set()
        while todo:
            y, x = todo.pop()
            piece.add((y, x))
            near = {(y + down, x + across) for down, across in steps} & left
            left -= near
            todo += near
        pieces.append(piece)
    return pieces


@given(mask=arrays.arrays(np.bool_, (7, 8)))
def test_one_bone_by_brute_force(mask):
    """Kept: pieces of at least 30 % of the largest one, and background that they enclose."""
    pieces = pieces_of(mask, EDGES + CORNERS)
    largest = max(map(len, pieces), default=0)
    kept = np.zeros(mask.shape, bool)
    for piece in pieces:
        if len(piece) >= 0.3 * largest:
            kept[tuple(zip(*piece, strict=True))] = True
    outside = np.zeros((9, 10), bool)  # with a border, from which the outer background is reached
    for piece in pieces_of(~np.pad(kept, 1), EDGES):
        if (0, 0) in piece:
            outside[tuple(zip(*piece, strict=True))] = True
    expected = np.where(outside[1:-1, 1:-1], 0, 2)
    # A knee has a femur, here below.
    label = np.concatenate([2 * mask.astype(int), np.zeros((1, 8), int), np.ones((1, 8), int)])
    np.testing.assert_array_equal(cleaned(label)[:7], expected)

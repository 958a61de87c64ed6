import numpy as np
import pandas as pd
import pytest

from kneefair_jax import anatomy
from kneefair_jax.data import annotations
from kneefair_jax.errors import InputError

KNEE = anatomy.SCHEMES["knee"]


def cells(*texts):
    return pd.Series(texts, index=range(2, 2 + len(texts)), name="annotated")


def kinds_of(*annotated, structures=KNEE):
    return annotations.of_cohort(pd.DataFrame({annotations.COLUMN: list(annotated)}), structures)


def test_cells_name_structures_or_unions():
    problems = []
    parsed = annotations.parse(cells("femur; Tibia", "", " Whole femur ", "femur,FEMUR", ";"), KNEE, problems)
    assert parsed == [("femur", "tibia"), (), ("whole femur",), ("femur",), ()]
    assert not problems


def test_unknown_names_are_problems_of_their_rows():
    problems = []
    annotations.parse(cells("femur", "hip", "femur;whole hip"), KNEE, problems)
    assert [row for row, _ in problems] == [3, 4]
    assert "'hip'" in problems[0][1] and "annotated" in problems[0][1]


def test_kinds_by_hand():
    kinds = kinds_of((), ("femur",), (), ("femur", "patella"))
    assert [kind.names for kind in kinds.kinds] == [(), ("femur",), ("femur", "patella")]
    assert kinds.kind.tolist() == [0, 1, 0, 2] and kinds.kind.dtype == np.int32
    np.testing.assert_array_equal(
        kinds.shows_structure(np.array([0, 1, 3])),
        [[True] * 4, [True, False, False, False], [True, False, False, True]],
    )
    np.testing.assert_array_equal(kinds.sets[0], np.eye(5, dtype=bool))
    distinct = [kind.distinct_labels() for kind in kinds.kinds]
    np.testing.assert_array_equal(
        distinct, [[True] * 5, [False, True, False, False, False], [False, True, False, False, True]]
    )
    assert (
        "2 of 4 masks are annotated in part (data.annotated_column): 1 show only femur; 1 show only femur, patella."
        in kinds.note()
    )


def group_notes(first, second, per_patient=1):
    """The notes on 20 cases of each of two groups, whose first cases show only a femur or a tibia."""
    annotated = [*first, *[()] * (20 - len(first)), *second, *[()] * (20 - len(second))]
    cases = pd.DataFrame({"sex": ["f"] * 20 + ["m"] * 20, "site": ["a", "b"] * 20})
    cases["patient_id"] = np.arange(40) // per_patient
    return kinds_of(*annotated).group_notes(cases, ["sex", "site"])


def test_groups_whose_masks_show_other_structures_are_reported():
    femur, tibia = [("femur",)], [("tibia",)]
    (note,) = group_notes(20 * femur, [])  # chi-squared test of each structure but the femur: p < 1e-6
    assert "by sex" in note and "tibia (f 0%, m 100%)" in note and "femur (" not in note
    assert group_notes(8 * femur, 12 * femur) == []  # p = 0.34
    assert group_notes(10 * femur, 10 * femur) == []
    (note,) = group_notes(20 * femur, 20 * tibia)
    assert "femur (f 100%, m 0%)" in note and "tibia (f 0%, m 100%)" in note
    # 16 and 4 of 20 cases (p = 0.0005), in patients of four cases: four and one of five (p = 0.21).
    assert group_notes(16 * femur, 4 * femur) != []
    assert group_notes(16 * femur, 4 * femur, per_patient=4) == []


def test_missing_levels_are_no_group():
    cases = pd.DataFrame({"sex": ["f"] * 10 + ["m"] * 10 + ["missing"] * 20, "patient_id": np.arange(40)})
    annotated = [*[()] * 20, *[("femur",)] * 20]
    assert kinds_of(*annotated).group_notes(cases, ["sex"]) == []


def test_cohorts_without_the_column_or_with_empty_cells_have_no_kinds():
    assert annotations.of_cohort(pd.DataFrame({"case_id": ["a"]}), KNEE) is None
    assert kinds_of((), ()) is None


def test_scores_of_what_a_mask_does_not_show_are_replaced():
    kinds = kinds_of((), ("femur",))
    dice = kinds.hide(np.full((3, 4), 0.5, np.float32), np.array([1, 0, 1]), np.nan)
    assert dice.dtype == np.float32
    np.testing.assert_array_equal(
        np.isnan(dice), [[False, True, True, True], [False] * 4, [False, True, True, True]]
    )
    sums = kinds.hide(np.ones((1, 4, 2), np.int64), np.array([1]), 0)
    np.testing.assert_array_equal(sums, [[[1, 1], [0, 0], [0, 0], [0, 0]]])


def test_a_mask_may_hold_only_what_its_row_names():
    label = np.array([[0, 1, 1, anatomy.VOID]], np.uint8)
    for annotated in ((), ("femur",), ("whole femur",), ("femur", "tibia")):
        annotations.check_mask(label, annotated, KNEE, "m.png", "annotated")
    with pytest.raises(InputError, match=r"m.png: has pixels of femur, .* 'annotated' names only tibia"):
        annotations.check_mask(label, ("tibia",), KNEE, "m.png", "annotated")


def test_labels_that_a_mask_does_not_tell_apart_are_joined_or_left_out():
    names = anatomy.SCHEMES["knee_overlaps"]
    kind = kinds_of(("whole femur", "tibia"), structures=names).of_row(0)
    label = np.arange(7, dtype=np.uint8)[
        None
    ]  # femur, tibia, fibula, patella, femur and patella, tibia and fibula
    np.testing.assert_array_equal(kind.merge_labels(label), [[0, 1, 2, 0, 0, 1, 2]])
    np.testing.assert_array_equal(kind.keep_distinct(label), [[0, 0, 0, 0, 0, 0, 0]])
    kind = kinds_of(("femur",)).of_row(0)
    np.testing.assert_array_equal(kind.merge_labels(np.arange(5, dtype=np.uint8)), [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(kind.keep_distinct(np.arange(5, dtype=np.uint8)), [0, 1, 0, 0, 0])


def test_void_stays_void():
    kind = kinds_of(("femur",)).of_row(0)
    label = np.array([1, 2, anatomy.VOID], np.uint8)
    np.testing.assert_array_equal(kind.merge_labels(label), [1, 0, anatomy.VOID])
    np.testing.assert_array_equal(kind.keep_distinct(label), [1, 0, anatomy.VOID])


def test_masks_without_a_label_to_compare_are_counted():
    names = anatomy.SCHEMES["knee_overlaps"]
    assert kinds_of((), ("femur",), structures=names).note_not_compared() == ""
    note = kinds_of((), ("whole femur",), ("whole femur",), structures=names).note_not_compared()
    assert note.startswith("2 masks that show only whole femur")

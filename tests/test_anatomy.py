import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kneefair_jax import anatomy
from kneefair_jax.errors import InputError


def test_parse_accepts_schemes_and_lists():
    assert anatomy.parse("knee") == ("femur", "tibia", "fibula", "patella")
    assert anatomy.parse(" left hip ,right hip") == ("left hip", "right hip")


@pytest.mark.parametrize("text", ["", "femur,", "femur,femur", "femur, ,tibia"])
def test_parse_refuses_empty_and_repeated_names(text):
    with pytest.raises(InputError, match="each once"):
        anatomy.parse(text)


def test_flip_swaps_sides_alone():
    assert anatomy.flip_table(("heart", "right lung", "left lung")).tolist() == [0, 1, 3, 2]
    assert anatomy.flip_table(anatomy.SCHEMES["knees"]).tolist() == [0, 2, 1, 4, 3, 6, 5, 8, 7]
    assert anatomy.flip_table(anatomy.SCHEMES["knee"]).tolist() == [0, 1, 2, 3, 4]


def test_flip_needs_the_partner():
    with pytest.raises(InputError, match="'left femur'"):
        anatomy.flip_table(("right femur", "left tibia", "right tibia"))


@given(st.permutations(anatomy.SCHEMES["knees"]))
def test_two_flips_are_the_identity(structures):
    table = anatomy.flip_table(tuple(structures))
    np.testing.assert_array_equal(table[table], np.arange(9))


def test_every_scheme_has_enough_colors():
    assert len(np.unique(anatomy.COLORS, axis=0)) == len(anatomy.COLORS)
    assert all(len(structures) < len(anatomy.COLORS) for structures in anatomy.SCHEMES.values())
    for name, alternatives in anatomy.UNIONS.items():
        for classes in alternatives:
            assert any(set(classes) <= set(structures) for structures in anatomy.SCHEMES.values()), name


@pytest.mark.parametrize(
    "names",
    [
        ("Right lung", "Left lung"),
        ("right_lung", "left_lung"),
        ("lung-right", "lung-left"),
        ("R femur", "L femur"),
        ("femur r", "femur l"),
        ("RIGHT lung", "left Lung"),
    ],
)
def test_every_spelling_of_a_side_is_recognized(names):
    """A flip must not swap left and right without swapping the labels."""
    assert anatomy.flip_table((*names, "heart")).tolist() == [0, 2, 1, 3]


def test_a_side_without_its_partner_is_refused_and_only_full_words_are_sides():
    with pytest.raises(InputError, match="'R femur' has no partner 'l femur'"):
        anatomy.flip_table(("R femur", "tibia"))
    assert anatomy.flip_table(("bright spot", "left over", "right over")).tolist() == [0, 1, 3, 2]


def test_translation_by_hand():
    knee = anatomy.SCHEMES["knee"]  # femur, tibia, fibula, patella
    assert anatomy.translation(knee, knee).tolist() == [0, 1, 2, 3, 4]
    assert anatomy.translation(knee, ("tibia", "whole femur")).tolist() == [0, 2, 1, 0, 2]
    with pytest.raises(InputError, match="'hip' is none of"):
        anatomy.translation(knee, ("hip",))
    with pytest.raises(InputError, match="'femur' is in both 'femur' and 'whole femur'"):
        anatomy.translation(knee, ("femur", "whole femur"))


OVERLAPS = anatomy.SCHEMES[
    "knee_overlaps"
]  # femur, tibia, fibula, patella, femur and patella, tibia and fibula


@pytest.mark.parametrize(
    ("into", "in_front", "table"),
    [
        (OVERLAPS, "", [0, 1, 2, 3, 4, 5, 6]),
        (anatomy.SCHEMES["knee"], "", [0, 1, 2, 3, 4, 4, 2]),
        (anatomy.SCHEMES["knee"], "tibia", [0, 1, 2, 3, 4, 4, 2]),
        (anatomy.SCHEMES["knee"], "fibula", [0, 1, 2, 3, 4, 4, 3]),
        (anatomy.SCHEMES["knee"], "femur", [0, 1, 2, 3, 4, 1, 2]),
        (("femur",), "", [0, 1, 0, 0, 0, 0, 0]),
        (("patella", "femur and patella"), "", [0, 0, 0, 0, 1, 2, 0]),
        (("whole fibula", "whole femur"), "", [0, 2, 0, 1, 0, 2, 1]),
        (("whole femur", "tibia"), "fibula", [0, 1, 2, 0, 0, 1, 0]),
    ],
)
def test_overlap_classes_belong_to_the_bone_in_front_or_to_both_bones(into, in_front, table):
    assert anatomy.translation(OVERLAPS, into, in_front).tolist() == table


def test_whole_bones_share_the_overlap_classes():
    bones = anatomy.whole_bones(OVERLAPS)
    assert bones == ("whole femur", "whole tibia", "whole fibula", "whole patella")
    assert anatomy.membership(OVERLAPS, bones).astype(int).tolist() == [
        [0, 1, 0, 0, 0, 1, 0],
        [0, 0, 1, 0, 0, 0, 1],
        [0, 0, 0, 1, 0, 0, 1],
        [0, 0, 0, 0, 1, 1, 0],
    ]
    assert anatomy.whole_bones(anatomy.SCHEMES["knee"]) == ()
    assert anatomy.whole_bones(("patella", "femur and patella")) == ("whole patella",)
    with pytest.raises(InputError, match="'femur and patella' is in both 'whole femur' and 'whole patella'"):
        anatomy.translation(OVERLAPS, bones)


def test_layers_hold_each_structure_once():
    bones = anatomy.whole_bones(OVERLAPS)  # femur and patella share a class, tibia and fibula another
    tables = anatomy.layers(OVERLAPS, bones)
    assert [table.tolist() for table in tables] == [[0, 1, 2, 0, 0, 1, 2], [0, 0, 0, 3, 4, 4, 3]]
    knee = anatomy.SCHEMES["knee"]
    assert [table.tolist() for table in anatomy.layers(knee, knee)] == [[0, 1, 2, 3, 4]]


def test_whole_bones_are_scored_in_place_of_their_classes():
    assert anatomy.scored_structures(OVERLAPS) == anatomy.whole_bones(OVERLAPS)
    assert anatomy.scored_structures((*OVERLAPS, "implant"))[4:] == ("implant",)
    for name in ("knee", "knees", "chest"):
        assert anatomy.scored_structures(anatomy.SCHEMES[name]) == anatomy.SCHEMES[name]


def test_whole_bones_need_overlap_classes():
    knee = anatomy.SCHEMES["knee"]
    with pytest.raises(InputError, match="'whole fibula' needs"):
        anatomy.membership(knee, ("whole fibula",))
    for bone in ("fibula", "tibia", "hip"):
        with pytest.raises(InputError, match=f"'{bone}' in front needs"):
            anatomy.membership(knee, knee, bone)


def test_void_becomes_background_in_the_masks_it_is_cleared_of():
    label = np.array([[0, 1, anatomy.VOID]], np.uint8)
    prediction = np.array([[1, 2, 2]], np.uint8)
    assert anatomy.clear_void(label).tolist() == [[0, 1, 0]]
    cleared = anatomy.clear_void(label, prediction)
    assert cleared.tolist() == [[1, 2, 0]] and cleared.dtype == np.uint8 and prediction[0, 2] == 2


def test_a_flip_keeps_void():
    table = anatomy.add_void(anatomy.flip_table(("heart", "right lung", "left lung")))
    assert table.dtype == np.int32 and table.shape == (256,)
    assert table[[0, 1, 2, 3, anatomy.VOID]].tolist() == [0, 1, 3, 2, anatomy.VOID]


def sets_of(names, annotated):
    """The classes of each label's set, by name."""
    sets = anatomy.label_sets(names, annotated)
    labels = ("background", *names)
    return {label: {labels[c] for c in np.flatnonzero(row)} for label, row in zip(labels, sets, strict=True)}


def test_what_was_not_annotated_may_be_background():
    sets = sets_of(("femur", "tibia", "patella"), ("femur", "patella"))
    assert sets["femur"] == {"femur"} and sets["patella"] == {"patella"}
    assert sets["background"] == sets["tibia"] == {"background", "tibia"}


def test_a_whole_bone_does_not_tell_its_classes_apart():
    sets = sets_of(anatomy.SCHEMES["knee_overlaps"], ("whole femur",))
    assert sets["femur"] == sets["femur and patella"] == {"femur", "femur and patella"}
    assert sets["background"] == {"background", "tibia", "fibula", "patella", "tibia and fibula"}
    both = sets_of(anatomy.SCHEMES["knee_overlaps"], ("whole femur", "whole patella"))
    assert both["femur"] == {"femur"} and both["femur and patella"] == {"femur and patella"}


@given(st.permutations(anatomy.SCHEMES["knee_overlaps"]), st.integers(0, 6))
def test_sets_are_a_partition_and_all_structures_annotated_are_the_classes(structures, count):
    sets = anatomy.label_sets(structures, structures[:count])
    assert sets.diagonal().all() and (sets == sets.T).all()
    np.testing.assert_array_equal((sets.astype(int) @ sets) > 0, sets)
    np.testing.assert_array_equal(anatomy.label_sets(structures, structures), np.eye(7, dtype=bool))
    assert anatomy.label_sets(structures, ()).all()


def test_a_mask_shows_the_structures_that_its_sets_lie_inside_or_outside_of():
    structures = anatomy.SCHEMES["knee_overlaps"]
    members = anatomy.membership(structures, anatomy.whole_bones(structures))
    assert anatomy.whole_bones(structures)[0] == "whole femur"
    for annotated, shown in (
        (structures, [True] * 4),
        (("whole femur",), [True, False, False, False]),
        (("femur",), [False] * 4),  # the femur beside the patella alone
        ((), [False] * 4),
    ):
        sets = anatomy.label_sets(structures, annotated)
        np.testing.assert_array_equal(anatomy.is_determined(sets, members), shown)

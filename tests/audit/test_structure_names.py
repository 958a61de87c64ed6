import pytest

from kneefair_jax.audit import structure_names


@pytest.mark.parametrize(
    "name",
    ["background", "Background", "BG", "back_ground", "0", "0.0", "class 0", "class_0", "label0", "void"],
)
def test_backgrounds(name):
    assert structure_names.excluded(["femur", name]) == {name: "background"}


@pytest.mark.parametrize(
    "name", ["std", "SD", "max", "min", "Median", "std_femur", "femur_std", "p95", "femur max", "n", "ci_low"]
)
def test_statistics(name):
    assert structure_names.excluded(["femur", name]) == {name: "statistic"}


@pytest.mark.parametrize(
    "name",
    [
        *("mean", "Macro", "avg", "foreground", "all", "mean_foreground", "femur_mean", "mean femur"),
        *("average", "OVERALL", "total", "mean_dice", "all structures", "All bones", "class average"),
    ],
)
def test_averages(name):
    assert structure_names.excluded(["femur", name]) == {name: "average"}


@pytest.mark.parametrize(
    "name",
    [
        "tibia",
        "1",
        "10",
        "class 1",
        "structure 10",
        "structures",
        "right lung",
        "maxilla",
        "minimus",
        "background bone",
    ],
)
def test_structures(name):
    assert structure_names.excluded(["femur", name]) == {}


def test_a_union_or_a_mean_alone_is_what_there_is():
    assert structure_names.excluded(["foreground", "background"]) == {"background": "background"}
    assert structure_names.excluded(["all structures"]) == {}
    assert structure_names.excluded(["femur_mean", "femur_std"]) == {"femur_std": "statistic"}


def test_a_note_for_each_kind():
    kinds = {"std": "statistic", "mean": "average", "0": "background", "min": "statistic"}
    notes = structure_names.notes(kinds, {"std": 4, "mean": 1200, "0": 1, "min": 3})
    assert len(notes) == 3 and any("min in 3 rows, std in 4 rows" in note for note in notes)
    assert any("0 in 1 row)" in note for note in notes) and any("1,200" in note for note in notes)
    assert structure_names.notes({}, {}) == []

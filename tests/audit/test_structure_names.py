import pytest

from kneefair_jax.audit import structure_names


@pytest.mark.parametrize(
    "name",
    [
        *("background", "Background", "BG", "back_ground", "0", "0.0", "class 0", "class_0"),
        *("label0", "void", "background 0", "0_background", "label_0_background", "Background (0)"),
        *("0.0 background", "dice background", "back ground", "class-0", "BackGround"),
        *("ignored 255", "BACKGROUND_CLASS"),
    ],
)
def test_backgrounds(name):
    assert structure_names.excluded(["femur", name]) == {name: "background"}


@pytest.mark.parametrize(
    "name",
    [
        *("std", "SD", "max", "min", "Median", "std_femur", "femur_std", "p95", "femur max", "n"),
        *("ci_low", "SD(dice)", "25%", "50%", "75 %", "95% CI", "CI95", "5th percentile"),
        *("dice lower", "mean_low", "femur_low", "femur (P1)", "FemurStd", "SD (femur)"),
        *("femur_ci_upper", "lower bound", "standard deviation", "dice_q1", "max. dice"),
        *("femur dice SD", "low femur"),
    ],
)
def test_statistics(name):
    assert structure_names.excluded(["femur", name]) == {name: "statistic"}


@pytest.mark.parametrize(
    "name",
    [
        *("mean", "Macro", "avg", "foreground", "all", "mean_foreground", "femur_mean"),
        *("mean femur", "average", "OVERALL", "total", "mean_dice", "all structures", "All bones"),
        *("class average", "mDice", "miou", "mIoU", "mDSC", "mean (all)", "meanDice", "MeanIoU"),
        *("Mean Dice", "mean over structures", "mean_no_background", "average (without background)"),
        *("non-background", "mean of 4 classes", "Dice (all)", "FemurMean", "mean dice femur"),
        *("macro-average",),
    ],
)
def test_averages(name):
    assert structure_names.excluded(["femur", name]) == {name: "average"}


@pytest.mark.parametrize(
    "name",
    [
        *("tibia", "1", "10", "class 1", "structure 10", "structures", "right lung", "maxilla"),
        *("minimus", "background bone", "upper", "lower", "low", "high", "P1", "q3", "median nerve"),
        *("minimum joint space width", "upper lobe", "proximal phalanx", "T12", "10%er", "class 10"),
        *("label low", "mandible", "all-inside", "hi"),
    ],
)
def test_structures(name):
    assert structure_names.excluded(["femur", name]) == {}


def test_a_union_or_a_mean_alone_is_what_there_is():
    assert structure_names.excluded(["foreground", "background"]) == {"background": "background"}
    assert structure_names.excluded(["all structures"]) == {}
    assert structure_names.excluded(["femur_mean", "femur_std"]) == {"femur_std": "statistic"}


def test_statistics_of_a_structure_whose_own_name_has_a_statistic_s_word():
    names = ["median nerve", "median nerve std", "upper lobe", "upper lobe max", "ulnar nerve", "nerve"]
    # `nerve` makes `median nerve` a statistic.
    assert structure_names.excluded(names[:5]) == dict.fromkeys(
        ("median nerve std", "upper lobe max"), "statistic"
    )
    assert structure_names.excluded(names)["median nerve"] == "statistic"


def test_structures_that_could_be_statistics_are_kept_with_a_note():
    names = ("upper", "middle", "lower", "P1", "P2", "***")
    assert structure_names.excluded(names) == {}
    (note,) = structure_names.notes({}, dict.fromkeys(names, 80))
    assert all(name in note for name in ("upper", "lower", "P1", "P2")) and "middle" not in note


def test_a_note_for_each_kind():
    kinds = {"std": "statistic", "mean": "average", "0": "background", "min": "statistic"}
    notes = structure_names.notes(kinds, {"std": 4, "mean": 1200, "0": 1, "min": 3})
    assert len(notes) == 3 and any("min in 3 rows, std in 4 rows" in note for note in notes)
    assert any("0 in 1 row)" in note for note in notes) and any("1,200" in note for note in notes)
    assert structure_names.notes({}, {}) == []

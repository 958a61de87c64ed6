import numpy as np

from kneefair_jax.audit import case_mismatch, mask_alignment
from tests.audit.summaries import bone, of

TRUTH = {f"c{i}": of(bone(2 + 9 * i, 40 - 9 * i)) for i in range(5)}
EMPTY = of(np.zeros((64, 64), np.uint8))


def named(faults):
    return {one.case_id: one.fault.detail for one in faults}


def fits(masks):
    return {
        case: mask_alignment.Fit(0.1, "none", 0.1) if masks[case].digest != TRUTH[case].digest else None
        for case in TRUTH
    }


def test_copies_are_named_on_both_sides():
    masks = TRUTH | {"c1": TRUTH["c4"], "c2": EMPTY, "c3": EMPTY}
    assert named(case_mismatch.copies(masks, "reference")) == {
        "c1": "the same mask as c4",
        "c4": "the same mask as c1",
    }
    assert not case_mismatch.copies(TRUTH, "reference")
    shape = {"a": of(np.ones((8, 4), np.uint8)), "b": of(np.ones((4, 8), np.uint8))}
    assert not case_mismatch.copies(shape, "reference")


def test_predictions_that_are_the_reference_of_another_case():
    assert not case_mismatch.copies_of_references(TRUTH, TRUTH, "m")
    masks = TRUTH | {"c0": TRUTH["c3"], "c1": None}
    details = named(case_mismatch.copies_of_references(TRUTH, masks, "m"))
    assert details == {"c0": "the same mask as the reference mask of c3"}


def test_exchanged_files_are_named_and_poor_ones_are_not():
    exchanged = TRUTH | {"c0": TRUTH["c4"], "c4": TRUTH["c0"]}
    details = named(case_mismatch.exchanged(TRUTH, exchanged, fits(exchanged), "m"))
    assert details.keys() == {"c0", "c4"} and details["c0"].startswith("c4, Dice about 1.00")
    ids = list(TRUTH)
    shifted = {case: TRUTH[ids[(n + 1) % 5]] for n, case in enumerate(ids)}
    details = named(case_mismatch.exchanged(TRUTH, shifted, fits(shifted), "m"))
    assert [detail[:2] for detail in details.values()] == ["c1", "c2", "c3", "c4", "c0"]
    # Each of them fits better in another orientation; then none of them is named.
    turns = {case: one and mask_alignment.Fit(0.1, "flip-lr", 1.0) for case, one in fits(exchanged).items()}
    assert not case_mismatch.exchanged(TRUTH, exchanged, turns, "m")
    turns = {case: one and mask_alignment.Fit(0.1, "flip-lr", 0.6) for case, one in fits(exchanged).items()}
    assert case_mismatch.exchanged(TRUTH, exchanged, turns, "m")
    # One prediction fits another case, which is served well: no exchange.
    poor = TRUTH | {"c0": TRUTH["c4"]}
    assert not case_mismatch.exchanged(TRUTH, poor, fits(poor), "m")


def test_exchanged_files_are_named_where_half_of_a_reference_is_ignored():
    ignored = np.zeros((64, 64), bool)
    ignored[:, 32:] = True
    truth = {"a": bone(2, 20, 20, 20), "b": bone(30, 24, 20, 20)}
    references = {case: of(np.where(ignored, 0, one), ignored=ignored) for case, one in truth.items()}
    predictions = {"a": of(truth["b"], ignored=ignored), "b": of(truth["a"], ignored=ignored)}
    poor = dict.fromkeys(truth, mask_alignment.Fit(0.1, "none", 0.1))
    details = named(case_mismatch.exchanged(references, predictions, poor, "m"))
    assert details.keys() == {"a", "b"} and details["a"].startswith("b, Dice about 1.00")


def test_outliers_are_far_below_a_median_that_is_high():
    rng = np.random.default_rng(0)
    dice = {f"c{i}": 0.95 + 0.01 * value for i, value in enumerate(rng.normal(size=50))}
    assert not case_mismatch.outliers(dice, set(), "m")
    dice |= {"c7": 0.6, "c8": 0.5}
    assert named(case_mismatch.outliers(dice, {"c8"}, "m")) == {"c7": "Dice 0.60, median 0.95"}
    assert not case_mismatch.outliers({case: one - 0.2 for case, one in dice.items()}, set(), "m")
    assert not case_mismatch.outliers({}, set(), "m")

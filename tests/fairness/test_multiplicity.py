import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kneefair_jax.fairness import multiplicity


def test_holm_s_worked_examples():
    corrected = multiplicity.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005, "e": None})
    assert corrected == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02, "e": None})
    # R: p.adjust(c(.011, .02, .5, .6, .7), "holm")
    many = multiplicity.holm(dict(zip("vwxyz", (0.011, 0.02, 0.5, 0.6, 0.7), strict=True)))
    assert many == pytest.approx({"v": 0.055, "w": 0.08, "x": 1, "y": 1, "z": 1})
    assert multiplicity.holm({}) == {} and multiplicity.holm({"a": None}) == {"a": None}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_holm_is_between_no_correction_and_bonferroni_and_blind_to_order(values, random):
    p = {str(i): value for i, value in enumerate(values)}
    corrected = multiplicity.holm(p)
    for name, value in p.items():
        assert value <= corrected[name] <= min(1, value * len(p)) + 1e-15
    shuffled = list(p.items())
    random.shuffle(shuffled)
    assert multiplicity.holm(dict(shuffled)) == corrected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6, unique=True))
def test_families_of_one_are_holm_s(values):
    p = {str(i): value for i, value in enumerate(values)}
    corrected = multiplicity.holm_of_families({name: [value] for name, value in p.items()})
    assert {name: entry for name, (entry,) in corrected.items()} == pytest.approx(multiplicity.holm(p))


def test_families_by_hand():
    """Age keeps half of the level until all of sex is rejected, and all of it after."""
    corrected = multiplicity.holm_of_families({"sex": [0.01], "age": [0.02, 0.04, 0.6], "race": []})
    assert corrected["sex"] == pytest.approx([0.02]) and corrected["race"] == []
    assert corrected["age"] == pytest.approx([0.02, 0.04, 0.6])
    corrected = multiplicity.holm_of_families({"sex": [0.7], "age": [0.02, 0.04, 0.6]})
    assert corrected["age"] == pytest.approx([0.04, 0.08, 1.0]) and corrected["sex"] == [1.0]


def test_families_keep_the_error_of_all_together():
    """True nulls beside a family that is half false: some true null is rejected in 5 % of tables, not more."""
    rng = np.random.default_rng(0)
    wrong = 0
    for null, reference in rng.uniform(size=(4000, 2)):
        # Bonferroni within the family: its false hypothesis is always found, its true one has p = 2 u.
        corrected = multiplicity.holm_of_families({"half": [0.0, min(1.0, 2 * null)], "null": [reference]})
        wrong += corrected["half"][1] <= 0.05 or corrected["null"][0] <= 0.05
    assert wrong / 4000 < 0.055


def test_benjamini_hochberg_is_scipy_s_over_the_tests_that_were_made():
    corrected = multiplicity.benjamini_hochberg({"a": 0.01, "b": None, "c": 0.04, "d": 0.03})
    assert corrected == pytest.approx({"a": 0.03, "b": None, "c": 0.04, "d": 0.04})
    assert multiplicity.benjamini_hochberg({"a": None}) == {"a": None}

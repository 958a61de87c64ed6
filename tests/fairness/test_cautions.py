import numpy as np

from kneefair_jax.fairness import cautions


def errors(n, sd, seed):
    """Log-normal, of mean 0 and this SD."""
    drawn = np.exp(0.7 * np.random.default_rng(seed).normal(size=n))
    return sd * (drawn - drawn.mean()) / drawn.std(ddof=1)


def test_a_small_skewed_spread_group_is_named():
    large, small = 0.9 - errors(60, 0.03, 0), 0.9 - errors(15, 0.06, 1)
    (sentence,) = cautions.cautions({"sex=f": large, "sex=m": small})
    assert sentence.startswith("sex=m has 15 patients") and "2.0 times" in sentence


def test_what_needs_none():
    large, small = 0.9 - errors(60, 0.03, 0), 0.9 - errors(15, 0.06, 1)
    twenty, narrow = 0.9 - errors(20, 0.06, 1), 0.9 - errors(15, 0.03, 1)
    rng = np.random.default_rng(2)
    normal = {"a": rng.normal(0.9, 0.03, 60), "b": rng.normal(0.9, 0.06, 15)}
    assert cautions.cautions({"a": large, "b": twenty}) == []
    assert cautions.cautions({"a": large, "b": narrow}) == []
    assert cautions.cautions(normal) == []
    assert cautions.cautions({"b": small}) == [] and cautions.cautions({}) == []
    assert cautions.cautions({"a": np.full(9, 0.9), "b": np.full(9, 0.8)}) == []


def test_patients_in_two_groups_are_counted():
    assert cautions.crossing(np.array(["p", "q", "r"])) == []
    (sentence,) = cautions.crossing(np.array(["p", "q", "p"]))
    assert sentence.startswith("1 patient has cases in more than one")
    assert cautions.crossing(np.array(["p", "q", "q", "p"]))[0].startswith("2 patients have")


def test_a_group_without_a_structure():
    scored = {
        "femur": {"sex=f": 0, "sex=m": 80},
        "tibia": {"sex=f": 80, "sex=m": 80},
        "patella": {"sex=f": 0},
    }
    (sentence,) = cautions.lacking(scored)
    assert sentence.startswith("femur has no score in sex=f")

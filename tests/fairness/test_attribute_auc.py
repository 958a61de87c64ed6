import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kneefair_jax.fairness import attribute_auc


def knees(patients=60, features=6, levels=2, signal=0.0, seed=0):
    """Two cases a patient; the first feature tells the level as far as the signal is strong."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), 2)
    level = (np.arange(patients) % levels)[who]
    x = rng.normal(size=(patients, features))[who] + 0.3 * rng.normal(size=(2 * patients, features))
    x[:, 0] += signal * level
    return x, level, who


def test_auc_as_scikit_learn_s_with_ties_and_weights():
    rng = np.random.default_rng(0)
    score, positive = rng.integers(0, 6, 40) / 5, rng.integers(0, 2, 40) == 1
    weights = rng.multinomial(40, np.full(40, 1 / 40), 5).astype(float)
    result = attribute_auc.weighted_auc(score, positive, weights)
    for auc, weight in zip(result, weights, strict=True):
        np.testing.assert_allclose(auc, roc_auc_score(positive, score, sample_weight=weight))
    positives = np.where(positive, 1.0, 0.0)[None]
    assert np.isnan(attribute_auc.weighted_auc(score, positive, positives)).all()


@pytest.mark.parametrize("levels", [2, 3])
def test_what_tells_the_level_and_what_does_not(levels):
    x, level, who = knees(levels=levels, signal=12.0)
    auc = attribute_auc.attribute_auc(x, level, who, seed=0, draws=200)
    assert auc["auc"] > 0.9 and auc["interval"][0] > 0.8 and auc["patients"] == 60
    x, level, who = knees(levels=levels)
    nothing = attribute_auc.attribute_auc(x, level, who, seed=0, draws=200)
    assert nothing["interval"][0] < 0.5 < nothing["interval"][1]
    again = attribute_auc.attribute_auc(x, level, who, seed=0, draws=200)
    assert again == nothing and nothing["levels"] == list(range(levels))


def test_knees_of_a_patient_do_not_tell_on_each_other():
    """The trap: features that name the patient are perfect where folds are dealt by case."""
    who = np.repeat(np.arange(60), 2)
    names = np.eye(60)[who] * 8
    level = (np.random.default_rng(0).permutation(60) % 2)[who]
    entry = attribute_auc.attribute_auc(names, level, who, seed=0, draws=200)
    assert entry["auc"] < 0.6


def test_unknown_and_rare_levels_take_no_part():
    x, level, who = knees(patients=70, levels=2)
    level = np.where(who < 9, 2, np.where(who < 14, -1, level))
    entry = attribute_auc.attribute_auc(x, level, who, seed=0, draws=50)
    assert entry["levels"] == [0, 1] and entry["patients"] == 70 - 14
    level = np.where(level == 1, 2, level)[who < 20]
    none = attribute_auc.attribute_auc(x[who < 20], level, who[who < 20], seed=0)
    assert none["auc"] is None and none["interval"] is None
    assert none["reason"] == "fewer than two levels have 10 patients"


def test_components_are_those_of_the_singular_value_decomposition():
    x = np.random.default_rng(0).normal(size=(40, 6)) * [1, 2, 3, 4, 5, 0] + [[0, 0, 0, 0, 0, 7]]
    result = attribute_auc.components(x, seed=0)
    standard = (x[:, :5] - x[:, :5].mean(0)) / x[:, :5].std(0)
    u = np.linalg.svd(standard, full_matrices=False)[0]
    np.testing.assert_allclose(np.abs(result), np.abs(u) * np.sqrt(39), rtol=1e-6)
    assert attribute_auc.components(np.ones((12, 3)), seed=0).shape == (12, 1)
    assert attribute_auc.components(np.random.default_rng(0).normal(size=(12, 30)), 0).shape == (12, 3)

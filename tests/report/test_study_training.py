"""What a reader is warned of, and which regime a study is in."""

import copy

import pytest

from kneefair_jax.report import study_training


def method(mean, gap):
    return {
        "mean": {"value": mean},
        "pair": {"value": gap},
        "groups": {"race=A": mean, "race=B": mean - gap},
    }


def fitted(a, b):
    return {
        name: {"cases": 30, "dice": [dice - 0.01, dice + 0.01]}
        for name, dice in (("race=A", a), ("race=B", b))
    }


STUDY = {
    "attribute": "race",
    "methods": {},
    "comparison": {
        "baseline": "erm",
        "seeds": 3,
        "pair": {"best": "race=A", "worst": "race=B"},
        "methods": {"erm": method(0.9, 0.04), "dro": method(0.9, 0.02)},
    },
}


@pytest.fixture
def study():
    return copy.deepcopy(STUDY)


def test_nothing_known_is_nothing_said(study):
    assert not study_training.warnings(study) and not study_training.fit(study)
    assert study_training.regime(study) == ""
    study["training"] = {name: {"rise": None, "fit": None} for name in ("erm", "dro")}
    assert not study_training.warnings(study) and not study_training.fit(study)


def test_hardly_trained_and_few_seeds(study):
    study["training"] = {
        "erm": {"rise": [0.03, 0.01], "fit": None},
        "dro": {"rise": [0.03, -0.03], "fit": None},
    }
    study["comparison"]["methods"]["dro"]["mean"]["value"] = 0.4
    study["comparison"]["seeds"] = 2
    few, rising, low = study_training.warnings(study)
    assert few.startswith("There are 2 seeds, fewer than 3")
    assert rising.startswith("The validation Dice of erm still rose by more than 0.01")
    assert low.startswith("The mean test Dice of dro is below 0.7")
    study["comparison"]["seeds"] = 1
    assert study_training.warnings(study)[0].startswith("There is one seed")


def test_which_regime(study):
    study["training"] = {"erm": {"rise": None, "fit": fitted(0.95, 0.92)}}
    text = study_training.regime(study)
    assert "erm's gap is 0.030, on test patients 0.040" in text and "short-budget regime" in text
    assert "race B is not fitted yet, or is harder" in text
    (high, low) = study_training.fit(study)
    assert high == {
        "method": "erm",
        "group": "race=A",
        "train": pytest.approx(0.95),
        "test": 0.9,
        "cases": 30,
    }
    assert low["train"] == pytest.approx(0.92)
    study["training"]["erm"]["fit"] = fitted(0.99, 0.98)
    assert "long-budget regime" in study_training.regime(study)
    study["comparison"]["methods"]["erm"]["pair"]["value"] = 0.0
    assert "regime" not in study_training.regime(study)

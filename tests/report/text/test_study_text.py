import copy

import pytest

from kneefair_jax.report.text import formatting, study_text


def over(value, half=0.002, patients=None, **more):
    ends = [value - half, value + half]
    return {"value": value, "per_seed": [value], "seeds": ends, "patients": patients or list(ends), **more}


def method(gap, change=None, closed=None):
    """`change`: (value, p after Holm) of gap, worst group and mean; of the rest nothing is known."""
    return {
        "mean": over(0.93),
        "gap": over(gap),
        "pair": over(gap),
        "change": change
        and {
            key: over(value, p=p, p_holm=p)
            for key, (value, p) in zip(("gap", "worst", "mean"), change, strict=True)
        }
        | {key: over(0.0) | {"value": None, "p_holm": None} for key in ("ser", "es", "hd95")},
        "closed": closed,
    }


def share(value, low, high, p):
    return {"value": value, "seeds": [low, high], "half": {"p_holm": p}}


STUDY = {
    "attribute": "race",
    "methods": {"dro": {"label": "group DRO"}, "erm": {"label": "erm"}},
    "comparison": {
        "baseline": "erm",
        "oracle": None,
        "seeds": 5,
        "patients": 120,
        "pair": {"best": "race=A", "worst": "race=B"},
        "groups": {name: {"patients": 60, "ranked": True} for name in ("race=A", "race=B")},
        "repairable": None,
        "methods": {
            "erm": method(0.05),
            "dro": method(0.03, [(-0.02, 0.003), (0.0184, 0.0001), (-0.004, 0.04)]),
        },
    },
}


@pytest.fixture
def study():
    return copy.deepcopy(STUDY)


def with_dro(study, **changes):
    study["comparison"]["methods"]["dro"] |= changes
    return study_text.sentence(study, "dro")


def test_numbers():
    assert study_text.signed(0.0214) == "+0.021" and study_text.signed(-0.004) == "\N{MINUS SIGN}0.004"
    assert study_text.signed(0.0001) == study_text.signed(-0.0001) == "0.000"
    assert study_text.signed(None) == formatting.DASH and study_text.signed(12.0) == "+12.000"
    assert study_text.p_value(0.0004) == "p < 0.001" and study_text.p_value(None) == formatting.DASH
    assert study_text.p_value(0.0414) == "p = 0.041" and study_text.percent(0.734) == "73 %"
    assert study_text.unbroken("a [1, 2] b (p = 3)") == "a [1,\xa02] b (p\xa0=\xa03)"


def test_a_method_that_narrows(study):
    assert study_text.sentence(study, "dro") == (
        "group DRO, over 5 seeds, narrows the gap by 0.020 [0.018, 0.022] (p = 0.003), lifts the worst group's mean "
        "by 0.018 [0.016, 0.020] (secondary, p < 0.001) and lowers the overall mean by 0.004 [0.002, 0.006] "
        "(secondary, p = 0.040)."
    )


def test_what_is_told_of_the_rest(study):
    changes = study["comparison"]["methods"]["dro"]["change"]
    changes["ser"] = over(-0.2, p_holm=0.01) | {"patients": None}
    changes["es"] = over(0.01, p_holm=0.4)
    changes["hd95"] = over(-1.5, half=2.0, p_holm=0.02)
    text = study_text.sentence(study, "dro")
    assert text.endswith(
        "; it also lowers SER by 0.200 [0.198, 0.202] (secondary, p = 0.010) and lowers HD95 by 1.50 "
        "[\N{MINUS SIGN}0.50, 3.50] mm (secondary, p = 0.020; over patients \N{MINUS SIGN}3.50 to +0.50, so other "
        "patients may show none); no change to tell from none in ES-Dice."
    )
    changes["ser"]["p_holm"] = changes["hd95"]["p_holm"] = 1.0
    text = study_text.sentence(study, "dro")
    assert text.endswith("(secondary, p = 0.040); no change to tell from none in SER, ES-Dice and HD95.")


def test_an_interval_ends_where_its_score_does():
    wide = over(0.9, half=0.3, patients=[0.5, 0.99])
    assert study_text.within(wide, "mean") == wide | {"seeds": [pytest.approx(0.6), 1.0]}
    assert study_text.within(wide, "ser")["patients"] == [1.0, 1.0]
    assert study_text.within(over(1.2) | {"seeds": None}, "ser")["seeds"] is None


def test_a_method_that_hurts_is_said_to(study):
    change = method(0.07, [(0.02, 0.003), (-0.02, 0.003), (0.0, 1.0)])["change"]
    text = with_dro(study, change=change)
    assert "widens the gap by 0.020 [0.018, 0.022]" in text and "lowers the worst group's mean" in text
    assert "with no change to tell from none in the overall mean (0.000 [" in text


def test_what_the_seeds_cannot_tell_is_no_claim(study):
    change = method(0.0, [(-0.02, 0.06), (0.01, 0.2), (0.0, 1.0)])["change"]
    text = with_dro(study, change=change)
    assert text.startswith(
        "group DRO, over 5 seeds, shows no change to tell from none in the gap (\N{MINUS SIGN}0.020 ["
    )
    for claim in ("narrows", "widens", "lifts", "lowers", "moves"):
        assert claim not in text


def test_levelling_down_is_not_sold_as_help(study):
    change = method(0.0, [(-0.02, 0.001), (0.001, 0.7), (-0.01, 0.01)])["change"]
    text = with_dro(study, change=change)
    assert "narrows the gap" in text and "lowers the overall mean" in text
    assert "no change to tell from none in the worst group's mean" in text


def test_a_gap_turned_round(study):
    text = with_dro(study, pair=over(-0.01), change=method(0, [(-0.06, 0.001)] * 3)["change"])
    assert "moves the gap by 0.060 [0.058, 0.062] and turns it round: race B is ahead by 0.010" in text
    assert "narrows" not in text


def test_other_patients_may_show_none(study):
    change = method(0.03, [(-0.02, 0.003)] * 3)["change"]
    change["gap"]["patients"] = [-0.05, 0.01]
    text = with_dro(study, change=change)
    assert "(p = 0.003; over patients \N{MINUS SIGN}0.050 to +0.010, so other patients may show none)" in text


def test_every_claim_is_qualified_by_patients(study):
    """The trap: a claim about the worst group or the mean, or in the opening, that says nothing of other patients."""
    change = study["comparison"]["methods"]["dro"]["change"]
    for key in ("worst", "mean"):
        change[key]["patients"] = [-0.03, 0.05]
    clause = "; over patients \N{MINUS SIGN}0.030 to +0.050, so other patients may show none)"
    text = study_text.sentence(study, "dro")
    assert f"lifts the worst group's mean by 0.018 [0.016, 0.020] (secondary, p < 0.001{clause}" in text
    assert f"lowers the overall mean by 0.004 [0.002, 0.006] (secondary, p = 0.040{clause}" in text
    assert "may show none" not in study_text.opening(study)
    change["gap"]["patients"] = [-0.05, 0.01]
    assert study_text.opening(study).endswith(
        "The difference falls with group DRO. With group DRO, other patients may show none of it."
    )
    change["gap"]["patients"] = None
    assert "may show none" not in study_text.opening(study)


def test_methods_that_diverged_are_named(study):
    assert study_text.diverged(study) == []
    study["diverged"] = {"dro": ["runs/dro/seed_1", "runs/dro/seed_2"], "jtt": ["runs/jtt/seed_1"]}
    assert study_text.diverged(study) == [
        "group DRO is left out, since 2 runs diverged (runs/dro/seed_1 and runs/dro/seed_2).",
        "jtt is left out, since 1 run diverged (runs/jtt/seed_1).",
    ]


def test_narrower_means_nothing_where_the_baseline_s_gap_may_be_none(study):
    study["comparison"]["methods"]["erm"]["gap"]["patients"] = [-0.01, 0.02]
    text = study_text.sentence(study, "dro")
    assert (
        "moves the difference race A minus race B by \N{MINUS SIGN}0.020 [\N{MINUS SIGN}0.022, \N{MINUS SIGN}0.018]"
        in text
    )
    assert "narrows" not in text
    assert "These patients cannot tell that difference from none." in study_text.opening(study)


@pytest.mark.parametrize(
    ("closed", "expected"),
    [
        (
            share(0.8, 0.6, 1.1, 0.004),
            "80 % [60 %, 110 %] of the repairable gap, more than half (p = 0.004).",
        ),
        (share(0.2, 0.1, 0.4, 1.0), "20 % [10 %, 40 %] of the repairable gap, less than half."),
        (share(0.6, 0.3, 0.9, 0.2), "of the repairable gap; whether half, these seeds cannot tell."),
    ],
)
def test_the_share_that_is_closed(study, closed, expected):
    study["comparison"]["repairable"] = over(0.04)
    assert with_dro(study, closed=closed).endswith(expected)
    study["comparison"]["repairable"] = over(0.04, patients=[-0.01, 0.09])
    assert with_dro(study, closed=closed).endswith(f"{expected[:-1]}; other patients may show none.")
    study["comparison"]["repairable"] = over(0.04)
    change = method(0.03, [(-0.02, 0.003)] * 3)["change"]
    change["gap"]["patients"] = [-0.05, 0.01]
    assert with_dro(study, closed=closed, change=change).endswith("; other patients may show none.")


def test_one_seed_and_one_group(study):
    for change in study["comparison"]["methods"]["dro"]["change"].values():
        change |= {"seeds": None, "p": None, "p_holm": None}
    study["comparison"]["seeds"] = 1
    assert study_text.sentence(study, "dro").startswith(
        "group DRO, over 1 seed, shows no change to tell from none in the gap (\N{MINUS SIGN}0.020)"
    )
    assert "One seed: no change is tested." in study_text.opening(study)
    study["comparison"]["pair"] = None
    assert "gap" not in study_text.sentence(study, "dro")
    assert "so there is no gap to compare" in study_text.opening(study)


def test_the_opening_sorts_methods_by_what_is_told(study):
    methods = study["comparison"]["methods"]
    methods["worse"] = method(0.07, [(0.02, 0.003)] * 3)
    methods["same"] = method(0.05, [(0.0, 0.9)] * 3)
    text = study_text.opening(study)
    assert "3 mitigations and the baseline, erm, were trained with the same 5 seeds" in text
    assert (
        "tested on the same 120 patients" in text
        and "better than race B by 0.050 [0.048, 0.052] over patients, [0.048, 0.052] over seeds." in text
    )
    assert "The difference falls with group DRO. It grows with worse." in text
    assert text.endswith("same shows no change of the difference that 5 seeds could tell from none.")
    del methods["worse"], methods["dro"]
    assert study_text.opening(study).endswith(
        "No method shows a change of the difference that 5 seeds could tell from none."
    )


def test_what_can_be_repaired(study):
    study["comparison"]["oracle"] = "oracle"
    study["comparison"]["methods"]["oracle"] = method(0.01, [(-0.04, None)] * 3)
    study["comparison"]["repairable"] = over(0.04) | {"significant": True}
    text = study_text.opening(study)
    assert (
        "The oracle shows that training can repair 0.040 of it [0.038, 0.042] over seeds; "
        "the rest was not repaired by equal representation at this budget." in text
    )
    study["comparison"]["repairable"] |= {"patients": [-0.01, 0.09]}
    assert (
        "at this budget; over patients \N{MINUS SIGN}0.010 to +0.090, so other patients may show none."
        in study_text.opening(study)
    )
    study["comparison"]["repairable"] |= {"significant": False}
    assert "There is nothing to repair that these seeds could tell from none" in study_text.opening(study)


def test_the_power_is_printed_with_its_numbers(study):
    study["comparison"]["power"] = {
        "change": 0.017,
        "sd": 0.004,
        "own_change": True,
        "own_sd": True,
        "power": 0.98,
    }
    text = study_text.opening(study)
    assert all(part in text for part in ("98 %", "0.017", "0.004", "whole repairable gap"))
    study["comparison"]["power"]["own_change"] = False
    assert "repairable" not in study_text.opening(study)


@pytest.mark.parametrize(("methods", "amounts"), [(1, ()), (6, ("6 methods",))])
def test_the_power_of_a_single_method_names_no_number_of_methods(methods, amounts):
    entry = {"change": 0.017, "sd": 0.004, "own_change": True, "own_sd": True, "power": 0.98}
    text = study_text.power(entry, methods)
    assert text.count("method") == len(amounts) and all(part in text for part in amounts)


def test_the_rule_may_change_the_winner(study):
    one, other = copy.deepcopy(study["comparison"]), copy.deepcopy(study["comparison"])
    study["rules"] = {"overall": one, "worst_group": other}
    assert study_text.rules(study) == "By every rule group DRO has the smallest gap, by point estimates."
    other["methods"]["dro"]["gap"]["value"] = -0.06
    assert study_text.rules(study) == (
        "The rule changes which method has the smallest gap by point estimates: group DRO by overall and erm by worst "
        "group."
    )


def training_method(mean, gap):
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


TRAINING_STUDY = {
    "attribute": "race",
    "methods": {},
    "comparison": {
        "baseline": "erm",
        "seeds": 3,
        "pair": {"best": "race=A", "worst": "race=B"},
        "methods": {"erm": training_method(0.9, 0.04), "dro": training_method(0.9, 0.02)},
    },
}


@pytest.fixture
def training_study():
    return copy.deepcopy(TRAINING_STUDY)


def test_nothing_known_is_nothing_said(training_study):
    assert not study_text.warnings(training_study) and not study_text.fit(training_study)
    assert study_text.regime(training_study) == ""
    training_study["training"] = {name: {"rise": None, "fit": None} for name in ("erm", "dro")}
    assert not study_text.warnings(training_study) and not study_text.fit(training_study)


def test_hardly_trained_and_few_seeds(training_study):
    training_study["training"] = {
        "erm": {"rise": [0.03, 0.01], "fit": None},
        "dro": {"rise": [0.03, -0.03], "fit": None},
    }
    training_study["comparison"]["methods"]["dro"]["mean"]["value"] = 0.4
    training_study["comparison"]["seeds"] = 2
    few, rising, low = study_text.warnings(training_study)
    assert few.startswith("There are 2 seeds, fewer than 3")
    assert rising.startswith("The validation Dice of erm still rose by more than 0.01")
    assert low.startswith("The mean test Dice of dro is below 0.7")
    training_study["comparison"]["seeds"] = 1
    assert study_text.warnings(training_study)[0].startswith("There is one seed")


def test_which_regime(training_study):
    training_study["training"] = {"erm": {"rise": None, "fit": fitted(0.95, 0.92)}}
    text = study_text.regime(training_study)
    assert "erm's gap is 0.030, on test patients 0.040" in text and "short-budget regime" in text
    assert "race B is not fitted yet, or is harder" in text
    (high, low) = study_text.fit(training_study)
    assert high == {
        "method": "erm",
        "group": "race=A",
        "train": pytest.approx(0.95),
        "test": 0.9,
        "cases": 30,
    }
    assert low["train"] == pytest.approx(0.92)
    training_study["training"]["erm"]["fit"] = fitted(0.99, 0.98)
    assert "long-budget regime" in study_text.regime(training_study)
    training_study["comparison"]["methods"]["erm"]["pair"]["value"] = 0.0
    assert "regime" not in study_text.regime(training_study)

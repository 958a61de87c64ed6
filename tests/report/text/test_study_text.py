import copy

import pytest

from kneefair_jax.report.text import power, study_text


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
    return study_text.method_text(study, "dro")


def test_a_method_that_narrows(study):
    assert study_text.method_text(study, "dro") == (
        "group DRO (5 seeds) narrows the gap by 0.020 [0.018, 0.022] (p = 0.003), raises the worst group's mean "
        "by 0.018 [0.016, 0.020] (secondary, p < 0.001) and lowers the overall mean by 0.004 [0.002, 0.006] "
        "(secondary, p = 0.040)."
    )


def test_further_statistics(study):
    changes = study["comparison"]["methods"]["dro"]["change"]
    changes["ser"] = over(-0.2, p_holm=0.01) | {"patients": None}
    changes["es"] = over(0.01, p_holm=0.4)
    changes["hd95"] = over(-1.5, half=2.0, p_holm=0.02)
    text = study_text.method_text(study, "dro")
    for part in (
        "lowers SER by 0.200 [0.198, 0.202] (secondary, p = 0.010)",
        "lowers HD95 by 1.50 [\N{MINUS SIGN}0.50, 3.50] mm (secondary, p = 0.020; the interval over patients",
        "\N{MINUS SIGN}3.50 to +0.50, includes zero)",
        "ES-Dice does not change significantly.",
    ):
        assert part in text
    changes["ser"]["p_holm"] = changes["hd95"]["p_holm"] = 1.0
    text = study_text.method_text(study, "dro")
    assert text.endswith("SER, ES-Dice and HD95 do not change significantly.") and "also" not in text


def test_an_interval_ends_where_its_score_does():
    wide = over(0.9, half=0.3, patients=[0.5, 0.99])
    assert study_text.clip_intervals(wide, "mean") == wide | {"seeds": [pytest.approx(0.6), 1.0]}
    assert study_text.clip_intervals(wide, "ser")["patients"] == [1.0, 1.0]
    assert study_text.clip_intervals(over(1.2) | {"seeds": None}, "ser")["seeds"] is None


def test_a_method_that_hurts_is_reported_as_such(study):
    change = method(0.07, [(0.02, 0.003), (-0.02, 0.003), (0.0, 1.0)])["change"]
    text = with_dro(study, change=change)
    assert "widens the gap by 0.020 [0.018, 0.022]" in text and "lowers the worst group's mean" in text
    assert "the overall mean (0.000 [" in text and "does not change significantly" in text


def test_a_change_that_is_not_significant_is_no_claim(study):
    change = method(0.0, [(-0.02, 0.06), (0.01, 0.2), (0.0, 1.0)])["change"]
    text = with_dro(study, change=change)
    assert text.startswith("group DRO (5 seeds): the gap (\N{MINUS SIGN}0.020 [")
    assert "do not change significantly" in text
    for claim in ("narrows", "widens", "raises", "lowers", "changes the"):
        assert claim not in text


def test_levelling_down_names_the_lower_mean(study):
    change = method(0.0, [(-0.02, 0.001), (0.001, 0.7), (-0.01, 0.01)])["change"]
    text = with_dro(study, change=change)
    assert "narrows the gap" in text and "lowers the overall mean" in text
    assert "the worst group's mean (+0.001" in text and "does not change significantly" in text


def test_a_reversed_gap(study):
    text = with_dro(study, pair=over(-0.01), change=method(0, [(-0.06, 0.001)] * 3)["change"])
    assert "the gap by 0.060 [0.058, 0.062] and reverses it: race B exceeds race A by 0.010" in text
    assert "narrows" not in text


def test_the_interval_over_patients_qualifies_the_gap(study):
    change = method(0.03, [(-0.02, 0.003)] * 3)["change"]
    change["gap"]["patients"] = [-0.05, 0.01]
    text = with_dro(study, change=change)
    assert "(p = 0.003; the interval over patients, \N{MINUS SIGN}0.050 to +0.010, includes zero)" in text


def test_every_claim_is_qualified_by_patients(study):
    """The trap: a claim on the worst group or the mean, or in the summary, without its interval over patients."""
    change = study["comparison"]["methods"]["dro"]["change"]
    for key in ("worst", "mean"):
        change[key]["patients"] = [-0.03, 0.05]
    clause = "; the interval over patients, \N{MINUS SIGN}0.030 to +0.050, includes zero)"
    text = study_text.method_text(study, "dro")
    assert f"raises the worst group's mean by 0.018 [0.016, 0.020] (secondary, p < 0.001{clause}" in text
    assert f"lowers the overall mean by 0.004 [0.002, 0.006] (secondary, p = 0.040{clause}" in text
    assert "includes zero" not in study_text.summary(study)
    change["gap"]["patients"] = [-0.05, 0.01]
    text = study_text.summary(study)
    assert "decreases significantly with group DRO" in text and "includes zero for group DRO" in text
    change["gap"]["patients"] = None
    assert "includes zero" not in study_text.summary(study)


def test_methods_that_diverged_are_named(study):
    assert study_text.excluded_methods(study) == []
    study["diverged"] = {"dro": ["runs/dro/seed_1", "runs/dro/seed_2"], "jtt": ["runs/jtt/seed_1"]}
    assert study_text.excluded_methods(study) == [
        "group DRO is excluded because 2 runs diverged (runs/dro/seed_1 and runs/dro/seed_2).",
        "jtt is excluded because 1 run diverged (runs/jtt/seed_1).",
    ]


def test_no_narrower_where_the_baseline_s_gap_may_be_zero(study):
    study["comparison"]["methods"]["erm"]["gap"]["patients"] = [-0.01, 0.02]
    text = study_text.method_text(study, "dro")
    assert (
        "changes the difference race A minus race B by \N{MINUS SIGN}0.020 [\N{MINUS SIGN}0.022, \N{MINUS SIGN}0.018]"
        in text
    )
    assert "narrows" not in text
    assert "not distinguishable from zero" in study_text.summary(study)


@pytest.mark.parametrize(
    ("closed", "expected"),
    [
        (
            share(0.8, 0.6, 1.1, 0.004),
            "80 % [60 %, 110 %] of the repairable gap, more than half (p = 0.004).",
        ),
        (share(0.2, 0.1, 0.4, 1.0), "20 % [10 %, 40 %] of the repairable gap, less than half."),
        (share(0.6, 0.3, 0.9, 0.2), "of the repairable gap, not significantly more or less than half."),
    ],
)
def test_the_share_that_is_closed(study, closed, expected):
    study["comparison"]["repairable"] = over(0.04)
    assert with_dro(study, closed=closed).endswith(expected)
    study["comparison"]["repairable"] = over(0.04, patients=[-0.01, 0.09])
    assert with_dro(study, closed=closed).endswith(
        f"{expected[:-1]}; the interval over patients includes zero."
    )
    study["comparison"]["repairable"] = over(0.04)
    change = method(0.03, [(-0.02, 0.003)] * 3)["change"]
    change["gap"]["patients"] = [-0.05, 0.01]
    assert with_dro(study, closed=closed, change=change).endswith(
        "; the interval over patients includes zero."
    )


def test_one_seed_and_one_group(study):
    for change in study["comparison"]["methods"]["dro"]["change"].values():
        change |= {"seeds": None, "p": None, "p_holm": None}
    study["comparison"]["seeds"] = 1
    text = study_text.method_text(study, "dro")
    assert text.startswith("group DRO (1 seed): the gap (\N{MINUS SIGN}0.020)") and "are not tested" in text
    assert "no change is tested" in study_text.summary(study)
    study["comparison"]["pair"] = None
    assert "gap" not in study_text.method_text(study, "dro")
    assert "so there is no gap to compare" in study_text.summary(study)


def test_the_summary_sorts_methods_by_their_change(study):
    methods = study["comparison"]["methods"]
    methods["worse"] = method(0.07, [(0.02, 0.003)] * 3)
    methods["same"] = method(0.05, [(0.0, 0.9)] * 3)
    text = study_text.summary(study)
    assert "3 mitigations and the baseline, erm, were trained with the same 5 seeds" in text
    assert "tested on the same 120 patients" in text and "higher in race A than in race B" in text
    assert "0.050 [0.048, 0.052] over patients, [0.048, 0.052] over seeds." in text
    assert "decreases significantly with group DRO" in text and "increases significantly with worse" in text
    assert text.endswith("does not change significantly with same (over 5 seeds).")
    del methods["worse"], methods["dro"]
    assert study_text.summary(study).endswith("does not change significantly with any method (over 5 seeds).")


def test_what_can_be_repaired(study):
    study["comparison"]["oracle"] = "oracle"
    study["comparison"]["methods"]["oracle"] = method(0.01, [(-0.04, None)] * 3)
    study["comparison"]["repairable"] = over(0.04) | {"significant": True}
    text = study_text.summary(study)
    assert "the oracle is smaller by 0.040 [0.038, 0.042] over seeds: training can repair this part" in text
    study["comparison"]["repairable"] |= {"patients": [-0.01, 0.09]}
    interval = "the interval over patients, \N{MINUS SIGN}0.010 to +0.090, includes zero."
    assert interval in study_text.summary(study)
    study["comparison"]["repairable"] |= {"significant": False}
    assert "no part of the gap is shown to be repairable" in study_text.summary(study)


def test_the_power_is_printed_with_its_numbers(study):
    study["comparison"]["power"] = {
        "change": 0.017,
        "sd": 0.004,
        "own_change": True,
        "own_sd": True,
        "power": 0.98,
    }
    text = study_text.summary(study)
    assert all(part in text for part in ("98 %", "0.017", "0.004", "as large as the repairable gap"))
    study["comparison"]["power"]["own_change"] = False
    assert "repairable" not in study_text.summary(study)


@pytest.mark.parametrize(("methods", "amounts"), [(1, ()), (6, ("6 methods",))])
def test_the_power_of_a_single_method_names_no_number_of_methods(methods, amounts):
    entry = {"change": 0.017, "sd": 0.004, "own_change": True, "own_sd": True, "power": 0.98}
    text = power.study_power(entry, methods)
    assert text.count("method") == len(amounts) and all(part in text for part in amounts)


def test_the_rule_may_change_the_winner(study):
    one, other = copy.deepcopy(study["comparison"]), copy.deepcopy(study["comparison"])
    study["rules"] = {"overall": one, "worst_group": other}
    assert study_text.selection_rules(study).startswith("group DRO has the smallest gap")
    other["methods"]["dro"]["gap"]["value"] = -0.06
    assert "group DRO by overall and erm by worst group" in study_text.selection_rules(study)


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


def test_without_training_scores_there_is_no_text(training_study):
    assert not study_text.warnings(training_study) and not study_text.train_scores(training_study)
    assert study_text.convergence(training_study) == ""
    training_study["training"] = {name: {"rise": None, "train_scores": None} for name in ("erm", "dro")}
    assert not study_text.warnings(training_study) and not study_text.train_scores(training_study)


def test_hardly_trained_and_few_seeds(training_study):
    training_study["training"] = {
        "erm": {"rise": [0.03, 0.01], "train_scores": None},
        "dro": {"rise": [0.03, -0.03], "train_scores": None},
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
    training_study["training"] = {"erm": {"rise": None, "train_scores": fitted(0.95, 0.92)}}
    text = study_text.convergence(training_study)
    assert "erm is 0.030 on training patients and 0.040 on test patients" in text and "short-budget" in text
    assert "race B is not yet fitted, or is harder" in text
    (high, low) = study_text.train_scores(training_study)
    assert high == {
        "method": "erm",
        "group": "race=A",
        "train": pytest.approx(0.95),
        "test": 0.9,
        "cases": 30,
    }
    assert low["train"] == pytest.approx(0.92)
    training_study["training"]["erm"]["train_scores"] = fitted(0.99, 0.98)
    assert "long-budget regime" in study_text.convergence(training_study)
    training_study["comparison"]["methods"]["erm"]["pair"]["value"] = 0.0
    assert "regime" not in study_text.convergence(training_study)

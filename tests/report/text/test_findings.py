import pytest

from kneefair_jax.report.text import findings, formatting, summary

BLOCK = formatting.Block("sex", "sex", {"sex=f": "f", "sex=m": "m"})


def block_of(
    *, p=0.5, low=0.0, ser=1.3, ends=(1.1, 1.5), size=None, equivalent=None, detectable=0.02
) -> dict:
    return {
        "groups": {
            "sex=f": {"mean": 0.92, "interval": None, "patients": 20, "cases": 40},
            "sex=m": {"mean": 0.94, "interval": None, "patients": 30, "cases": 60},
        },
        "summaries": {
            "sex": {
                "worst": {"value": 0.08, "interval": None, "group": "sex=f"},
                "gap": {"value": 0.02, "interval": None if low is None else [low, 0.04]},
                "ser": {"value": ser, "interval": list(ends), "size": size},
                "test": None if p is None else {"name": "permuted Welch t", "p": p / 2, "p_holm": p},
                "equivalence": None
                if equivalent is None
                else {"delta": 0.05, "equivalent": equivalent, "reason": "a group of 20", "intervals": []},
                "detectable": detectable,
            }
        },
    }


def said(**numbers) -> str:
    scores = block_of(**numbers)
    return " ".join(findings.sentences(findings.judge(BLOCK, scores), scores["groups"], "Dice", 10))


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ({"p": 0.01, "low": 0.01}, "real"),
        ({"p": 0.049, "low": 0.0}, "unclear"),
        ({"p": 0.05, "low": 0.001}, "unclear"),
        ({"p": 0.01, "low": None}, "unclear"),
        ({"p": 0.3}, "open"),
        ({"p": 0.3, "equivalent": True}, "open"),
        ({"p": 0.01, "low": 0.01, "equivalent": True}, "real"),
        ({"p": None, "low": 0.01}, "untested"),
    ],
)
def test_a_gap_is_real_only_where_test_and_interval_agree(numbers, kind):
    assert findings.judge(BLOCK, block_of(**numbers)).kind == kind


@pytest.mark.parametrize(
    ("numbers", "size"),
    [
        ({"p": 0.5, "ser": 1.3, "size": 1.05}, None),  # a gap that is not significant needs no explanation
        ({"ser": 1.3, "size": 1.31, "ends": (None, None)}, "explains"),
        ({"ser": 1.12, "size": 1.1, "ends": (1.05, 1.2)}, "unclear"),
        ({"ser": 1.3, "size": 1.3, "ends": (1.2, 1.4)}, "explains"),
        ({"ser": 1.4, "size": 1.19, "ends": (1.15, 1.7)}, "unclear"),  # half of it is not all of it
        ({"ser": 1.4, "size": 1.15, "ends": (1.15, 1.7)}, "unclear"),
        ({"ser": 1.6, "size": 1.03, "ends": (1.02, 2.5)}, "unclear"),
        ({"ser": 1.3, "size": 1.05, "ends": (1.2, 1.4)}, "no"),
        ({"ser": 1.3, "size": 1.05, "ends": (None, None)}, "unclear"),
        ({"ser": 1.3}, None),
        ({"ser": None, "size": 1.1}, None),
    ],
)
def test_what_size_explains(numbers, size):
    assert findings.judge(BLOCK, block_of(**({"p": 0.01, "low": 0.01} | numbers))).size == size


def test_each_verdict_has_its_words_and_a_large_p_is_never_equality():
    assert "The gap is real" in said(p=0.01, low=0.01)
    assert "the test rejects equality, the interval reaches zero (p = 0.010 after Holm" in said(p=0.01)
    assert "but there is no interval" in said(p=0.01, low=None)
    assert "the interval leaves zero out, the test does not" in said(p=0.2, low=0.01)
    quiet = said(p=0.8)
    assert (
        "That is not equality: a single test, uncorrected, would show gaps of 0.020 or more with 80 % power; a "
        "smaller one could easily go unseen."
    ) in quiet
    assert "fair" not in quiet and "no difference" not in quiet
    assert "That interval reaches zero" in said(p=None) and "reaches zero" not in said(p=None, low=0.01)
    assert "Size alone explains the SER, 1.120: " in said(p=0.01, low=0.01, ser=1.12, size=1.12)
    part = said(p=0.01, low=0.01, ser=1.4, size=1.19, ends=(1.1, 1.7))
    assert (
        "The same boundary error on every structure would give a SER of 1.190, not 1.400; the interval does not tell "
        "whether the rest is more than chance."
    ) in part and "explain" not in part
    assert "there is no interval to tell" in said(p=0.01, low=0.01, size=1.19, ends=(None, None))
    assert "Size alone does not explain it" in said(p=0.01, low=0.01, size=1.05, ends=(1.2, 1.4))


@pytest.mark.parametrize(
    ("numbers", "equivalence", "detail", "opened"),
    [
        ({}, None, "", ""),
        (
            {"equivalent": False},
            "not shown",
            "is not shown",
            "No groups are shown to be equivalent within ±0.050.",
        ),
        (
            {"equivalent": True},
            "fair",
            "the groups are fair",
            "Fair are the groups by sex: equivalent within ±0.050.",
        ),
        (
            {"p": 0.01, "equivalent": True},
            "small",
            "Any gap is small, though",
            "Small, within ±0.050, is the gap by sex.",
        ),
        (
            {"p": 0.01, "low": 0.01, "equivalent": True},
            "small",
            "It is small, though",
            "Small, within ±0.050, is the gap by sex.",
        ),
        (
            {"p": None, "equivalent": True},
            "small",
            "Any gap is small, though",
            "Small, within ±0.050, is the gap by sex.",
        ),
    ],
)
def test_opening_details_and_tables_agree_on_equivalence(report, numbers, equivalence, detail, opened):
    scores = block_of(**numbers)
    verdict = findings.judge(BLOCK, scores)
    assert verdict.equivalence == equivalence
    report["scores"]["dice"] |= scores
    report["cohort"]["attributes"] = ["sex"]
    (paragraph,), first, cell = summary.details(report), summary.opening(report), findings.reading(verdict)
    assert detail in paragraph and opened in first
    for text in (paragraph, first, cell):
        assert ("fair" in text.lower()) == (equivalence == "fair")
    assert ("is small, though: " in paragraph, "Small, within" in first) == (equivalence == "small",) * 2
    assert ("within ±" in cell) == (equivalence in ("fair", "small"))


def test_fair_is_said_only_where_equivalence_is_shown():
    fair = said(equivalent=True)
    assert "the groups are fair" in fair and "not equality" not in fair
    refused = said(equivalent=False)
    assert "Equivalence within ±0.050 is not shown (a group of 20)." in refused and "fair" not in refused
    assert "It is small, though" in said(p=0.01, low=0.01, equivalent=True)


def test_a_distance_is_worst_where_it_is_highest():
    scores = block_of()
    scores["summaries"]["sex"]["worst"]["group"] = None
    verdict = findings.judge(BLOCK, scores, lower_is_better=True)
    assert (verdict.best, verdict.worst) == ("sex=f", "sex=m")
    words = findings.sentences(verdict, scores["groups"], "HD95", 10)[0]
    assert "f has the lowest mean HD95 (0.920) and m the highest (0.940)" in words


def test_the_opening_sorts_the_attributes_by_verdict(audited):
    text = summary.opening(audited)
    assert "age (≤50 40, 51-60 40, 61-70 40, ≥71 6, missing 6)" in text
    assert "Real, by test and interval, are the gaps by sex (0.021: male above female) and by sex" in text
    assert (
        "Size alone explains the gap by sex. Size alone does not explain the gap by sex \N{MULTIPLICATION SIGN} race."
        in text
    )
    assert (
        "With this sample size the gap by race is not distinguishable from zero. That is not equality: gaps below "
        "0.021 by race could not have been seen reliably, even by a single test, uncorrected." in text
    )
    assert "Fair are the groups by age: equivalent within ±0.020." in text
    assert (
        "The gap by sex may depend on race: interaction 0.012 (95 % interval 0.001 to 0.024), p = 0.031 "
        "after Holm's correction, exploratory." in text
    )


def test_the_opening_leaves_open_what_size_leaves_open(audited):
    audited["scores"]["dice"]["summaries"]["sex"]["ser"]["size"] = 1.36
    assert "Whether size alone explains the gap by sex stays unclear." in summary.opening(audited)


def test_an_older_report_without_tests_still_has_its_words(report):
    text = summary.opening(report)
    assert "By age the gap is 0.022 (95 % interval 0.000 to 0.044) and may be none: ≤50 above ≥51" in text
    assert "real" not in text.lower() and "fair" not in text.lower()
    report["scores"]["dice"]["summaries"]["sex"]["gap"] = {"value": 0.0146, "interval": None}
    assert "a gap of 0.015." in summary.details(report)[0]
    report["scores"]["dice"]["groups"]["sex=male"]["ranked"] = False
    assert summary.details(report)[0] == (
        "By sex, fewer than two groups have the 10 patients that ranking needs."
    )
    assert "Too few patients for any comparison: by sex." in summary.opening(report)

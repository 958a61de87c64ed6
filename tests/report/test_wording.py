import pytest

from kneefair_jax.report import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.94551, "0.946"),
        (None, wording.DASH),
        (float("nan"), wording.DASH),
        (-0.0123, "\N{MINUS SIGN}0.012"),
        (1, "1.000"),
    ],
)
def test_numbers(value, text):
    assert wording.number(value) == text


def test_counts_amounts_intervals_and_lists():
    assert wording.count(12345) == "12,345" and wording.count(None) == wording.DASH
    assert wording.amount(1, "case") == "1 case" and wording.amount(0, "case") == "0 cases"
    assert wording.interval([0.1, 0.25]) == "[0.100, 0.250]"
    assert wording.interval(None) == wording.interval([None, 0.1]) == wording.DASH
    assert wording.listing(["a"]) == "a" and wording.listing(["a", "b", "c"]) == "a, b and c"


def test_steps_of_one_model_of_several_and_of_folds():
    assert wording.step(1200) == "1,200"
    assert wording.step({"age=<=50": 900, "age=>=51": 1200}) == "age=≤50 900, age=≥51 1,200"
    assert wording.step([900, 1200]) == "900, 1,200"
    assert wording.step([{"sex=f": 5}, {"sex=f": 10}]) == "sex=f 5, sex=f 10"


def test_blocks_are_marginals_then_pairs_and_levels_may_hold_commas():
    names = ["all", "sex=a, or b", "age=<=50", "sex=a, or b,age=<=50", "sex=x"]
    found = wording.blocks(names, ["sex", "age"])
    assert [block.key for block in found] == ["", "sex", "age", "sex,age"]
    assert found[0].labels == {"all": "all"}
    assert list(found[1].labels.values()) == ["a, or b", "x"]
    assert found[3].title == "sex \N{MULTIPLICATION SIGN} age" and list(found[3].labels.values()) == [
        "a, or b, ≤50"
    ]
    assert wording.group("sex=a, or b,age=<=50", ["sex", "age"]) == "sex a, or b, age ≤50"
    assert wording.group("everyone", ["sex"]) == "everyone"


def test_an_interval_that_reaches_zero_is_said_so(report):
    text = wording.opening(report)
    assert "a gap of 0.022 (95 % interval 0.000 to 0.044). That interval reaches zero" in text
    assert text.count("reaches zero") == 1


def test_a_gap_without_an_interval_stands_alone(report):
    report["scores"]["dice"]["summaries"]["sex"]["gap"] = {"value": 0.0146, "interval": None}
    assert "a gap of 0.015." in wording.opening(report)


def test_an_attribute_with_one_ranked_group_is_not_ranked(report):
    report["scores"]["dice"]["groups"]["sex=male"]["ranked"] = False
    assert "By sex, fewer than two groups have the 10 patients that ranking needs." in wording.opening(report)

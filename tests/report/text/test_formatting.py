import pytest

from kneefair_jax.report.text import formatting


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.94551, "0.946"),
        (None, formatting.DASH),
        (float("nan"), formatting.DASH),
        (-0.0123, "\N{MINUS SIGN}0.012"),
        (1, "1.000"),
    ],
)
def test_numbers(value, text):
    assert formatting.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.02, "0.020"), (0.026302616, "0.0263"), (1.5, "1.500"), (4e-5, "0.000040"), (None, formatting.DASH)],
)
def test_a_margin_has_the_digits_that_it_needs(value, text):
    assert formatting.margin_value(value) == text


def test_names_are_examples_only_if_there_are_more():
    texts = [formatting.examples(names, 2) for names in (["a"], ["a", "b"], ["a", "b", "c"])]
    assert texts == ["a", "a, b", "such as a, b"]


def test_the_confidence_of_an_interval():
    assert [formatting.confidence(1 - 0.1 / count) for count in (1, 2, 3)] == ["90 %", "95 %", "96.7 %"]


def test_counts_amounts_intervals_and_lists():
    assert formatting.count(12345) == "12,345" and formatting.count(None) == formatting.DASH
    assert formatting.amount(1, "case") == "1 case" and formatting.amount(0, "case") == "0 cases"
    assert formatting.interval([0.1, 0.25]) == "[0.100, 0.250]"
    assert formatting.interval(None) == formatting.interval([None, 0.1]) == formatting.DASH
    assert formatting.listing(["a"]) == "a" and formatting.listing(["a", "b", "c"]) == "a, b and c"


def test_steps_of_one_model_of_several_and_of_folds():
    assert formatting.step(1200) == "1,200"
    assert formatting.step({"age=<=50": 900, "age=>=51": 1200}) == "age=≤50 900, age=≥51 1,200"
    assert formatting.step([900, 1200]) == "900, 1,200"
    assert formatting.step([{"sex=f": 5}, {"sex=f": 10}]) == "sex=f 5, sex=f 10"


def test_blocks_are_marginals_then_pairs_and_levels_may_hold_commas():
    names = ["all", "sex=a, or b", "age=<=50", "sex=a, or b,age=<=50", "sex=x"]
    groups = formatting.attribute_groups(names, ["sex", "age"])
    assert [entry.key for entry in groups] == ["", "sex", "age", "sex,age"]
    assert groups[0].labels == {"all": "all"}
    assert list(groups[1].labels.values()) == ["a, or b", "x"]
    assert groups[3].title == "sex \N{MULTIPLICATION SIGN} age" and list(groups[3].labels.values()) == [
        "a, or b, ≤50"
    ]
    assert formatting.group_title("sex=a, or b,age=<=50", ["sex", "age"]) == "sex a, or b, age ≤50"
    assert formatting.group_title("everyone", ["sex"]) == "everyone"


def test_signs_and_p_values():
    assert [formatting.signed(x) for x in (0.0214, -0.004, 0.0)] == ["+0.021", "\N{MINUS SIGN}0.004", "0.000"]
    assert [formatting.p_value(p) for p in (0.0409, 0.0004, None)] == ["0.041", "<0.001", formatting.DASH]
    assert formatting.p_equals(0.0004) == "p < 0.001" and formatting.p_equals(0.2) == "p = 0.200"
    assert formatting.p_value(1.0) == ">0.99" and formatting.p_equals(0.991) == "p > 0.99"
    assert formatting.p_value(0.99) == "0.990"


def test_patients_of_every_level_of_every_attribute(report):
    assert formatting.group_sizes(report["scores"]["dice"], ["sex", "age"]) == [
        "sex (female: n = 31, male: n = 31)",
        "age (≤50: n = 31, ≥51: n = 31, missing: n = 4)",
    ]


def test_an_end_that_is_not_zero_is_not_printed_as_zero():
    assert formatting.interval([0.0004, 0.0213]) == "[0.0004, 0.0213]"
    assert formatting.interval([0.0, 0.0213]) == "[0.000, 0.021]"
    assert formatting.interval([-0.02, -0.00003]) == "[\N{MINUS SIGN}0.02000, \N{MINUS SIGN}0.00003]"
    assert formatting.interval([1e-9, 0.5]) == "[0.000000, 0.500000]"
    assert formatting.interval([None, 0.5]) == formatting.DASH


def test_a_score_without_a_structure_is_of_all_of_them():
    assert formatting.segmentation_title(["femur", "tibia"]) == "Segmentation of the femur and tibia"
    assert formatting.segmentation_title(["all structures"]) == "Segmentation of all structures"


def test_no_line_ends_inside_an_interval_or_a_p():
    assert formatting.keep_together("a [1, 2] b (p = 3)") == "a [1,\xa02] b (p\xa0=\xa03)"

import pytest

from kneefair_jax.fairness.endpoints import endpoint_rates
from kneefair_jax.report.text import failures
from tests.report import failed_cohort


def sentences_of(failed, minimum=10, change=None, **cohort):
    report = failed_cohort.report(failed_cohort.cases(failed, **cohort), minimum)
    if change:
        change(report["rates"]["endpoints"]["failure"])
    return failures.sentences(report)


def test_the_first_sentence_names_the_group_with_more_failures():
    first, second = sentences_of(8)
    assert first.index("female than in male") < first.index("8 of 30") < first.index("0 of 30")
    assert "Dice below 0.5 in any structure" in first and "statistically significant" in first
    assert "(26.7 %, 95 % interval 12.3 to 45.9 %)" in first and "0.0 to 11.6 %" in first
    assert "by race" in second and "does not differ significantly" in second and "C 0 of 4" in second
    assert "Dice below" not in second


def test_few_failures_are_listed_without_a_claim():
    sentences = sentences_of(1)
    assert "1 of 30" in sentences[0] and not any("more frequent" in text for text in sentences)
    assert all("does not differ significantly" in text for text in sentences)


def test_no_failure_says_what_rate_remains_possible_in_the_smallest_group():
    sentence = " ".join(sentences_of(0))
    assert "race C (4 patients)" in sentence and "60.2 %" in sentence  # 1 - 0.025^(1/4)


def test_groups_too_small_to_compare_are_counted_all_the_same():
    sentences = sentences_of(2, minimum=40)
    assert "2 of 30" in sentences[0] and not any("significant" in text for text in sentences)


def test_a_small_group_that_differs_is_named_with_its_own_p():
    table = failed_cohort.cases(0)
    few = (table["race"] == "C") & (table["structure"] == "patella")
    table.loc[few, "dice"] = [0.2, 0.25, 0.3, 0.22]
    sentences = failures.sentences(failed_cohort.report(table))
    assert sum("race C" in text and "4 of 4" in text and "more frequent" in text for text in sentences) == 1
    # Patients who fail have no part in tests of means; those who do not have.
    assert not any("mean Dice of race C" in text for text in sentences)
    table.loc[few, "dice"] = [0.6, 0.62, 0.61, 0.58]
    sentences = failures.sentences(failed_cohort.report(table))
    assert any("mean Dice of race C" in text and "below" in text for text in sentences)


def test_a_pair_is_named_by_its_own_p_and_interval_alone():
    def weaken(failure):
        pair = failure["comparisons"]["sex"]["pairs"][0]["difference"]
        pair["interval"] = (-0.01, pair["interval"][1])

    def third(failure):
        weaken(failure)
        failure["comparisons"]["sex"]["pairs"] *= 3

    for change in (weaken, third):
        text = " ".join(sentences_of(8, change=change))
        assert "female than in male" not in text and "8 of 30" in text
    assert "includes zero" in " ".join(sentences_of(8, change=weaken))


def test_names_with_braces_are_no_templates():
    table = failed_cohort.cases(3)
    table["sex"] = table["sex"].cat.rename_categories({"female": "{0}{x}"})
    assert "{0}{x} 3 of 30" in " ".join(failures.sentences(failed_cohort.report(table)))


@pytest.mark.parametrize(("failed", "words"), [(2, "2 of 60"), (0, "6.0 %")])
def test_without_attributes_all_patients_are_one_group(failed, words):
    table = failed_cohort.cases(failed)
    how = {"min_group_patients": 10, "draws": 99, "seed": 0}
    rates = endpoint_rates(table, failed_cohort.STRUCTURES, [], **how).to_dict()
    primary = {"score": "dice", "attributes": []}
    sentences = failures.sentences({"rates": rates, "cohort": {"attributes": []}, "primary": primary})
    assert words in " ".join(sentences)


@pytest.mark.parametrize(
    ("name", "score", "threshold", "title"),
    [
        ("failure", "dice", 0.5, "failed (Dice < 0.5)"),
        ("absent", None, None, "absent prediction"),
        ("dice>=0.9", "dice", 0.9, "Dice ≥ 0.9"),
        ("hd95_mm<=5", "hd95_mm", 5.0, "HD95 ≤ 5 mm"),
    ],
)
def test_endpoints_have_titles(name, score, threshold, title):
    assert failures.endpoint_title(name, {"score": score, "threshold": threshold}) == title

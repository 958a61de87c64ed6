import pytest

from kneefair_jax.fairness import family
from kneefair_jax.report import page
from kneefair_jax.report.text import summary


def excluded(report, *reasons):
    report["cohort"]["flow"] = {
        "listed": 70,
        "excluded": [{"reason": reason, "records": records} for reason, records in reasons],
    }
    return summary.data_warnings(report)


def test_excluded_cases_are_counted_with_their_reason(report):
    (text,) = excluded(report, ("another split", 10), ("no prediction", 3))
    assert text.startswith("3 of 60 cases") and "no prediction" in text
    (text,) = excluded(report, ("no prediction", 3), ("no reference mask", 1))
    assert text.startswith("4 of 70 cases") and "3 no prediction" in text
    assert excluded(report, ("another split", 10)) == [] == excluded(report)


def test_cases_that_are_not_tested_are_counted_by_group(report):
    def sentences(**counts):
        names = report["cohort"]["attributes"]
        report["cohort"]["flow"]["not_tested"] = {
            f"{names[0]}={level}": {"cases": 20, "not_tested": number} for level, number in counts.items()
        }
        return summary.data_warnings(report)

    excluded(report)
    (text,) = sentences(a=1, b=3, missing=9)
    assert text.index("b 3 of 20") < text.index("a 1 of 20") and "9 of" not in text
    assert sentences(a=0, missing=9) == [] == sentences()
    (text,) = sentences(**{f"x{i}": i for i in range(8)})
    assert "x3 3 of 20 and 3 other groups" in text and "x2" not in text


def test_warnings_on_masks_stand_above_the_cards_with_a_link_to_the_notes(audited):
    audited["cohort"]["warnings"] = ["2 masks look flipped: knee034, knee041."]
    audited["cohort"]["notes"] = ["WARNING: masks."]
    html = page.summary_page(page.plain(audited))
    assert html.index("knee034, knee041") < html.index('class="card')
    assert summary.data_warnings(audited)[0] == audited["cohort"]["warnings"][0]


@pytest.mark.parametrize(("draws", "is_warned"), [(219, True), (220, False), (None, False)])
def test_permutations_that_let_no_gap_be_significant_are_warned_of(audited, draws, is_warned):
    """The smallest p of 219 permutations of 11 hypotheses is 11 / 220 after Holm's correction: not below 0.05."""
    audited["run"]["bootstrap_draws"] = draws
    hypothesis = {"attribute": "sex", "group": "", "kind": family.MEAN, "p": 0.1, "p_adjusted": 0.5}
    audited["primary"]["hypotheses"] = [hypothesis] * 11
    warnings = [text for text in summary.data_warnings(audited) if "permutations" in text]
    assert len(warnings) == is_warned and all("at least 220" in text for text in warnings)

import itertools

import pytest

from kneefair_jax.report import page
from kneefair_jax.report.text import cards
from tests.report import failed_cohort


def by_title(report) -> dict[str, cards.Card]:
    return {card.title: card for card in cards.cards(page.plain(report))}


def test_a_significant_gap_comes_first_and_names_the_lowest_group(audited):
    first = cards.cards(page.plain(audited))[0]
    assert first.title == "sex" and first.is_significant and first.verdict == "Gap 0.021, significant"
    assert "female" in first.lowest and "(n = 40)" in first.lowest
    assert [group.label for group in first.groups if group.is_significant] == ["female"]


def test_gaps_that_are_not_significant_are_not_marked(audited):
    shown = by_title(audited)
    assert (
        shown["race"].verdict.endswith(", not significant")
        and shown["age"].verdict == "Equivalent within ±0.020"
    )
    assert not any(group.is_significant for name in ("race", "age") for group in shown[name].groups)


def test_groups_too_small_to_rank_are_shown_and_never_the_lowest(report, audited):
    for one in (report, audited):
        one["scores"]["dice"]["groups"]["age=missing"]["mean"] = 0.5
        card = by_title(one)["age"]
        unranked = [group for group in card.groups if group.unranked]
        assert "missing" in [group.label for group in unranked]
        assert not any(group.label in card.lowest for group in unranked)


def test_all_cards_share_one_axis_that_holds_every_mean(audited):
    shown = cards.cards(page.plain(audited))
    axis = cards.axis(shown)
    means = [group.mean for card in shown for group in card.groups if group.mean is not None]
    assert axis is not None and axis.low < min(means) and max(means) < axis.high
    assert axis.percent(axis.low) == 0 and axis.percent(axis.high) == 100 == axis.percent(axis.high + 1)
    assert 1 <= len(axis.ticks) <= 5 and all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert axis.cut_ends([axis.low, axis.high]) == []


@pytest.mark.parametrize(
    ("means", "labels"),
    [
        ((0.0, 4.0), ["0", "2", "4"]),
        ((0.92, 0.98), ["0.92", "0.96"]),
        ((0.85, 0.87), ["0.85", "0.86", "0.87"]),
        ((0.9982, 0.9991), ["0.998", "0.999"]),
        ((0.8499999, 0.8500004), ["0.8495", "0.8505"]),
        ((1.0, 118.0), ["0", "50", "100"]),
    ],
)
def test_the_labels_of_the_axis_differ_and_do_not_overlap(audited, means, labels):
    card = cards.cards(page.plain(audited))[0]
    groups = [card.groups[0]._replace(mean=mean, interval=None, unranked=None) for mean in means]
    axis = cards.axis([card._replace(groups=groups)])
    assert axis is not None and [f"{tick:.{axis.decimals}f}" for tick in axis.ticks] == labels
    # Digits of 11.5 pixels are at most 6.9 wide, and the narrowest axis has 83 pixels.
    positions = [83 * axis.percent(tick) / 100 for tick in axis.ticks]
    assert all(b - a > 6.5 * max(map(len, labels)) for a, b in itertools.pairwise(positions))


def test_a_long_interval_does_not_hide_the_differences(audited):
    audited["scores"]["dice"]["groups"]["sex=female"]["interval"] = [0.0, 0.93]
    axis = cards.axis(cards.cards(page.plain(audited)))
    assert axis is not None and axis.low > 0.8 and axis.cut_ends([0.0, 0.93]) == ["low"]


def test_an_interval_that_continues_beyond_the_high_end_is_marked_there(audited):
    groups = audited["scores"]["dice"]["groups"]
    groups["sex=female"]["interval"] = [0.92, 30.0]
    groups["sex=male"]["interval"] = [-30.0, 30.0]
    html = page.summary_page(page.plain(audited))
    assert html.count('class="whisker cut-high"') == 1
    assert html.count('class="whisker cut-low cut-high"') == 1


def test_failures_that_differ_are_significant_and_marked(report):
    rates = failed_cohort.rates(failed_cohort.cases(8))
    report["cohort"]["attributes"] = ["sex"]
    report["rates"] = rates
    groups = report["scores"]["dice"]["groups"]
    report["scores"]["dice"]["groups"] = {name: groups[name] for name in ("sex=female", "sex=male")}
    (card,) = cards.cards(page.plain(report))
    assert card.is_significant and any("Failure rates differ" in text for text in card.remarks)
    assert [group.label for group in card.groups if group.failed_significantly] == ["female"]
    assert card.groups[0].failed == "8 of 30 (27 %)"


def state_margin(report):
    """State a margin within which equivalence by race is not shown."""
    summaries = report["scores"]["dice"]["summaries"]
    summaries["race"]["equivalence"] = summaries["age"]["equivalence"] | {"equivalent": False}


@pytest.mark.parametrize(
    ("mean", "equivalence", "numbers"),
    [
        (100, 400, ["gap of 0.015", "n = 100 in female and 150 in male", "now 40 and 60; 80 % power"]),
        (30, 100, ["Equivalence within ±0.015", "n = 100 in female and 150 in male"]),
        (30, None, ["Equivalence within ±0.015", "n > 100,000 in female"]),
        (None, None, ["gap of 0.015", "n > 100,000 in female"]),
        (30, 40, []),
    ],
)
def test_the_required_patients_of_an_open_gap(audited, mean, equivalence, numbers):
    needed = {
        "margin": 0.015,
        "failure_rate": 0.0,
        "ratio": 1.5,
        "power": 0.8,
        "level": 0.05,
        "equivalence_level": 0.05,
        "mean": mean,
        "equivalence": equivalence,
    }
    groups = ["race=female", "race=male"]
    state_margin(audited)
    audited["power"] = {"race": {"groups": groups, "patients": [40, 60], "needed": needed}}
    sentences = [text for text in by_title(audited)["race"].remarks if "needs" in text]
    assert len(sentences) == bool(numbers)
    assert all(number in sentence for sentence in sentences for number in [*numbers, "80 % power"])


def test_equivalence_is_not_promised_with_a_group_too_small_to_rank_or_without_a_margin(audited):
    needed = {"margin": 0.015, "ratio": 1.5, "mean": 30, "equivalence": 100, "failure_rate": 0.02}
    needed |= {"power": 0.8, "level": 0.05, "equivalence_level": 0.05}
    audited["power"] = {
        "race": {"groups": ["race=female", "race=male"], "patients": [40, 60], "needed": needed}
    }
    state_margin(audited)
    groups = audited["scores"]["dice"]["groups"]
    for entries in (groups, audited["rates"]["endpoints"]["failure"]["groups"]):
        entries["race=asian"] = entries["sex=female"] | {"ranked": False, "patients": 4}
    (text,) = [text for text in by_title(audited)["race"].remarks if "quivalence" in text]
    assert "cannot be shown" in text and "4 patients" in text and "needs" not in text
    audited["scores"]["dice"]["summaries"]["race"]["equivalence"] = None
    assert not any("quivalence" in text for text in by_title(audited)["race"].remarks)


def test_the_axis_of_equal_means_has_a_length(audited):
    card = cards.cards(page.plain(audited))[0]
    equal = [group._replace(mean=1.0, interval=(1.0, 1.0)) for group in card.groups]
    axis = cards.axis([card._replace(groups=equal)])
    assert axis is not None and axis.low < 1 < axis.high and axis.ticks


def test_the_groups_of_the_tested_gap_are_named_where_failures_reverse_it(audited):
    """Over all patients one group is lower, by failed segmentations; without them it may be the other."""
    summary = audited["scores"]["dice"]["summaries"]["race"]
    pair = summary["pairs"][0]
    first, second = pair["first"], pair["second"]
    pair["difference"] = -0.007
    summary["gap_without_failures"]["value"] = 0.007
    summary["gap"]["value"] = 0.11
    for first_is_worse, sign in ((True, -1), (False, 1)):
        pair["difference"] = sign * 0.007
        (remark,) = [text for text in by_title(audited)["race"].remarks if "0.110" in text]
        worse, better = (first, second) if first_is_worse else (second, first)
        assert f"({worse.split('=')[1]} worse than {better.split('=')[1]})" in remark
    assert "all patients" in by_title(audited)["race"].lowest
    assert "all patients" not in by_title(audited)["sex"].lowest

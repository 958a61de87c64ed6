"""Describe failure rates by group in sentences, and name endpoints."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kneefair_jax.fairness import family
from kneefair_jax.fairness.patient_table import LOWER_IS_BETTER
from kneefair_jax.groups import is_missing
from kneefair_jax.report.schema import Report
from kneefair_jax.report.text.formatting import (
    TITLES,
    AttributeGroups,
    amount,
    attribute_groups,
    count,
    group_title,
    listing,
    number,
    p_equals,
    percent,
    percent_interval,
    score_title,
)

LEVEL = family.LEVEL
_HOLM = " after Holm's correction"


def endpoint_title(name: str, endpoint: Mapping[str, Any]) -> str:
    """Return the title of an endpoint: `failed (Dice < 0.5)`, `absent prediction`, `Dice ≥ 0.9`, `HD95 ≤ 5 mm`."""
    if name == "absent":
        return "absent prediction"
    title, _, unit = TITLES[endpoint["score"]].partition(", ")
    limit = f"{endpoint['threshold']:g}{f' {unit}' if unit else ''}"
    if name == "failure":
        return f"failed ({title} < {limit})"
    return f"{title} {'≤' if '<=' in name else '≥'} {limit}"


def sentences(report: Report) -> list[str]:
    """Describe the failure rate of each group and whether groups differ; attributes that differ come first.

    Further sentences name groups that are too small to rank and differ from all other patients, in failure rate or in
    the primary score.
    """
    rates, attributes = report["rates"], report["cohort"]["attributes"]
    failure = rates["endpoints"]["failure"]
    definition = f" (Dice below {rates['failure_dice']:g} in any structure)"
    by_attribute = [g for g in attribute_groups(failure["groups"], attributes) if g.key in attributes]
    if not failure["count"]:
        return [*_without_failures(failure, definition, by_attribute), *_small_means(report)]
    if not by_attribute:
        share = _share({"count": failure["count"], "rate": failure["overall"]})
        return [f"Failed segmentations{definition} occur in {share}."]
    differing = [groups for groups in by_attribute if differs(report, groups.key)]
    similar = [groups for groups in by_attribute if groups not in differing]
    # The first sentence has the definition of a failure.
    texts = [_sentence(groups, failure, "" if k else definition) for k, groups in enumerate(differing)]
    texts += _small_failures(report, "" if texts else definition)
    texts += [
        _sentence(groups, failure, definition if not (k or texts) else "") for k, groups in enumerate(similar)
    ]
    return [*texts, *_small_means(report)]


def differs(report: Report, attribute: str) -> bool:
    """Return whether the failure rates of an attribute's ranked groups differ significantly."""
    return _verdict(report["rates"]["endpoints"]["failure"]["comparisons"][attribute]) == "differ"


def groups_with_more_failures(report: Report, attribute: str) -> set[str]:
    """Return the groups of an attribute whose failure rate is significantly higher than another group's, or others'."""
    comparison = report["rates"]["endpoints"]["failure"]["comparisons"][attribute]
    names = {
        name
        for name, test in comparison["unranked"].items()
        if _is_significant_pair(test) and (test["estimate"] or 0) > 0
    }
    if _verdict(comparison) == "differ":
        significant = [pair for pair in comparison["pairs"] if _is_significant_pair(pair["difference"])]
        names |= {
            pair["first"] if (pair["difference"]["estimate"] or 0) > 0 else pair["second"]
            for pair in significant
        }
    return names


def small_groups_below(report: Report, attribute: str) -> set[str]:
    """Return the groups too small to rank whose mean primary score is significantly worse than all other patients'."""
    score = family.from_report(report).score
    tests = report["rates"]["small_groups"][score].get(attribute, {})
    sign = -1 if score in LOWER_IS_BETTER else 1
    return {
        name for name, test in tests.items() if _is_significant(test) and sign * (test["estimate"] or 0.0) < 0
    }


def attribute_sentences(report: Report, groups: AttributeGroups) -> list[str]:
    """Describe significant differences in failure rate by one attribute, and its small groups that differ."""
    texts = []
    if differs(report, groups.key):
        comparison = report["rates"]["endpoints"]["failure"]["comparisons"][groups.key]
        p = comparison["test"]["p_adjusted"] if comparison["test"] else None
        p_text = f"{p_equals(p)}{_HOLM}"
        pairs = [
            _higher_and_lower(pair, groups)
            for pair in comparison["pairs"]
            if _is_significant_pair(pair["difference"])
        ]
        difference = f"are more frequent in {listing(pairs)}" if pairs else "differ in frequency"
        texts.append(f"Failed segmentations {difference} ({p_text}).")
    return [*texts, *_small_failures(report, "", groups.key), *_small_means(report, groups.key)]


def _without_failures(
    failure: Mapping[str, Any], definition: str, by_attribute: Sequence[AttributeGroups]
) -> list[str]:
    """State that no segmentation failed, and the upper end of the interval in the smallest group of any attribute."""
    rates = {
        f"In the smallest group, {groups.title} {label}": failure["groups"][name]["rate"]
        for groups in by_attribute
        for name, label in groups.labels.items()
        if not is_missing(name) and failure["groups"][name]["rate"]["n"]
    } or {"Among all patients": failure["overall"]}
    group = min(rates, key=lambda text: rates[text]["n"])
    if not rates[group]["n"]:
        return ["No segmentation has a known Dice, so failures cannot be counted."]
    return [
        f"No segmentation failed{definition}.",
        f"{group} ({amount(rates[group]['n'], 'patient')}), the 95 % interval of the failure rate reaches up to "
        f"{percent(rates[group]['interval'][1])}.",
    ]


def _verdict(comparison: Mapping[str, Any]) -> str:
    """Return the verdict on a comparison of failure rates.

    It is `untested`, `exploratory` (outside the primary family), `open` (no significant difference), `unclear` (test
    and interval disagree), or `differ`.
    """
    if comparison["test"] is None:
        return "untested"
    if comparison["test"]["p_adjusted"] is None:
        return "exploratory"
    if comparison["test"]["p_adjusted"] >= LEVEL:
        return "open"
    pairs = comparison["pairs"]
    return "unclear" if len(pairs) == 1 and not _is_significant_pair(pairs[0]["difference"]) else "differ"


def _sentence(groups: AttributeGroups, failure: Mapping[str, Any], definition: str) -> str:
    """Describe the failure rate of each group of an attribute, and whether the groups differ."""
    entries = {
        name: entry
        for name in groups.labels
        if (entry := failure["groups"][name])["rate"]["n"] and (entry["count"] or not is_missing(name))
    }
    shares = {name: f"{groups.labels[name]} {_share(entry)}" for name, entry in entries.items()}
    ranked = [text for name, text in shares.items() if entries[name]["ranked"]]
    # The test does not include groups that are not ranked.
    unranked = [text for name, text in shares.items() if not entries[name]["ranked"]]
    rates = (
        f"{listing(ranked or unranked)}{f' (not ranked: {listing(unranked)})' if ranked and unranked else ''}"
    )
    comparison = failure["comparisons"][groups.key]
    verdict = _verdict(comparison)
    if verdict == "untested":
        return f"Failed segmentations{definition} by {groups.title}: {rates}; the groups are too small to compare."
    if verdict == "exploratory":
        return f"Failed segmentations{definition} by {groups.title}, exploratory: {rates}."
    p_text = f"{p_equals(comparison['test']['p_adjusted'])}{_HOLM}"
    if verdict == "open":
        return (
            f"The rate of failed segmentations{definition} does not differ significantly by {groups.title}: {rates}; "
            f"{p_text}."
        )
    if verdict == "unclear":
        return (
            f"It is unclear whether the rate of failed segmentations{definition} differs by {groups.title}: {rates}; "
            f"the exact test rejects equal rates ({p_text}), but the interval of the difference includes zero."
        )
    pair_texts = [
        _higher_and_lower(pair, groups)
        for pair in comparison["pairs"]
        if _is_significant_pair(pair["difference"])
    ]
    if not pair_texts:
        return (
            f"The rate of failed segmentations{definition} differs significantly by {groups.title} ({p_text}), but no "
            f"single pair of groups does: {rates}."
        )
    return (
        f"Failed segmentations{definition} are more frequent in {listing(pair_texts)}: {rates}; the difference by "
        f"{groups.title} is statistically significant ({p_text})."
    )


def _is_significant_pair(difference: Mapping[str, Any]) -> bool:
    """Return whether a pair's corrected p value is below the level and its interval excludes zero."""
    lower, upper = difference["interval_adjusted"] or difference["interval"]
    return _is_significant(difference) and not lower <= 0 <= upper


def _is_significant(test: Mapping[str, Any]) -> bool:
    """Return whether a test of the primary family rejects; tests outside the family have no corrected p."""
    return test["p_adjusted"] is not None and test["p_adjusted"] < LEVEL


def _higher_and_lower(pair: Mapping[str, Any], groups: AttributeGroups) -> str:
    """Return `female than in male`, the group with the higher failure rate first."""
    names = [groups.labels[pair["first"]], groups.labels[pair["second"]]]
    higher, lower = names if pair["difference"]["estimate"] > 0 else reversed(names)
    return f"{higher} than in {lower}"


def _small_failures(report: Report, definition: str, attribute: str | None = None) -> Iterator[str]:
    """Yield a sentence for each group too small to rank whose failure rate differs from all other patients'."""
    attributes = report["cohort"]["attributes"]
    failure = report["rates"]["endpoints"]["failure"]
    for key, comparison in failure["comparisons"].items():
        for name, test in comparison["unranked"].items():
            if _is_significant_pair(test) and attribute in (None, key):
                entry = failure["groups"][name]
                direction = "more" if (test["estimate"] or 0) > 0 else "less"
                yield (
                    f"In {group_title(name, attributes)}, which is too small to rank, failed segmentations{definition} "
                    f"are {direction} frequent than in all other patients: {_share(entry)}; "
                    f"{p_equals(test['p_adjusted'])}{_HOLM}."
                )


def _small_means(report: Report, attribute: str | None = None) -> Iterator[str]:
    """Yield a sentence for each small group whose mean primary score differs from that of all other patients."""
    attributes, score = report["cohort"]["attributes"], family.from_report(report).score
    for key, tests in report["rates"]["small_groups"][score].items():
        for name, test in tests.items():
            if _is_significant(test) and attribute in (None, key):
                estimate = test["estimate"] or 0.0
                direction = "below" if estimate < 0 else "above"
                yield (
                    f"Among patients without a failed segmentation, the mean {score_title(score)} of "
                    f"{group_title(name, attributes)} ({amount(test['patients'], 'patient')}, too few to rank or to "
                    f"compare with single groups) is {number(abs(estimate))} {direction} that of all other patients "
                    f"({p_equals(test['p_adjusted'])}{_HOLM})."
                )


def _share(entry: Mapping[str, Any]) -> str:
    """Format a rate, `6 of 31 patients (19.4 %, 95 % interval 7.5 to 37.5 %)`."""
    rate = entry["rate"]
    return (
        f"{count(entry['count'])} of {amount(rate['n'], 'patient')} ({percent(rate['estimate'])}, 95 % interval "
        f"{percent_interval(rate['interval'])})"
    )

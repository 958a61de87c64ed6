"""Failed segmentations and thresholds by group, in words: the opening's sentences, and names of endpoints."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kneefair_jax import groups
from kneefair_jax.fairness import family
from kneefair_jax.report.text.formatting import (
    TITLES,
    Block,
    amount,
    blocks,
    count,
    group,
    listing,
    number,
    p_equals,
    percent,
    percents,
    score_title,
)

LEVEL = family.LEVEL
_HOLM = " after Holm's correction"


def endpoint_title(name: str, endpoint: Mapping[str, Any]) -> str:
    """`failed (Dice < 0.5)`, `absent prediction`, `Dice ≥ 0.9`, `HD95 ≤ 5 mm`."""
    if name == "absent":
        return "absent prediction"
    title, _, unit = TITLES[endpoint["score"]].partition(", ")
    limit = f"{endpoint['threshold']:g}{f' {unit}' if unit else ''}"
    if name == "failure":
        return f"failed ({title} < {limit})"
    return f"{title} {'≤' if '<=' in name else '≥'} {limit}"


def opening(report: Mapping[str, Any]) -> list[str]:
    """How many patients of each group have failed segmentations, and whether the groups differ; differences first.

    And which groups that are too small to rank differ from all other patients, in failures or in the primary score.
    """
    rates = report.get("rates")
    if not rates:
        return []
    failure, attributes = rates["endpoints"]["failure"], report["cohort"]["attributes"]
    definition = f" (Dice below {rates['failure_dice']:g} in any structure)"
    attribute_blocks = [block for block in blocks(failure["groups"], attributes) if block.key in attributes]
    small_group_sentences = list(_small_groups(rates, report))
    if not failure["count"]:
        return [_none_failed(failure, definition, attribute_blocks), *small_group_sentences]
    if not attribute_blocks:
        share = _share({"count": failure["count"], "rate": failure["overall"]})
        return [f"Failed segmentations{definition} occur in {share}."]
    attribute_blocks.sort(key=lambda block: _verdict(failure["comparisons"][block.key]) != "differ")
    return [
        _sentence(block, failure, "" if place else definition) for place, block in enumerate(attribute_blocks)
    ] + small_group_sentences


def _none_failed(failure: Mapping[str, Any], definition: str, attribute_blocks: Sequence[Block]) -> str:
    """Which failure rate remains possible, in the smallest group of any attribute."""
    rates = {
        f"in the smallest group, {block.title} {label}": failure["groups"][name]["rate"]
        for block in attribute_blocks
        for name, label in block.labels.items()
        if not groups.is_missing(name) and failure["groups"][name]["rate"]["n"]
    } or {"among all": failure["overall"]}
    where = min(rates, key=lambda text: rates[text]["n"])
    if not rates[where]["n"]:
        return "No segmentation has a known Dice, so failures cannot be counted."
    return (
        f"No segmentation failed{definition}: {where} ({amount(rates[where]['n'], 'patient')}), a failure rate of "
        f"up to {percent(rates[where]['interval'][1])} remains possible (95 % interval)."
    )


def _verdict(comparison: Mapping[str, Any]) -> str:
    """The name of what is known.

    `untested`, `exploratory` (outside the primary family), `open` (no significant difference), `unclear` (test and
    interval disagree), or `differ`.
    """
    if comparison["test"] is None:
        return "untested"
    if comparison["test"]["p_adjusted"] is None:
        return "exploratory"
    if comparison["test"]["p_adjusted"] >= LEVEL:
        return "open"
    pairs = comparison["pairs"]
    return "unclear" if len(pairs) == 1 and not _is_named(pairs[0]["difference"]) else "differ"


def _sentence(block: Block, failure: Mapping[str, Any], definition: str) -> str:
    """How many patients of each group of an attribute have failed segmentations, and whether the groups differ."""
    entries = {name: failure["groups"][name] for name in block.labels}
    shares = listing(
        f"{block.labels[name]} {_share(entry)}"
        for name, entry in entries.items()
        if entry["rate"]["n"] and (entry["count"] or not groups.is_missing(name))
    )
    comparison = failure["comparisons"][block.key]
    verdict = _verdict(comparison)
    if verdict == "untested":
        return f"Failed segmentations{definition} by {block.title}: {shares}; the groups are too small to compare."
    if verdict == "exploratory":
        return f"Failed segmentations{definition} by {block.title}, exploratory: {shares}."
    p_text = f"{p_equals(comparison['test']['p_adjusted'])}{_HOLM}"
    if verdict == "open":
        return (
            f"The rate of failed segmentations{definition} does not differ significantly by {block.title}: {shares}; "
            f"{p_text}."
        )
    if verdict == "unclear":
        return (
            f"Whether the rate of failed segmentations{definition} differs by {block.title} is unclear: {shares}; the "
            f"exact test rejects equal rates ({p_text}), and the interval of the difference includes zero."
        )
    pair_texts = [
        _more_frequent(pair, block) for pair in comparison["pairs"] if _is_named(pair["difference"])
    ]
    if not pair_texts:
        return (
            f"The rate of failed segmentations{definition} differs significantly by {block.title} ({p_text}): "
            f"{shares}; which groups differ remains open."
        )
    return (
        f"Failed segmentations{definition} are more frequent in {listing(pair_texts)}: {shares}; the difference by "
        f"{block.title} is statistically significant ({p_text})."
    )


def _is_named(difference: Mapping[str, Any]) -> bool:
    """Whether a difference has its own corrected p value below the level and an interval that excludes zero."""
    low, high = difference.get("interval_adjusted") or difference["interval"]
    return _is_significant(difference) and not low <= 0 <= high


def _is_significant(test: Mapping[str, Any]) -> bool:
    """Whether a test of the primary family rejects; those outside have no corrected p."""
    return test["p_adjusted"] is not None and test["p_adjusted"] < LEVEL


def _more_frequent(pair: Mapping[str, Any], block: Block) -> str:
    names = [block.labels[pair["first"]], block.labels[pair["second"]]]
    higher, lower = names if pair["difference"]["estimate"] > 0 else reversed(names)
    return f"{higher} than in {lower}"


def _small_groups(rates: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each group that is too small to rank and that differs from all other patients."""
    attributes = report["cohort"]["attributes"]
    failure = rates["endpoints"]["failure"]
    for comparison in failure["comparisons"].values():
        for name, test in comparison["unranked"].items():
            if _is_named(test):
                entry = failure["groups"][name]
                direction = "more" if test["estimate"] > 0 else "less"
                yield (
                    f"In {group(name, attributes)}, which is too small to rank, failed segmentations are {direction} "
                    f"frequent than in all other patients: {_share(entry)}; "
                    f"{p_equals(test['p_adjusted'])}{_HOLM}."
                )
    score = family.of_report(report).score
    for of_attribute in (rates["small_groups"].get(score) or {}).values():
        for name, test in of_attribute.items():
            if _is_significant(test):
                direction = "below" if test["estimate"] < 0 else "above"
                yield (
                    f"Among patients without a failed segmentation, the mean {score_title(score)} of "
                    f"{group(name, attributes)} ({amount(test['patients'], 'patient')}, too few to rank or to compare "
                    "with single groups) lies "
                    f"{number(abs(test['estimate']))} {direction} that of all other patients "
                    f"({p_equals(test['p_adjusted'])}{_HOLM})."
                )


def _share(entry: Mapping[str, Any]) -> str:
    """`6 of 31 patients (19.4 %, 95 % interval 7.5 to 37.5 %)`."""
    rate = entry["rate"]
    return (
        f"{count(entry['count'])} of {amount(rate['n'], 'patient')} ({percent(rate['estimate'])}, 95 % interval "
        f"{percents(rate['interval'])})"
    )

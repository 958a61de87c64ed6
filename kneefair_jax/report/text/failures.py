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
    if not failure["count"]:
        return [_none_failed(failure, definition, attribute_blocks), *_small_means(report)]
    if not attribute_blocks:
        share = _share({"count": failure["count"], "rate": failure["overall"]})
        return [f"Failed segmentations{definition} occur in {share}."]
    differing = [block for block in attribute_blocks if differs(report, block.key)]
    others = [block for block in attribute_blocks if block not in differing]
    # What differs first, and the definition in the first sentence.
    sentences = [_sentence(block, failure, "" if k else definition) for k, block in enumerate(differing)]
    sentences += _small_failures(report, "" if sentences else definition)
    sentences += [
        _sentence(block, failure, definition if not (k or sentences) else "")
        for k, block in enumerate(others)
    ]
    return [*sentences, *_small_means(report)]


def differs(report: Mapping[str, Any], attribute: str) -> bool:
    """Whether the failure rates of an attribute's ranked groups differ significantly."""
    comparisons = (
        ((report.get("rates") or {}).get("endpoints") or {}).get("failure", {}).get("comparisons", {})
    )
    return attribute in comparisons and _verdict(comparisons[attribute]) == "differ"


def of_attribute(report: Mapping[str, Any], block: Block) -> list[str]:
    """What the tests of failures and of small groups show by one attribute; nothing where they show nothing."""
    sentences = []
    if differs(report, block.key):
        comparison = report["rates"]["endpoints"]["failure"]["comparisons"][block.key]
        p_text = f"{p_equals(comparison['test']['p_adjusted'])}{_HOLM}"
        pairs = [_more_frequent(pair, block) for pair in comparison["pairs"] if _is_named(pair["difference"])]
        where = f"are more frequent in {listing(pairs)}" if pairs else "differ in frequency"
        sentences.append(f"Failed segmentations {where} ({p_text}).")
    if report.get("rates"):
        sentences += [*_small_failures(report, "", block.key), *_small_means(report, block.key)]
    return sentences


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
    entries = {
        name: entry
        for name in block.labels
        if (entry := failure["groups"][name])["rate"]["n"] and (entry["count"] or not groups.is_missing(name))
    }
    shares = {name: f"{block.labels[name]} {_share(entry)}" for name, entry in entries.items()}
    ranked = [text for name, text in shares.items() if entries[name]["ranked"]]
    # Those that the test is not about stand apart.
    unranked = [text for name, text in shares.items() if not entries[name]["ranked"]]
    shown = (
        f"{listing(ranked or unranked)}{f' (not ranked: {listing(unranked)})' if ranked and unranked else ''}"
    )
    comparison = failure["comparisons"][block.key]
    verdict = _verdict(comparison)
    if verdict == "untested":
        return f"Failed segmentations{definition} by {block.title}: {shown}; the groups are too small to compare."
    if verdict == "exploratory":
        return f"Failed segmentations{definition} by {block.title}, exploratory: {shown}."
    p_text = f"{p_equals(comparison['test']['p_adjusted'])}{_HOLM}"
    if verdict == "open":
        return (
            f"The rate of failed segmentations{definition} does not differ significantly by {block.title}: {shown}; "
            f"{p_text}."
        )
    if verdict == "unclear":
        return (
            f"Whether the rate of failed segmentations{definition} differs by {block.title} is unclear: {shown}; the "
            f"exact test rejects equal rates ({p_text}), and the interval of the difference includes zero."
        )
    pair_texts = [
        _more_frequent(pair, block) for pair in comparison["pairs"] if _is_named(pair["difference"])
    ]
    if not pair_texts:
        return (
            f"The rate of failed segmentations{definition} differs significantly by {block.title} ({p_text}): "
            f"{shown}; which groups differ remains open."
        )
    return (
        f"Failed segmentations{definition} are more frequent in {listing(pair_texts)}: {shown}; the difference by "
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


def _small_failures(
    report: Mapping[str, Any], definition: str, attribute: str | None = None
) -> Iterator[str]:
    """A sentence for each group too small to rank whose failure rate differs from that of all other patients."""
    attributes = report["cohort"]["attributes"]
    failure = report["rates"]["endpoints"]["failure"]
    for key, comparison in failure["comparisons"].items():
        for name, test in comparison["unranked"].items():
            if _is_named(test) and attribute in (None, key):
                entry = failure["groups"][name]
                direction = "more" if test["estimate"] > 0 else "less"
                yield (
                    f"In {group(name, attributes)}, which is too small to rank, failed segmentations{definition} are "
                    f"{direction} frequent than in all other patients: {_share(entry)}; "
                    f"{p_equals(test['p_adjusted'])}{_HOLM}."
                )


def _small_means(report: Mapping[str, Any], attribute: str | None = None) -> Iterator[str]:
    """A sentence for each small group whose mean of the primary score differs from that of all other patients."""
    attributes, score = report["cohort"]["attributes"], family.from_report(report).score
    for key, of_attribute in (report["rates"]["small_groups"].get(score) or {}).items():
        for name, test in of_attribute.items():
            if _is_significant(test) and attribute in (None, key):
                direction = "below" if test["estimate"] < 0 else "above"
                yield (
                    f"Among patients without a failed segmentation, the mean {score_title(score)} of "
                    f"{group(name, attributes)} ({amount(test['patients'], 'patient')}, too few to rank or to compare "
                    f"with single groups) lies {number(abs(test['estimate']))} {direction} that of all other patients "
                    f"({p_equals(test['p_adjusted'])}{_HOLM})."
                )


def _share(entry: Mapping[str, Any]) -> str:
    """`6 of 31 patients (19.4 %, 95 % interval 7.5 to 37.5 %)`."""
    rate = entry["rate"]
    return (
        f"{count(entry['count'])} of {amount(rate['n'], 'patient')} ({percent(rate['estimate'])}, 95 % interval "
        f"{percents(rate['interval'])})"
    )

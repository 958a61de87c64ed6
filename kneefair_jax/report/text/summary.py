"""The report's first paragraphs: what was tested, on whom, and which of the gaps are significant."""

from collections.abc import Iterable, Sequence
from typing import Any

from kneefair_jax.fairness import family
from kneefair_jax.fairness.patient_table import LOWER_IS_BETTER
from kneefair_jax.report.text import failures, findings, power
from kneefair_jax.report.text.findings import Verdict
from kneefair_jax.report.text.formatting import (
    amount,
    audited,
    blocks,
    by_group,
    delta,
    estimate,
    interval_ends,
    listing,
    number,
    p_equals,
    score_title,
    segmentation_of,
)


def judged(report: dict[str, Any]) -> list[Verdict]:
    """The verdict on every attribute."""
    score = family.from_report(report).score
    scores, attributes = report["scores"][score], report["cohort"]["attributes"]
    return [
        findings.judge(block, scores, lower_is_better=score in LOWER_IS_BETTER)
        for block in blocks(scores["groups"], attributes)
        if block.key in attributes
    ]


def opening(report: dict[str, Any]) -> list[str]:
    """Return the paragraphs that a reader in a hurry reads: the cohort, failures, significant gaps, what stays open."""
    verdicts, title = judged(report), score_title(family.from_report(report).score)
    tested, mean = _tested(report, title)
    small_groups = (
        f"Groups of fewer than {report['cohort']['min_group_patients']} patients, and patients whose attribute is "
        "missing, are shown but not ranked."
    )
    paragraphs = [
        [tested],
        failures.opening(report),
        [mean, *_gaps(verdicts, title), *_interactions(report)],
        [
            *_not_known(verdicts, report, title),
            *_equal(verdicts, title),
            *_exploratory(verdicts),
            small_groups,
        ],
    ]
    return [" ".join(sentences) for sentences in paragraphs if sentences]


def details(report: dict[str, Any]) -> list[str]:
    """One paragraph for each attribute: its numbers, its test, what size explains."""
    score = family.from_report(report).score
    means, smallest = report["scores"][score]["groups"], report["cohort"]["min_group_patients"]
    title = score_title(score)
    return [
        " ".join(
            [
                *findings.sentences(v, means, title, smallest, _detectable_failures(report, v)),
                *failures.of_attribute(report, v.block),
            ]
        )
        for v in judged(report)
    ]


def _detectable_failures(report: dict[str, Any], verdict: Verdict) -> str | None:
    """The failure rate that would be found; none where a difference was found."""
    key = verdict.block.key
    return None if failures.differs(report, key) else power.detectable_failures(report, key)


def _tested(report: dict[str, Any], title: str) -> list[str]:
    scores, cohort = report["scores"], report["cohort"]
    mean, tested = scores[family.from_report(report).score]["overall"], scores["dice"]["overall"]
    model, grouped = audited(report), by_group(scores["dice"], cohort["attributes"])
    return [
        f"{segmentation_of(cohort['structures'])}{f' by {model}' if model else ''} was tested on "
        f"{amount(tested['cases'], 'case')} of {amount(tested['patients'], 'patient')}"
        f"{f': by {listing(grouped)}' if grouped else ''}.",
        f"The mean {title} over structures is {estimate(mean['mean'], mean['interval'])}.",
    ]


def _gaps(verdicts: Sequence[Verdict], title: str) -> list[str]:
    """The gaps that are significant, and whether size explains them."""
    significant = [v for v in verdicts if v.kind == "significant"]
    sentences = []
    if significant:
        gaps = listing(f"by {_title(v)} ({findings.better(v)})" for v in significant)
        sentences.append(
            f"Among patients without a failed segmentation, the {_gap(significant)} in mean {title} {gaps} "
            f"{_is(significant)} statistically significant."
        )
        for size, words in (
            ("consistent", "Size alone may explain {}: the errors are consistent with it."),
            ("more", "Size alone does not explain {}."),
            ("less", "Size alone would give more than {}."),
        ):
            if some := [v for v in significant if v.size == size]:
                sentences.append(
                    words.format("it" if len(significant) == 1 else f"the {_gap(some)} {_by(some)}")
                )
    elif any(v.kind == "open" for v in verdicts) and not any(v.kind == "unlocated" for v in verdicts):
        sentences.append(
            f"Among patients without a failed segmentation, no gap in mean {title} between ranked groups is "
            "statistically significant."
        )
    if unlocated := [v for v in verdicts if v.kind == "unlocated"]:
        sentences.append(
            f"Among patients without a failed segmentation, groups differ significantly in mean {title} "
            f"{_by(unlocated)}; which ones is open."
        )
    for v in (v for v in verdicts if v.kind == "untested"):
        ends = v.summary["gap"].get("interval")
        may_be_zero = " and may be zero" if ends and ends[0] is not None and ends[0] <= 0 else ""
        sentences.append(
            f"By {_title(v)} the gap is {estimate(v.gap, ends)}{may_be_zero} ({findings.better(v)}); it was not tested."
        )
    return sentences


def _not_known(verdicts: Sequence[Verdict], report: dict[str, Any], title: str) -> list[str]:
    """The gaps that this sample cannot tell from zero, and those that it could not have seen."""
    sentences = []
    opened = [v for v in verdicts if v.kind == "open" and v.equivalence != "equivalent"]
    if opened:
        sentences.append(
            f"With this sample size the {_gap(opened)} in mean {title} {_by(opened)} {_is(opened)} not distinguishable "
            "from zero."
        )
    if seen := [v for v in opened if v.summary.get("detectable") is not None]:
        least = listing(f"{number(v.summary['detectable'])} by {_title(v)}" for v in seen)
        rates = [text for v in seen if (text := _detectable_failures(report, v))]
        sentences.append(
            f"That is not equality: a single test, uncorrected, would find with 80 % power gaps of {least} or more"
            f"{f', and {listing(rates)}' if rates else ''}."
        )
    if few := [v for v in verdicts if v.kind == "unranked"]:
        sentences.append(f"Too few patients for any comparison: {_by(few)}.")
    return sentences


def _equal(verdicts: Sequence[Verdict], title: str) -> list[str]:
    """Which groups were shown to be equivalent in the mean, and that none were though a margin was given."""
    with_margin = [v for v in verdicts if v.equivalence and v.kind != "exploratory"]
    if not with_margin:
        return []
    margin = delta(with_margin[0].summary["equivalence"]["delta"])
    sentences = []
    if equal := [v for v in with_margin if v.equivalence == "equivalent"]:
        sentences.append(f"The groups {_by(equal)} are equivalent in mean {title} within ±{margin}.")
    if small := [v for v in with_margin if v.equivalence == "small"]:
        sentences.append(f"The {_gap(small)} {_by(small)} {_is(small)} small, within ±{margin}.")
    return sentences or [f"No groups are shown to be equivalent in mean {title} within ±{margin}."]


def _interactions(report: dict[str, Any]) -> list[str]:
    """Where one attribute's gap depends on another, beyond what both attributes explain alone."""
    sentences = []
    for key, by_score in (report.get("interactions") or {}).items():
        entry = by_score.get(family.from_report(report).score) or {}
        if entry.get("p_holm") is None or entry["p_holm"] >= findings.LEVEL:
            continue
        first, _, second = key.partition(",")
        reached = f"{p_equals(entry['p_holm'])} after Holm's correction"
        ends = entry.get("interval_adjusted")
        if not ends:
            sentences.append(f"The gap by {first} depends on {second} ({reached}); in which groups is open.")
        elif ends[0] > 0 or ends[1] < 0:
            sentences.append(
                f"The gap by {first} depends on {second}: interaction {number(entry['contrast'])} ({reached}, interval "
                f"{' to '.join(interval_ends(ends) or ())})."
            )
    return sentences


def _exploratory(verdicts: Sequence[Verdict]) -> list[str]:
    """The attributes outside the primary family, of which nothing is claimed."""
    outside = [v for v in verdicts if v.kind == "exploratory"]
    return [f"Groups {_by(outside)} are exploratory: no claim is made about them."] if outside else []


def _by(verdicts: Iterable[Verdict]) -> str:
    return listing(f"by {_title(v)}" for v in verdicts)


def _title(verdict: Verdict) -> str:
    return verdict.block.title


def _gap(verdicts: Sequence[Verdict]) -> str:
    return "gap" if len(verdicts) == 1 else "gaps"


def _is(verdicts: Sequence[Verdict]) -> str:
    return "is" if len(verdicts) == 1 else "are"

"""Write the report's first paragraphs: the tested cohort, the significant gaps, and the gaps that remain open."""

from collections.abc import Iterable, Sequence

from kneefair_jax.fairness import family
from kneefair_jax.fairness.patient_table import LOWER_IS_BETTER
from kneefair_jax.groups import is_missing
from kneefair_jax.report.schema import Report
from kneefair_jax.report.text import failures, findings, power
from kneefair_jax.report.text.findings import Verdict
from kneefair_jax.report.text.formatting import (
    amount,
    attribute_groups,
    audited_model,
    bootstrap_draws,
    count,
    estimate,
    group_sizes,
    interval_ends,
    listing,
    margin_value,
    number,
    p_equals,
    score_title,
    segmentation_title,
)

_OTHER_SPLIT = "another split"  # no defect of the data
_MOST_LEVELS = 5  # of an attribute, in the sentence on cases that are not tested
_AMONG = "Among patients without a failed segmentation"


def verdicts(report: Report) -> list[Verdict]:
    """Return the verdict on every attribute, in the primary score."""
    score = family.from_report(report).score
    scores, attributes = report["scores"][score], report["cohort"]["attributes"]
    return [
        findings.judge(groups, scores, lower_is_better=score in LOWER_IS_BETTER)
        for groups in attribute_groups(scores["groups"], attributes)
        if groups.key in attributes
    ]


def paragraphs(report: Report) -> list[str]:
    """Return the report's first paragraphs: the cohort, failures, significant gaps, and gaps that remain open."""
    judged, title = verdicts(report), score_title(family.from_report(report).score)
    cohort, mean = _cohort(report, title)
    small_groups = (
        f"Groups of fewer than {report['cohort']['min_group_patients']} patients, and patients whose attribute is "
        "missing, are shown but not ranked."
    )
    sentences = [
        [cohort],
        failures.sentences(report),
        [mean, *_gaps(judged, title), *_interactions(report)],
        [
            *_open_gaps(judged, report, title),
            *_equivalence(judged, title),
            *_exploratory(judged),
            *([small_groups] if report["cohort"]["attributes"] else []),
        ],
    ]
    return [" ".join(paragraph) for paragraph in sentences if paragraph]


def origin(report: Report) -> str:
    """Return one sentence: who was tested, on what, by which model, when, by whom, from which files."""
    run, cohort = report["run"], report["cohort"]
    tested, model = report["scores"]["dice"]["overall"], audited_model(report)
    if model and "models" in report:
        model = listing(report["models"]["order"])
    config = run.get("config") or {}
    network = (config.get("model") or {}).get("name")
    by_model = (
        f" by {model}" if model else f" by a {network} ({run.get('model')} checkpoint)" if network else ""
    )
    day = f" on {run['date']}" if run.get("date") else ""
    author = run.get("author") or (config.get("report") or {}).get("author")
    files = [f"{name} (SHA-256 {digest[:12]})" for name, digest in (run.get("inputs") or {}).items()]
    if not files and run.get("fingerprint"):
        files = [f"data {run['fingerprint'][:12]}"]
    version = (run.get("versions") or {}).get("kneefair_jax")
    software = f"kneefair_jax {version}" if version else ""
    sources = "; ".join(text for text in (", ".join(files), software) if text)
    return (
        f"{segmentation_title(cohort['structures'])}{by_model}, tested on {amount(tested['patients'], 'patient')} "
        f"({amount(tested['cases'], 'case')}){day}{f' by {author}' if author else ''}"
        f"{f'; {sources}' if sources else ''}."
    )


def data_warnings(report: Report) -> list[str]:
    """Return short sentences: the warnings of an audit, cases excluded by reason and group, too few permutations."""
    return [
        *report["cohort"].get("warnings", []),
        *_excluded(report),
        *_not_tested(report),
        *_few_permutations(report),
    ]


def _few_permutations(report: Report) -> Iterable[str]:
    """Yield a sentence if no gap can be significant: the smallest p of B permutations is 1 / (B + 1)."""
    draws, hypotheses = bootstrap_draws(report), report["primary"]["hypotheses"]
    smallest = len(hypotheses) / (draws + 1) if draws else 0.0
    if smallest >= family.LEVEL and any(entry["kind"] == family.MEAN for entry in hypotheses):
        needed = round(len(hypotheses) / family.LEVEL)
        yield (
            f"{draws:,} permutations are too few for {count(len(hypotheses))} hypotheses: no gap in means can be "
            f"significant; at least {needed:,} are needed (--draws, or report.bootstrap_draws)."
        )


def attribute_paragraphs(report: Report) -> list[str]:
    """Return one paragraph for each attribute: its numbers, its test, and the effect of structure size."""
    score = family.from_report(report).score
    means, smallest = report["scores"][score]["groups"], report["cohort"]["min_group_patients"]
    title = score_title(score)
    return [
        " ".join(
            [
                *findings.sentences(verdict, means, title, smallest, _detectable_failures(report, verdict)),
                *failures.attribute_sentences(report, verdict.groups),
            ]
        )
        for verdict in verdicts(report)
    ]


def _detectable_failures(report: Report, verdict: Verdict) -> str | None:
    """Return the detectable failure rate; None where failure rates differ significantly."""
    key = verdict.groups.key
    return None if failures.differs(report, key) else power.detectable_failures(report, key)


def _cohort(report: Report, title: str) -> tuple[str, str]:
    """Return a sentence on the tested cohort, and one on the mean score."""
    scores, cohort = report["scores"], report["cohort"]
    mean, tested = scores[family.from_report(report).score]["overall"], scores["dice"]["overall"]
    model, sizes = audited_model(report), group_sizes(scores["dice"], cohort["attributes"])
    return (
        f"{segmentation_title(cohort['structures'])}{f' by {model}' if model else ''} was tested on "
        f"{amount(tested['cases'], 'case')} of {amount(tested['patients'], 'patient')}"
        f"{f', grouped by {listing(sizes)}' if sizes else ''}.",
        f"The mean {title} over structures is {estimate(mean['mean'], mean['interval'])}.",
    )


def _gaps(judged: Sequence[Verdict], title: str) -> list[str]:
    """Name the significant gaps and the effect of size on them, or state that there are none."""
    significant = [v for v in judged if v.kind == "significant"]
    unlocated = [v for v in judged if v.kind == "unlocated"]
    sentences = []
    if significant:
        gaps = listing(f"by {_title(v)} ({findings.describe_pairs(v)})" for v in significant)
        sentences.append(
            f"{_AMONG}, the {_gap(significant)} in mean {title} {gaps} {_is(significant)} statistically significant."
        )
        sentences += _size_effects(significant)
    elif any(v.kind == "open" for v in judged) and not unlocated:
        sentences.append(
            f"{_AMONG}, no gap in mean {title} between ranked groups is statistically significant."
        )
    if unlocated:
        sentences.append(
            f"{_AMONG}, groups differ significantly in mean {title} {_by(unlocated)}, but no single pair of groups "
            "does."
        )
    for verdict in (v for v in judged if v.kind == "untested"):
        ends = verdict.summary["gap"]["interval"]
        includes_zero = (
            ", and its interval includes zero" if ends and ends[0] is not None and ends[0] <= 0 else ""
        )
        sentences.append(
            f"The gap by {_title(verdict)} is {estimate(verdict.gap, ends)}, {findings.describe_pairs(verdict)}. "
            f"It was not tested{includes_zero}."
        )
    return sentences


def _size_effects(significant: Sequence[Verdict]) -> list[str]:
    """State for the significant gaps whether structure size alone explains them."""
    sentences = []
    for size, text in (
        ("consistent", "Structure size alone can explain {}."),
        ("more", "Structure size alone does not explain {}."),
        ("less", "Structure size alone would give a larger difference than {}."),
    ):
        if gaps := [v for v in significant if v.size == size]:
            name = "this gap" if len(significant) == 1 else f"the {_gap(gaps)} {_by(gaps)}"
            sentences.append(text.format(name))
    return sentences


def _open_gaps(judged: Sequence[Verdict], report: Report, title: str) -> list[str]:
    """Name the gaps that are not distinguishable from zero, and the differences that the tests can detect."""
    sentences = []
    gaps = [v for v in judged if v.kind == "open" and v.equivalence != "equivalent"]
    if gaps:
        sentences.append(
            f"With this sample size the {_gap(gaps)} in mean {title} {_by(gaps)} {_is(gaps)} not distinguishable "
            "from zero."
        )
    if detectable := [v for v in gaps if v.summary["detectable"] is not None]:
        smallest = listing(f"{number(v.summary['detectable'])} by {_title(v)}" for v in detectable)
        sentences.append(
            f"This does not show equality: a single uncorrected test has 80 % power to detect a gap of at least "
            f"{smallest}."
        )
        if rates := [text for v in detectable if (text := _detectable_failures(report, v))]:
            sentences.append(f"The test of failure rates detects {listing(rates)}.")
    if unranked := [v for v in judged if v.kind == "unranked"]:
        sentences.append(f"There are too few patients to compare groups {_by(unranked)}.")
    return sentences


def _equivalence(judged: Sequence[Verdict], title: str) -> list[str]:
    """Name the attributes whose groups are equivalent within the margin, or state that there are none."""
    with_margin = [v for v in judged if v.equivalence and v.kind != "exploratory"]
    if not with_margin:
        return []
    margin = margin_value(with_margin[0].summary["equivalence"]["delta"])
    sentences = []
    if equivalent := [v for v in with_margin if v.equivalence == "equivalent"]:
        sentences.append(f"Mean {title} is equivalent across groups {_by(equivalent)} within ±{margin}.")
    if small := [v for v in with_margin if v.equivalence == "small"]:
        verb = "lies" if len(small) == 1 else "lie"
        sentences.append(f"The {_gap(small)} {_by(small)} {verb} within the equivalence margin of ±{margin}.")
    return sentences or [f"Equivalence in mean {title} within ±{margin} is not shown for any attribute."]


def _interactions(report: Report) -> list[str]:
    """Name the significant interactions: gaps by one attribute that depend on another."""
    sentences = []
    for key, by_score in report["interactions"].items():
        entry = by_score.get(family.from_report(report).score)
        if not entry or entry["p_holm"] is None or entry["p_holm"] >= findings.LEVEL:
            continue
        attribute, _, moderator = key.partition(",")
        p_text = f"{p_equals(entry['p_holm'])} after Holm's correction"
        ends = entry["interval_adjusted"]
        if not ends:
            sentences.append(
                f"The gap by {attribute} depends on {moderator} ({p_text}); the test does not show in which groups."
            )
        elif ends[0] > 0 or ends[1] < 0:
            sentences.append(
                f"The gap by {attribute} depends on {moderator}: interaction {number(entry['contrast'])} ({p_text}, "
                f"interval {' to '.join(interval_ends(ends) or ())})."
            )
    return sentences


def _exploratory(judged: Sequence[Verdict]) -> list[str]:
    """Name the attributes outside the primary family."""
    exploratory = [v for v in judged if v.kind == "exploratory"]
    return [f"Comparisons {_by(exploratory)} are exploratory and support no claim."] if exploratory else []


def _by(judged: Iterable[Verdict]) -> str:
    return listing(f"by {_title(v)}" for v in judged)


def _title(verdict: Verdict) -> str:
    return verdict.groups.title


def _gap(judged: Sequence[Verdict]) -> str:
    return "gap" if len(judged) == 1 else "gaps"


def _is(judged: Sequence[Verdict]) -> str:
    return "is" if len(judged) == 1 else "are"


def _excluded(report: Report) -> list[str]:
    flow = report["cohort"]["flow"]
    records = {entry["reason"]: entry["records"] for entry in flow["excluded"] if entry["records"]}
    listed = flow["listed"] - records.pop(_OTHER_SPLIT, 0)
    total = sum(records.values())
    if not total:
        return []
    reasons = listing(
        reason if len(records) == 1 else f"{count(number)} {reason}" for reason, number in records.items()
    )
    verb = "is" if total == 1 else "are"
    folder = (
        "run" if report["run"].get("config") else "audit"
    )  # a further model's page is in a subfolder of it
    where = f"listed in the {folder}'s excluded.csv"
    return [f"{count(total)} of {amount(listed, 'case')} {verb} excluded ({reasons}; {where})."]


def _not_tested(report: Report) -> list[str]:
    """Return a sentence with the cases not tested by group, the largest share first; none without a known group."""
    counts = report["cohort"]["flow"].get("not_tested", {})
    texts = []
    for groups in attribute_groups(counts, report["cohort"]["attributes"]):
        named = [name for name in groups.labels if not is_missing(name)]
        named.sort(key=lambda name: -counts[name]["not_tested"] / counts[name]["cases"])
        if named and counts[named[0]]["not_tested"]:
            levels = [
                f"{groups.labels[name]} {count(counts[name]['not_tested'])} of {count(counts[name]['cases'])}"
                for name in named[:_MOST_LEVELS]
            ]
            more = f" and {len(named) - _MOST_LEVELS} other groups" if len(named) > _MOST_LEVELS else ""
            texts.append(f"{groups.title} ({', '.join(levels)}{more})")
    return [f"Cases that are not tested, by group: {listing(texts)}."] if texts else []

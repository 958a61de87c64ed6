"""The methods of a report as a paragraph to cite: only what this report contains, with its references and versions."""

from collections.abc import Iterator, Sequence
from typing import Any

from kneefair_jax.fairness import family, patient_table
from kneefair_jax.report.text.failures import endpoint_title
from kneefair_jax.report.text.formatting import (
    TITLES,
    amount,
    by_group,
    confidence,
    listing,
    margin,
    number,
    score_title,
    segmentation_of,
    signed,
)

_DEFINED = {
    "dice": "Dice",
    "iou": "intersection over union (IoU)",
    "hd95_mm": "95th-percentile Hausdorff distance (HD95, mm)",
    "assd_mm": "average symmetric surface distance (ASSD, mm)",
    "nsd": "normalised surface Dice (NSD){tolerance}",
}
_REFERENCES = {
    "metrics": "Maier-Hein L, Reinke A, Godau P, et al. Metrics reloaded: recommendations for image analysis "
    "validation. Nat Methods 2024;21:195-212.",
    "hall": "Hall P. On the removal of skewness by transformation. J R Stat Soc B 1992;54:221-228.",
    "stringer": "Bickel PJ. Inference and auditing: the Stringer bound. Int Stat Rev 1992;60:197-209.",
    "johansen": "Johansen S. The Welch-James approximation to the distribution of the residual sum of squares in a "
    "weighted linear regression. Biometrika 1980;67:85-92.",
    "pooling": "Fay RE, Herriot RA. Estimates of income for small places: an application of James-Stein procedures to "
    "census data. J Am Stat Assoc 1979;74:269-277.",
    "mover": "Zou GY, Donner A. Construction of confidence limits about effect measures: a general approach. "
    "Stat Med 2008;27:1693-1702.",
    "ser": "Wang M, Deng W. Mitigating bias in face recognition using skewness-aware reinforcement learning. "
    "CVPR 2020.",
    "es": "Tian Y, Shi M, Luo Y, et al. FairSeg: a large-scale medical image segmentation dataset for fairness "
    "learning. ICLR 2024.",
    "exact": "Clopper CJ, Pearson ES. The use of confidence or fiducial limits illustrated in the case of the "
    "binomial. Biometrika 1934;26:404-413.",
    "freeman": "Freeman GH, Halton JH. Note on an exact treatment of contingency, goodness of fit and other problems "
    "of significance. Biometrika 1951;38:141-149.",
    "newcombe": "Newcombe RG. Interval estimation for the difference between independent proportions: comparison of "
    "eleven methods. Stat Med 1998;17:873-890.",
    "janssen": "Janssen A. Studentized permutation tests for non-i.i.d. hypotheses and the generalized "
    "Behrens-Fisher problem. Stat Probab Lett 1997;36:9-21.",
    "chung": "Chung E, Romano JP. Exact and asymptotically robust permutation tests. Ann Stat 2013;41:484-507.",
    "holm": "Holm S. A simple sequentially rejective multiple test procedure. Scand J Stat 1979;6:65-70.",
    "bh": "Benjamini Y, Hochberg Y. Controlling the false discovery rate. J R Stat Soc B 1995;57:289-300.",
    "munzel": "Brunner E, Munzel U. The nonparametric Behrens-Fisher problem. Biom J 2000;42:17-25.",
    "kruskal": "Kruskal WH, Wallis WA. Use of ranks in one-criterion variance analysis. J Am Stat Assoc "
    "1952;47:583-621.",
    "cliff": "Cliff N. Dominance statistics: ordinal analyses to answer ordinal questions. "
    "Psychol Bull 1993;114:494-509.",
    "tost": "Schuirmann DJ. A comparison of the two one-sided tests procedure and the power approach. "
    "J Pharmacokinet Biopharm 1987;15:657-680.",
    "agreement": "Bland JM, Altman DG. Statistical methods for assessing agreement between two methods of clinical "
    "measurement. Lancet 1986;327:307-310.",
    "standardization": "Robins J. A new approach to causal inference in mortality studies with a sustained exposure "
    "period. Math Model 1986;7:1393-1512.",
    "mccaffrey": "Bell RM, McCaffrey DF. Bias reduction in standard errors for linear regression with multi-stage "
    "samples. Surv Methodol 2002;28:169-181.",
    "tipton": "Pustejovsky JE, Tipton E. Small-sample methods for cluster-robust variance estimation and hypothesis "
    "testing in fixed effects models. J Bus Econ Stat 2018;36:672-683.",
}
_RANK_TESTS = {"Brunner-Munzel": "munzel", "Kruskal-Wallis": "kruskal"}


class _Cited:
    """References numbered in the order of their first mention."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self, *keys: str) -> str:
        self.keys += [key for key in keys if key not in self.keys]
        return f"[{','.join(str(self.keys.index(key) + 1) for key in keys)}]"

    def list(self) -> list[str]:
        return [f"[{i}] {_REFERENCES[key]}" for i, key in enumerate(self.keys, 1)]


def methods_text(report: dict[str, Any]) -> tuple[str, list[str]]:
    """The paragraph, and its references."""
    cite = _Cited()
    sentences = [*_data(report), *_scores(report, cite), *_rates(report, cite)]
    sentences += [*_inference(report, cite), *_more(report, cite)]
    return " ".join(sentences), cite.list()


def _data(report: dict[str, Any]) -> Iterator[str]:
    scores, cohort = report["scores"][family.from_report(report).score], report["cohort"]
    grouped = by_group(scores, cohort["attributes"])
    overall = scores["overall"]
    yield (
        f"{segmentation_of(cohort['structures'])} was scored on {amount(overall['cases'], 'case')} "
        f"of {amount(overall['patients'], 'patient')}{f', grouped by {listing(grouped)}' if grouped else ''}."
    )


def _scores(report: dict[str, Any], cite: _Cited) -> Iterator[str]:
    tolerance = report["run"].get("nsd_tolerance_mm")
    at = f" at a tolerance of {tolerance:g} mm" if tolerance is not None else ""
    names = listing(_DEFINED.get(score, score).format(tolerance=at) for score in report["scores"])
    yield (
        f"For each case and structure we computed {names} {cite('metrics')}, and averaged over structures without "
        "background; a structure absent from reference and prediction alike was left out, and the mean over the "
        "others was standardized for it."
    )
    grid = " x ".join(map(str, report["run"].get("grid") or ()))
    if report["run"].get("resolution") == "source":
        yield (
            f"The network's probabilities were interpolated linearly from its grid of {grid} pixels to the size of the "
            "reference mask, where each pixel took the likeliest label and all scores but calibration were computed."
        )
    elif grid:
        yield f"All scores were computed on a grid of {grid} pixels."
    there = (report.get("external") or {}).get("resolution")
    if there and there != report["run"].get("resolution"):
        at = "at the size of its reference masks" if there == "source" else f"on the grid of {grid} pixels"
        yield f"Those of the external cohort were computed {at}."
    yield (
        "The patient was the unit of all statistics: the scores of a patient's cases were averaged first. Groups of "
        f"fewer than {report['cohort']['min_group_patients']} patients were not ranked."
    )


def _rates(report: dict[str, Any], cite: _Cited) -> Iterator[str]:
    rates = report.get("rates")
    if not rates:
        return
    endpoints = {name: one for name, one in rates["endpoints"].items() if one["reason"] is None}
    thresholds = [endpoint_title(name, one) for name, one in endpoints.items() if not one["adverse"]]
    shares = (
        f", and the shares of patients who reach {listing(thresholds)} in every structure"
        if thresholds
        else ""
    )
    yield (
        f"A segmentation counted as failed where the Dice of any structure was below {rates['failure_dice']:g}. "
        f"Failure rates by group{shares} have exact intervals {cite('exact')}."
    )
    comparisons = [comparison for one in endpoints.values() for comparison in one["comparisons"].values()]
    if any(comparison["test"] for comparison in comparisons):
        several = any(len(comparison["pairs"]) > 1 for comparison in comparisons)
        extension = f" and its extension to more than two groups {cite('freeman')}" if several else ""
        yield (
            f"They were compared by Fisher's exact test{extension}, corrected by Holm's method {cite('holm')}; "
            f"differences have Newcombe's interval, from exact ones {cite('newcombe')}."
        )
    if any(comparison["unranked"] for comparison in comparisons):
        yield (
            "Groups too small to rank were compared with all other patients, rates by Fisher's exact test and means of "
            "patients without a failed segmentation by permutation."
        )


def _inference(report: dict[str, Any], cite: _Cited) -> Iterator[str]:
    found = [summary for scores in report["scores"].values() for summary in scores["summaries"].values()]
    tests = [summary["test"] for summary in found if summary.get("test")]
    pairs = any(summary.get("pairs") for summary in found)
    of_pairs = " and of their gaps over all patients" if pairs else ""
    failure_dice = (report.get("rates") or {}).get("failure_dice", patient_table.FAILURE_DICE)
    several = any(len(summary.get("pairs") or []) > 1 for summary in found)
    at_once = (
        ", simultaneous by Bonferroni's method where an attribute has more than two groups" if several else ""
    )
    yield (
        f"95 % intervals of means{of_pairs} have two parts{at_once}: Student's interval of the scores of patients "
        f"without a failed segmentation (Dice below {failure_dice:g}), corrected for skewness "
        f"{cite('hall')}, and Stringer's bounds of what failures take away {cite('stringer')}, combined by the method "
        f"of variance estimates recovery {cite('mover')}. They allow for failures that were not observed. Distances "
        "have no worst value: their intervals are Student's, corrected for skewness."
    )
    yield (
        "Inequality is summarised by the gap between the highest and the lowest group mean, the skewed error ratio "
        f"(SER) {cite('ser')} and the equity-scaled score {cite('es')}."
    )
    if any((summary.get("ser") or {}).get("size") is not None for summary in found):
        yield (
            "The SER that size alone would give was obtained by dilating and eroding every reference mask by the "
            "pooled average surface distance. Among patients without a failed segmentation, the observed ratio of "
            "errors over that one has an interval by the delta method, simultaneous over pairs of groups."
        )
    yield from _primary(report, cite)
    if tests:
        holm = (
            f", corrected by Holm's method {cite('holm')}"
            if any(t.get("p_holm") is not None for t in tests)
            else ""
        )
        names = listing(dict.fromkeys(test["name"] for test in tests))
        draws = _setting(report, "bootstrap_draws")
        of_draws = f", {draws:,} times" if isinstance(draws, int) else ""
        yield (
            f"Gaps in means were tested among patients without a failed segmentation, by permutation{of_draws} "
            f"({names}) {cite('janssen', 'chung')}{holm}; their intervals have the critical values of the test."
        )
    parts = [
        s
        for scores in report["scores"].values()
        for part in scores["structures"].values()
        for s in part["summaries"].values()
    ]
    if any((summary.get("test") or {}).get("p_bh") is not None for summary in parts):
        yield f"Tests of single structures are exploratory, corrected by Benjamini and Hochberg's method {cite('bh')}."
    ranks = dict.fromkeys(summary["rank"]["name"] for summary in found if summary.get("rank"))
    if ranks:
        names = listing(f"{name} {cite(_RANK_TESTS[name])}" for name in ranks)
        yield f"Rank tests ({names}) and Cliff's delta {cite('cliff')} are reported beside them."
    if any(summary.get("detectable") is not None for summary in found):
        yield (
            "The smallest detectable gap is that of 80 % power of a single test at the 5 % level, uncorrected, by "
            "Welch's standard error."
        )
    if report.get("power"):
        yield (
            "Detectable failure rates, and numbers of patients needed, follow from the exact power of Fisher's test, "
            "from the power of Welch's test and, for equivalence, from the intervals above at the observed failure "
            "rate."
        )
    yield from _equivalence(report, cite)


def _equivalence(report: dict[str, Any], cite: _Cited) -> Iterator[str]:
    """Sentences about equivalence, where it was tested, and about margins that come from two readers."""
    tested = {
        score: summary["equivalence"]
        for score, scores in report["scores"].items()
        for summary in scores["summaries"].values()
        if summary.get("equivalence") and score not in patient_table.MILLIMETRES  # never shown of distances
    }
    if not tested:
        return
    within = listing(margin(score, one["delta"]) for score, one in tested.items())
    levels = listing(dict.fromkeys(confidence(one["confidence"]) for one in tested.values()))
    yield (
        f"Groups count as equivalent in a mean score where the {levels} intervals of all differences lie within "
        f"{within}, of the mean over structures and of each structure, and those of failure rates within the same "
        f"number as a share (two one-sided tests {cite('tost')}, at 5 % over all attributes by Bonferroni's method); "
        "both allow for failures that were not observed."
    )
    agreements = report.get("readers") or {}
    from_readers = {
        score: one for score, one in agreements.items() if tested.get(score, {}).get("delta") == one["margin"]
    }
    if from_readers:
        each = "; ".join(
            f"{TITLES[score]} {signed(one['mean_difference'], 4)} (95 % interval {_range(one['interval'])}, "
            f"{amount(one['patients'], 'patient')}; limits of agreement {cite('agreement')}, which are about single "
            f"patients, {_range(one['limits_of_agreement'])})"
            for score, one in from_readers.items()
        )
        yield (
            "The margin is the end nearest to zero of the interval of the mean difference between two readers, the "
            f"first minus the second, over the patients whom both read: {each}."
        )


def _range(ends: Sequence[float]) -> str:
    low, high = (number(end, 4) for end in ends)
    return f"{low} to {high}"


def _primary(report: dict[str, Any], cite: _Cited) -> Iterator[str]:
    """What the report states as primary; nothing where it is of an earlier version."""
    stated = report.get("primary")
    if not stated:
        return
    primary = family.from_report(report)
    by = f" by {listing(primary.attributes)}" if primary.attributes else ""
    kinds = {hypothesis["kind"] for hypothesis in stated["hypotheses"]}
    more = [
        name
        for name, members in (
            ("the tests of groups too small to rank", {family.SMALL_MEAN, family.SMALL_FAILURE}),
            ("the interactions of two of them", {family.INTERACTION}),
        )
        if members & kinds
    ]
    parts = [f"the gaps in mean {score_title(primary.score)} and in failure rate{by}", *more]
    yield (
        f"The primary family, corrected together by Holm's method {cite('holm')}, holds {listing(parts)}; everything "
        "else is exploratory."
    )


def _more(report: dict[str, Any], cite: _Cited) -> Iterator[str]:
    if model := (report.get("model") or {}).get("dice"):
        yield from _adjustment(model, cite)
    if report.get("interactions"):
        yield (
            "Interactions of two attributes, what an additive model of the means leaves unexplained among patients "
            f"without a failed segmentation, were tested by Johansen's statistic {cite('johansen')}; those of other "
            "scores than the primary one are exploratory."
        )
    outside = (report.get("external") or {}).get("pooled")
    if report.get("pooled") or outside:
        external = ", those of the external cohort among its own groups" if outside else ""
        yield (
            "Means of groups of 3 to 29 patients without a failed segmentation were also pooled toward what the other "
            f"groups of their attributes predict {cite('pooling')}{external}; no test uses the pooled means."
        )
    if report.get("calibration"):
        yield (
            "Calibration was assessed inside the dilated box of each predicted structure, by the mean difference "
            "between probability and truth and by the calibration slope, with intervals over patients."
        )
    if report.get("root_cause"):
        yield (
            "How well an attribute is predicted from the image, the crop, the mask and the network's features was "
            "measured by the area under the ROC curve, over patients."
        )
    if report.get("models"):
        yield (
            "Models were compared pairwise on the same patients: means by paired bootstrap, gaps by swaps and by "
            "resampled group means."
        )
    versions = report["run"].get("versions") or {}
    if versions:
        yield f"Software: {', '.join(f'{name} {version}' for name, version in versions.items())}."


def _adjustment(model: dict[str, Any], cite: _Cited) -> Iterator[str]:
    """Sentences about the adjusted model of a score: the covariates that it holds, and the others with the reason."""
    fits = [model[label] for label in ("without_mediators", "with_mediators") if model.get(label)]
    fits = [fit for fit in fits if fit["contrasts"]]
    adjusted: list[str] = []
    for fit in {fit["formula"]: fit for fit in fits}.values():
        others = len({contrast["attribute"] for contrast in fit["contrasts"]}) > 1
        if variables := [*["the other attributes"] * others, *fit["covariates"]]:
            adjusted.append(
                f"for {listing(variables)} ({fit['formula']}; {amount(fit['patients'], 'patient')})"
            )
    if adjusted:
        yield (
            f"Gaps were adjusted {'; in a second model, with possible mediators, '.join(adjusted)}, as differences "
            f"of marginally standardized means {cite('standardization')} by least squares in which every patient has "
            "the same weight, among patients without a failed segmentation, with CR2 standard errors clustered by "
            f"patient, Satterthwaite's degrees of freedom {cite('mccaffrey', 'tipton')} and Hall's transformation "
            f"{cite('hall')}."
        )
    if not fits:
        yield f"Gaps were not adjusted ({'; '.join(model['reasons'] or ['no attribute is in the model'])})."
    elif model["reasons"]:
        yield f"One of the two models was not fitted ({'; '.join(model['reasons'])})."
    if fits and not any(fit["covariates"] for fit in fits):
        yield "Gaps were not adjusted for covariates."
    if model["left_out"]:
        yield f"Left out of the model: {'; '.join(model['left_out'])}."


def _setting(report: dict[str, Any], name: str) -> Any:
    """A setting of the report, from the run or from its config."""
    run = report["run"]
    return run.get(name) or ((run.get("config") or {}).get("report") or {}).get(name)

"""Write the methods of a report as a paragraph to cite, with the references and versions of what it contains."""

from collections.abc import Iterator
from itertools import chain

from kneefair_jax.fairness import family, patient_table, two_part
from kneefair_jax.report.schema import AdjustedModel, Report, Summary
from kneefair_jax.report.text.failures import endpoint_title
from kneefair_jax.report.text.formatting import (
    TITLES,
    amount,
    bootstrap_draws,
    confidence,
    group_sizes,
    listing,
    margin,
    number,
    score_title,
    segmentation_title,
    signed,
)

_METRICS = {
    "dice": "Dice",
    "iou": "intersection over union (IoU)",
    "hd95_mm": "95th-percentile Hausdorff distance (HD95, mm)",
    "assd_mm": "average symmetric surface distance (ASSD, mm)",
    "nsd": "normalised surface Dice (NSD){tolerance}",
}
_RANK_TESTS = {"Brunner-Munzel": "munzel", "Kruskal-Wallis": "kruskal"}
REFERENCES = {
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


class Bibliography:
    """Numbers references in the order of their first mention."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self, *keys: str) -> str:
        """Return the citation of references, `[1,2]`."""
        self.keys += [key for key in keys if key not in self.keys]
        return f"[{','.join(str(self.keys.index(key) + 1) for key in keys)}]"

    def list(self) -> list[str]:
        """Return the references with their numbers."""
        return [f"[{i}] {REFERENCES[key]}" for i, key in enumerate(self.keys, 1)]


def methods_text(report: Report) -> tuple[str, list[str]]:
    """Return the paragraph and its references."""
    cite = Bibliography()
    sentences = [_data(report), _scores(report, cite), _rates(report, cite), _intervals(report, cite)]
    if report["cohort"]["attributes"]:
        sentences += [
            _inequality(report, cite),
            _primary(report, cite),
            _tests(report, cite),
            _sample_size(report),
            _equivalence(report, cite),
            _further_analyses(report, cite),
        ]
    return " ".join(chain(*sentences)), cite.list()


def _data(report: Report) -> Iterator[str]:
    scores, cohort = report["scores"][family.from_report(report).score], report["cohort"]
    sizes = group_sizes(scores, cohort["attributes"])
    overall = scores["overall"]
    yield (
        f"{segmentation_title(cohort['structures'])} was scored on {amount(overall['cases'], 'case')} "
        f"of {amount(overall['patients'], 'patient')}{f', grouped by {listing(sizes)}' if sizes else ''}."
    )


def _scores(report: Report, cite: Bibliography) -> Iterator[str]:
    tolerance = report["run"].get("nsd_tolerance_mm")
    of_tolerance = f" at a tolerance of {tolerance:g} mm" if tolerance is not None else ""
    names = listing(_METRICS.get(score, score).format(tolerance=of_tolerance) for score in report["scores"])
    yield (
        f"For each case and structure we computed {names} {cite('metrics')}, and averaged over structures without "
        "background. A structure absent from both reference and prediction, or not annotated, was excluded, and the "
        "mean over the other structures was standardized for it."
    )
    grid = " x ".join(map(str, report["run"].get("grid") or ()))
    if report["run"].get("resolution") == "native":
        yield (
            f"The network's probabilities were interpolated linearly from the working resolution of {grid} pixels to "
            "the native resolution of the reference mask. There, each pixel took the likeliest label, and all scores "
            "except calibration were computed."
        )
    elif grid:
        yield f"All scores were computed at a working resolution of {grid} pixels."
    external = report.get("external")
    if external and external["resolution"] != report["run"].get("resolution"):
        resolution = (
            "the native resolution of its reference masks"
            if external["resolution"] == "native"
            else f"the working resolution of {grid} pixels"
        )
        yield f"Scores of the external cohort were computed at {resolution}."
    yield (
        "The patient was the unit of all statistics: the scores of a patient's cases were averaged first. Groups of "
        f"fewer than {report['cohort']['min_group_patients']} patients were not ranked."
    )


def _rates(report: Report, cite: Bibliography) -> Iterator[str]:
    rates = report["rates"]
    endpoints = {name: entry for name, entry in rates["endpoints"].items() if entry["reason"] is None}
    thresholds = [endpoint_title(name, entry) for name, entry in endpoints.items() if not entry["adverse"]]
    shares = (
        f", and the shares of patients who reach {listing(thresholds)} in every structure"
        if thresholds
        else ""
    )
    yield (
        f"A segmentation counted as failed where the Dice of any structure was below {rates['failure_dice']:g}. "
        f"Failure rates by group{shares} have exact intervals {cite('exact')}."
    )
    comparisons = [comparison for entry in endpoints.values() for comparison in entry["comparisons"].values()]
    if any(comparison["test"] for comparison in comparisons):
        has_pairs = any(len(comparison["pairs"]) > 1 for comparison in comparisons)
        extension = f" and its extension to more than two groups {cite('freeman')}" if has_pairs else ""
        yield (
            f"They were compared by Fisher's exact test{extension}, corrected by Holm's method {cite('holm')}; "
            f"differences have Newcombe's interval, from exact ones {cite('newcombe')}."
        )
    if any(comparison["unranked"] for comparison in comparisons):
        has_means = any(
            test["p"] is not None
            for by_attribute in rates["small_groups"].values()
            for tests in by_attribute.values()
            for test in tests.values()
        )
        means = " and means of patients without a failed segmentation by permutation" if has_means else ""
        yield (
            f"Groups too small to rank were compared with all other patients, rates by Fisher's exact test{means}."
        )


def _summaries(report: Report) -> list[Summary]:
    return [summary for scores in report["scores"].values() for summary in scores["summaries"].values()]


def _intervals(report: Report, cite: Bibliography) -> Iterator[str]:
    """Yield the sentences on the intervals of means."""
    summaries = _summaries(report)
    most_pairs = max((len(summary["pairs"]) for summary in summaries), default=0)
    of_pairs = " and of their gaps over all patients" if most_pairs else ""
    several = ", simultaneous by Bonferroni's method where an attribute has more than two groups"
    simultaneous = several if most_pairs > 1 else ""
    failure = report["rates"]["endpoints"]["failure"]
    tallies = [(failure["count"], failure["overall"]["n"])]
    tallies += [(group["count"], group["rate"]["n"]) for group in failure["groups"].values()]
    has_loss_only = [two_part.is_loss_only(failures, patients) for failures, patients in tallies]
    limit = f"Dice below {report['rates']['failure_dice']:g}"
    if not all(has_loss_only):
        yield (
            f"95 % intervals of means{of_pairs} have two parts{simultaneous}: Student's interval of the scores of "
            f"patients without a failed segmentation ({limit}), corrected for skewness {cite('hall')}, and Stringer's "
            f"bounds of the loss through failures {cite('stringer')}, combined by the method of variance estimates "
            f"recovery {cite('mover')}. They allow for failures that were not observed."
        )
    if any(has_loss_only):
        yield (
            f"Where more than half of the patients have a failed segmentation ({limit}), or all but one, the interval "
            f"of the mean is Stringer's bounds of the loss of every patient from the best score {cite('stringer')}."
        )
    if set(patient_table.MILLIMETRES) & set(report["scores"]):
        yield "Distances have no upper limit: their intervals are Student's, corrected for skewness."


def _inequality(report: Report, cite: Bibliography) -> Iterator[str]:
    """Yield the sentences on summaries of the group means."""
    yield (
        "Inequality is summarized by the gap between the highest and the lowest group mean, the skewed error ratio "
        f"(SER) {cite('ser')} and the equity-scaled score {cite('es')}."
    )
    if any(summary["ser"]["size"] is not None for summary in _summaries(report)):
        yield (
            "The SER that size alone would give was obtained by dilating and eroding every reference mask by the "
            "pooled average surface distance. Among patients without a failed segmentation, the observed ratio of "
            "errors divided by the expected ratio has an interval by the delta method, simultaneous over pairs of "
            "groups."
        )


def _tests(report: Report, cite: Bibliography) -> Iterator[str]:
    """Yield the sentences on tests of gaps, of structures and of ranks."""
    summaries = _summaries(report)
    tests = [test for summary in summaries if (test := summary["test"])]
    if tests:
        holm = (
            f", corrected by Holm's method {cite('holm')}"
            if any(test["p_holm"] is not None for test in tests)
            else ""
        )
        names = listing(dict.fromkeys(test["name"] for test in tests))
        draws = bootstrap_draws(report)
        times = f", {draws:,} times" if draws else ""
        yield (
            f"Gaps in means were tested among patients without a failed segmentation, by permutation{times} "
            f"({names}) {cite('janssen', 'chung')}{holm}; their intervals have the critical values of the test."
        )
    structure_tests = [
        test
        for scores in report["scores"].values()
        for structure in scores["structures"].values()
        for summary in structure["summaries"].values()
        if (test := summary["test"])
    ]
    if any(test["p_bh"] is not None for test in structure_tests):
        yield f"Tests of single structures are exploratory, corrected by Benjamini and Hochberg's method {cite('bh')}."
    ranks = dict.fromkeys(rank["name"] for summary in summaries if (rank := summary["rank"]))
    if ranks:
        names = listing(f"{name} {cite(_RANK_TESTS[name])}" for name in ranks)
        yield f"Rank tests ({names}) and Cliff's delta {cite('cliff')} are reported beside them."


def _sample_size(report: Report) -> Iterator[str]:
    """Yield the sentences on detectable differences and numbers of patients."""
    if any(summary["detectable"] is not None for summary in _summaries(report)):
        yield (
            "The smallest detectable gap is the gap that a single uncorrected test at the 5 % level detects with 80 % "
            "power, by Welch's standard error."
        )
    if report["power"]:
        yield (
            "Detectable failure rates, and numbers of patients needed, follow from the exact power of Fisher's test, "
            "from the power of Welch's test and, for equivalence, from the intervals above at the observed failure "
            "rate."
        )


def _equivalence(report: Report, cite: Bibliography) -> Iterator[str]:
    """Yield sentences on equivalence, where it was tested, and on margins derived from two readers."""
    tested = {
        score: equivalence
        for score, scores in report["scores"].items()
        for summary in scores["summaries"].values()
        if (equivalence := summary["equivalence"])
        and score not in patient_table.MILLIMETRES  # equivalence in distances is never shown
    }
    if not tested:
        return
    margins = listing(margin(score, entry["delta"]) for score, entry in tested.items())
    levels = listing(dict.fromkeys(confidence(entry["confidence"]) for entry in tested.values()))
    yield (
        f"Groups count as equivalent in a mean score where the {levels} intervals of all differences lie within "
        f"{margins}, for the mean over structures and for each structure, and those of failure rates within the same "
        f"margin as a share (two one-sided tests {cite('tost')}, at 5 % over all attributes by Bonferroni's method); "
        "both allow for failures that were not observed."
    )
    agreements = report.get("readers") or {}
    from_readers = {
        score: entry
        for score, entry in agreements.items()
        if score in tested and tested[score]["delta"] == entry["margin"]
    }
    if from_readers:
        each = "; ".join(
            f"{TITLES[score]} {signed(entry['mean_difference'], 4)} (95 % interval "
            f"{' to '.join(number(end, 4) for end in entry['interval'])}, {amount(entry['patients'], 'patient')}; "
            f"limits of agreement {cite('agreement')} for single patients "
            f"{' to '.join(number(end, 4) for end in entry['limits_of_agreement'])})"
            for score, entry in from_readers.items()
        )
        yield (
            "The margin is the end nearest to zero of the interval of the mean difference between two readers (first "
            f"minus second), over the patients that both read: {each}."
        )


def _primary(report: Report, cite: Bibliography) -> Iterator[str]:
    """Yield the sentence on the primary family."""
    primary = family.from_report(report)
    by = f" by {listing(primary.attributes)}" if primary.attributes else ""
    kinds = {hypothesis["kind"] for hypothesis in report["primary"]["hypotheses"]}
    further = [
        name
        for name, members in (
            ("the tests of groups too small to rank", {family.SMALL_MEAN, family.SMALL_FAILURE}),
            ("the interactions of two of them", {family.INTERACTION}),
        )
        if members & kinds
    ]
    parts = [f"the gaps in mean {score_title(primary.score)} and in failure rate{by}", *further]
    yield (
        f"The primary family, corrected together by Holm's method {cite('holm')}, holds {listing(parts)}; everything "
        "else is exploratory."
    )


def _further_analyses(report: Report, cite: Bibliography) -> Iterator[str]:
    if model := report["model"].get("dice"):
        yield from _adjustment(model, cite)
    if report["interactions"]:
        yield (
            "Interactions of two attributes, the deviations from an additive model of the means among patients without "
            f"a failed segmentation, were tested by Johansen's statistic {cite('johansen')}; interactions in scores "
            "other than the primary one are exploratory."
        )
    external_pooled = "external" in report and report["external"]["pooled"]
    if report["pooled"] or external_pooled:
        external = ", in the external cohort by its own groups" if external_pooled else ""
        yield (
            "Means of groups of 3 to 29 patients without a failed segmentation were also pooled toward the mean that "
            f"the other groups of their attributes predict {cite('pooling')}{external}; no test uses the pooled means."
        )
    if report.get("calibration"):
        yield (
            "Calibration was assessed inside the dilated box of each predicted structure, by the mean difference "
            "between probability and truth and by the calibration slope, with intervals over patients."
        )
    if report.get("attribute_leakage"):
        yield (
            "How well an attribute is predicted from the image, the crop, the mask and the network's features was "
            "measured by the area under the ROC curve, over patients."
        )
    if report.get("models"):
        yield (
            "Models were compared pairwise on the patients with a score by both: means, also by group, by paired "
            "bootstrap, gaps by swaps and by resampled group means."
        )
    versions = report["run"].get("versions") or {}
    if versions:
        yield f"Software: {', '.join(f'{name} {version}' for name, version in versions.items())}."


def _adjustment(model: AdjustedModel, cite: Bibliography) -> Iterator[str]:
    """Yield sentences on the adjusted model of a score: its covariates, and the excluded ones with the reason."""
    fits = [fit for fit in (model["without_mediators"], model["with_mediators"]) if fit and fit["contrasts"]]
    adjusted: list[str] = []
    for fit in {fit["formula"]: fit for fit in fits}.values():
        has_attributes = len({contrast["attribute"] for contrast in fit["contrasts"]}) > 1
        if variables := [*["the other attributes"] * has_attributes, *fit["covariates"]]:
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
    if model["excluded"]:
        yield f"Excluded from the model: {'; '.join(model['excluded'])}."

from . import (
    endpoint_rates,
    endpoints,
    group_sums,
    interactions,
    mixed_model,
    rates,
    scores,
    simultaneous_intervals,
    small_groups,
    summaries,
)
from .attribute_auc import weighted_auc
from .bootstrap import mean_intervals
from .hypothesis_tests import (
    PermutationTests,
    RankTests,
    cliffs_delta,
    detectable_gap,
    permuted_welch,
    rank_tests,
    tost,
    welch_intervals,
)
from .method_comparison import compare
from .model_comparison import compare_models
from .multiplicity import benjamini_hochberg, holm
from .patient_table import Runs, stacked
from .reference_ser import expected_ser, null_percentile
from .summaries import es, gap, group_means, sd, ser, worst

__all__ = [
    "PermutationTests",
    "RankTests",
    "Runs",
    "benjamini_hochberg",
    "cliffs_delta",
    "compare",
    "compare_models",
    "detectable_gap",
    "endpoint_rates",
    "endpoints",
    "es",
    "expected_ser",
    "gap",
    "group_means",
    "group_sums",
    "holm",
    "interactions",
    "mean_intervals",
    "mixed_model",
    "null_percentile",
    "permuted_welch",
    "rank_tests",
    "rates",
    "scores",
    "sd",
    "ser",
    "simultaneous_intervals",
    "small_groups",
    "stacked",
    "summaries",
    "tost",
    "weighted_auc",
    "welch_intervals",
    "worst",
]

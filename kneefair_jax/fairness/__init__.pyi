from . import adjusted_model, group_sums, interactions, scores, simultaneous_intervals, summaries
from .attribute_auc import weighted_auc
from .bootstrap import mean_intervals
from .equivalence import tost
from .hypothesis_tests import (
    PermutationTests,
    RankTests,
    cliffs_delta,
    detectable_gap,
    permuted_welch,
    rank_tests,
    welch_intervals,
)
from .method_comparison import compare
from .model_comparison import compare_models
from .multiplicity import benjamini_hochberg, holm
from .patient_table import Runs, stacked
from .reference_ser import expected_ser
from .summaries import es, gap, group_means, sd, ser, worst

__all__ = [
    "PermutationTests",
    "RankTests",
    "Runs",
    "adjusted_model",
    "benjamini_hochberg",
    "cliffs_delta",
    "compare",
    "compare_models",
    "detectable_gap",
    "es",
    "expected_ser",
    "gap",
    "group_means",
    "group_sums",
    "holm",
    "interactions",
    "mean_intervals",
    "permuted_welch",
    "rank_tests",
    "scores",
    "sd",
    "ser",
    "simultaneous_intervals",
    "stacked",
    "summaries",
    "tost",
    "weighted_auc",
    "welch_intervals",
    "worst",
]

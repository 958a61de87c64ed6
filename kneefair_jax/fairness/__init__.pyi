from . import (
    adjusted_model,
    attribute_power,
    endpoint_rates,
    endpoints,
    estimate,
    group_intervals,
    group_sums,
    interactions,
    partial_pooling,
    power,
    rates,
    scores,
    simultaneous_intervals,
    small_groups,
    summaries,
    two_part,
)
from .attribute_auc import weighted_auc
from .bootstrap import mean_intervals
from .equivalence import tost
from .group_report import GroupReport
from .hypothesis_tests import (
    PermutationTests,
    RankTests,
    cliffs_delta,
    permuted_welch,
    rank_tests,
    welch_intervals,
)
from .method_comparison import compare_methods
from .model_comparison import compare_models
from .model_report import ModelComparison, compare
from .multiplicity import benjamini_hochberg, holm
from .patient_table import Runs, stack_runs
from .power import PatientsNeeded, patients_needed
from .reference_ser import expected_ser
from .summaries import es, gap, group_means, sd, ser, worst

__all__ = [
    "GroupReport",
    "ModelComparison",
    "PatientsNeeded",
    "PermutationTests",
    "RankTests",
    "Runs",
    "adjusted_model",
    "attribute_power",
    "benjamini_hochberg",
    "cliffs_delta",
    "compare",
    "compare_methods",
    "compare_models",
    "endpoint_rates",
    "endpoints",
    "es",
    "estimate",
    "expected_ser",
    "gap",
    "group_intervals",
    "group_means",
    "group_sums",
    "holm",
    "interactions",
    "mean_intervals",
    "partial_pooling",
    "patients_needed",
    "permuted_welch",
    "power",
    "rank_tests",
    "rates",
    "scores",
    "sd",
    "ser",
    "simultaneous_intervals",
    "small_groups",
    "stack_runs",
    "summaries",
    "tost",
    "two_part",
    "weighted_auc",
    "welch_intervals",
    "worst",
]

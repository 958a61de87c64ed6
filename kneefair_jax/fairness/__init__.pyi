from . import (
    adjusted_model,
    attribute_power,
    bootstrap,
    endpoints,
    interactions,
    power,
    rates,
    results,
    scores,
    small_groups,
    summaries,
    two_part,
)
from .attribute_auc import weighted_auc
from .equivalence import tost
from .group_report import GroupReport
from .hypothesis_tests import (
    RankTests,
    benjamini_hochberg,
    holm,
    rank_tests,
    welch_intervals,
)
from .method_comparison import compare_methods
from .model_comparison import compare_models
from .model_report import ModelComparison, compare
from .patient_table import Runs, stack_runs
from .permutation_tests import PermutationTests, permuted_welch
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
    "bootstrap",
    "compare",
    "compare_methods",
    "compare_models",
    "endpoints",
    "es",
    "expected_ser",
    "gap",
    "group_means",
    "holm",
    "interactions",
    "patients_needed",
    "permuted_welch",
    "power",
    "rank_tests",
    "rates",
    "results",
    "scores",
    "sd",
    "ser",
    "small_groups",
    "stack_runs",
    "summaries",
    "tost",
    "two_part",
    "weighted_auc",
    "welch_intervals",
    "worst",
]

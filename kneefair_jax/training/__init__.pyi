from .checkpoint import Checkpoints
from .loop import NonFiniteLossError, train
from .metric_writer import MetricWriter
from .scoring import group_table, surface_distances
from .setup import Experiment, Stage, build
from .state import TrainState
from .steps import make_case_step, make_eval_step, make_feature_step, make_train_step

__all__ = [
    "Checkpoints",
    "Experiment",
    "MetricWriter",
    "NonFiniteLossError",
    "Stage",
    "TrainState",
    "build",
    "group_table",
    "make_case_step",
    "make_eval_step",
    "make_feature_step",
    "make_train_step",
    "surface_distances",
    "train",
]

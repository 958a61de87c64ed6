from .experiment import prepare_run, run_experiment
from .modes import MODES
from .study import run_study

__all__ = ["MODES", "prepare_run", "run_experiment", "run_study"]

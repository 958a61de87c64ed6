"""Whole runs, as `launch.py` starts them: one by `run_experiment`, many and their comparison by `run_study`."""

from kneefair_jax.runs.experiment import prepare_run, run_experiment
from kneefair_jax.runs.modes import MODES
from kneefair_jax.runs.study import run_study

__all__ = ["MODES", "prepare_run", "run_experiment", "run_study"]

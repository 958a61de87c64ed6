"""Mitigations x seeds on the same patients, and the page that compares them."""

from kneefair_jax.runs.study.runner import run_study

__all__ = ["run_study"]

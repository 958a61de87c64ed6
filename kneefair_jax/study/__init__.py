"""Mitigations x seeds on the same patients, and the page that compares them."""

from kneefair_jax.study.runner import run_study as run_study

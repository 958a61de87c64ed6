"""Summarizes scores by group, with intervals, tests, equivalence tests and comparisons of models.

    from kneefair_jax import fairness

    fairness.GroupReport(frame, by=["sex"])                # scores of one model by group
    fairness.compare({"a": frame_a, "b": frame_b}, ["sex"])  # several models on the same patients
    fairness.gap(means), fairness.ser(means)               # of group means, NumPy's or JAX's
    fairness.permuted_welch(scores, sizes, rng)            # is there a gap?
    fairness.compare_methods(scores, index, names)         # methods over seeds, on the same patients

`fairness.scores.scores` gives the numbers of a report for each group and gap. Names load on first use: the summaries
need no pandas.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

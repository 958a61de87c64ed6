"""Scores a run's checkpoints and writes its report.

`evaluate` writes a run's tables and page from the per-case table of `case_table`, which also scores training cases.
`gap_analysis` analyzes a gap: size of structures, calibration, and how well image, mask and features predict each
attribute. `predictions` has the predicted label maps of the test cases.
"""

__all__ = ["case_table", "evaluate", "gap_analysis", "predictions"]

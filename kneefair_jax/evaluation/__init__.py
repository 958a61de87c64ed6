"""Scores a run's checkpoints and writes its report.

`evaluate` writes a run's tables and page from the per-case table of `case_table`. The page also has scores of training
cases (`train_scores`), size and calibration as explanations of a gap (`size_and_calibration`), and how well each
attribute is predicted from image, mask and features (`attribute_leakage`).
"""

__all__ = ["attribute_leakage", "case_table", "evaluate", "size_and_calibration", "train_scores"]

"""From checkpoints to the per-case table, and from the table to a run's report.

`case_table` scores every case and `evaluate` writes a run's tables and page. The page also has scores on training cases
(`train_scores`), size and calibration as explanations of a gap (`size_and_calibration`), and how well each attribute
can be predicted from image, mask and features (`attribute_leakage`).
"""

__all__ = ["attribute_leakage", "case_table", "evaluate", "size_and_calibration", "train_scores"]

from . import attribute_leakage, calibration, case_table, evaluate, train_scores

__all__ = ["attribute_leakage", "calibration", "case_table", "evaluate", "train_scores"]

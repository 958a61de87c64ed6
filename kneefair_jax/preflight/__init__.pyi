from . import check, duplicates, hardware, outliers

__all__ = ["check", "duplicates", "hardware", "outliers"]

"""Checks of the cohort and the machine before training: `launch.py --mode=check`.

`check` reads the whole cohort and reports its groups and splits, `duplicates` under two patients' names, `outliers` in
size, spacing, gray values and area, and masks that look wrong. `group_sizes` finds the groups that are too small for
the report to rank. `hardware` times this machine.
"""

__all__ = ["check", "duplicates", "group_sizes", "hardware", "outliers"]

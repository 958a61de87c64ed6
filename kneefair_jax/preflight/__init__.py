"""Checks of the cohort and the machine before training: `launch.py --mode=check`.

`check` reads the whole cohort and reports what is in it: groups and splits, `duplicates` under two patients' names,
`outliers` in size, spacing, gray values and area, masks that look wrong. `group_sizes` finds the groups that the report
will be too small to rank. `hardware` times this machine.
"""

__all__ = ["check", "duplicates", "group_sizes", "hardware", "outliers"]

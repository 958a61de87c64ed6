"""Draw the report's figures as inline SVG. Every public function is pure: the same numbers give the same bytes.

Rows are groups, so a figure of many groups grows in height and its text keeps its size. Markers differ in shape as
well as color, and shades have one direction, so a gray print is as readable.
"""

__all__ = ["cohort_figures", "forest", "scatter", "study_figures", "svg"]

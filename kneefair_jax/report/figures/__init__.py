"""Figures of the report as inline SVG. Every public function is pure: the same numbers give the same bytes.

Rows are groups, so that a figure of many groups grows downwards and its letters keep their size. Markers
differ in shape as well as color, and shades run one way, so that a gray print says the same.
"""

__all__ = ["distributions", "flow_diagram", "forest", "scatter", "study_figures", "svg"]

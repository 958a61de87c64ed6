"""Figures of the report as inline SVG: forests of means and gaps, distributions, scatter plots, the study's plane."""

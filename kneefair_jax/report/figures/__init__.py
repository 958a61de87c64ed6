"""Figures of the report as inline SVG: forests of means and gaps, distributions, scatter plots, the study's plane."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

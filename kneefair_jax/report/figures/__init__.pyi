from . import distributions, forest, scatter, study_figures, svg

__all__ = ["distributions", "forest", "scatter", "study_figures", "svg"]

"""Sentences of the report: findings and verdicts, the summary above them, the methods paragraph, the study's text."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Sentences of the report: findings and verdicts, the summary above them, the methods paragraph, the study's text."""

__all__ = ["failures", "findings", "formatting", "methods", "study_text", "summary"]

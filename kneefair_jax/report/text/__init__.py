"""Sentences of the report: findings and verdicts, the summary above them, the methods paragraph, the study's text."""

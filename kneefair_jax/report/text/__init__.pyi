from . import findings, formatting, methods, study_text, summary

__all__ = ["findings", "formatting", "methods", "study_text", "summary"]

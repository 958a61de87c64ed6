"""Scores by group -> one page that a person reads and one JSON file that a program reads."""

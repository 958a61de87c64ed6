"""Summaries of scores by group, and how sure one can be of them."""

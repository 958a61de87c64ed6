"""Drafts the table of cases, `metadata.csv`, from a folder of films and masks (`kneefair init`)."""

__all__: list[str] = []

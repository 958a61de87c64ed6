"""The tables of studies are what the committed results say."""

import re

import pytest

from benchmarks import study_tables


def test_the_tables_are_those_of_the_committed_studies():
    """Wrong? Run `python benchmarks/study_tables.py`."""
    text = (study_tables.ROOT / "docs" / "mitigations.md").read_text()
    studies = study_tables.read()
    assert {found[1] for found in study_tables.MARKED.findall(text)} == set(studies) != set()
    assert study_tables.readme(text, studies) == text


@pytest.mark.parametrize("name", study_tables.read())
def test_a_table_s_rows_are_the_methods(name):
    study = study_tables.read()[name]
    rows = re.findall(r"^\| `(\w+)` \| (0\.\d{3})", study_tables.table(study), re.MULTILINE)
    methods = study["comparison"]["methods"]
    assert rows[0][0] == "erm"
    assert dict(rows) == {method: f"{entry['mean']['value']:.3f}" for method, entry in methods.items()}
    assert study["runs"]["device"] and study["runs"]["commit"]
    assert not study["runs"]["commit"].endswith("-dirty")


def test_a_study_older_than_the_choice_of_resolution_is_repeated_at_working_resolution():
    studies = study_tables.read()
    assert "--config.report.resolution=working`: 21 runs" in study_tables.table(studies["jsrt"])
    assert "report.resolution" not in study_tables.table(studies["null"])

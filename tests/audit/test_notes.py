"""What an audit notes of similar identifiers, void values and warnings."""

from pathlib import Path

import pytest

from kneefair_jax.audit import cases, mask_pair, result, score_table
from kneefair_jax.audit.options import CaseOptions, Settings
from kneefair_jax.data import metadata
from kneefair_jax.errors import InputError
from tests.audit import folder


def test_similar_identifiers_that_are_allowed_are_counted(tmp_path):
    rows = [
        {"case_id": f"c{i}", "patient_id": patient, "sex": "fm"[i % 2]}
        for i, patient in enumerate(["7", "007", "P1", "P01", "P001", "x"])
    ]
    path = folder.write_table(tmp_path / "metadata.csv", rows)
    notes = cases.read(path, ["sex"], CaseOptions(allow_similar_ids=True)).notes
    (note,) = [note for note in notes if "similar" in note]
    assert "4 pairs of patient_id look alike (such as '7' and '007'), counted as different patients" in note
    with pytest.raises(InputError, match="--allow-similar-ids"):
        cases.read(path, ["sex"], CaseOptions())
    rows = [row | {"patient_id": f"P{i}", "sex": "F" if i else "f"} for i, row in enumerate(rows)]
    path = folder.write_table(tmp_path / "levels.csv", rows)
    (note,) = [
        note
        for note in cases.read(path, ["sex"], CaseOptions(allow_similar_ids=True)).notes
        if "similar" in note
    ]
    assert "1 pair of sex looks alike" in note and note.endswith("counted as different groups")


def test_void_pixels_are_named_without_a_label():
    with pytest.raises(InputError, match="ignore=255"):
        mask_pair._by_value([0, 1, 2, 255])


def test_warnings_come_first(tmp_path):
    rows = [{"case_id": f"c{i}", "sex": "fm"[i % 2], "dice": f"0.9{i:02d}"} for i in range(12)]
    path = folder.write_table(tmp_path / "scores.csv", rows)
    scores = score_table.read(path, None, ["sex"], CaseOptions())
    scores.cohort.notes[:] = ["first", "WARNING: second", "third", "WARNING: fourth"]
    arguments = (scores.cohort, scores.tables, scores.structures, Settings(2, 40))
    audit = result.audit(*arguments, {}, {}, {})
    assert audit.notes == ["WARNING: second.", "WARNING: fourth.", "First.", "Third."]
    assert audit.report["cohort"]["notes"] == audit.notes


def test_a_message_says_how_many_problems_are_shown():
    path = Path("metadata.csv")
    with pytest.raises(InputError, match=r"^metadata.csv: 2 problems:\n"):
        metadata.refuse(path, [(2, "a"), (3, "b")])
    with pytest.raises(InputError, match=r"^metadata.csv: 6 problems.* first 5:\n"):
        metadata.refuse(path, [(row, "a") for row in range(2, 8)])

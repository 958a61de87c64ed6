import pandas as pd
import pytest

from kneefair_jax.data.draft import scan
from kneefair_jax.data.draft.clinical_table import ClinicalTable
from kneefair_jax.data.draft.join import join


@pytest.fixture
def joined(tmp_path):
    def call(films, rows):
        """Join films, file name -> (patient, side, view), to rows of a table."""
        cells = pd.DataFrame(rows, dtype=str).fillna("").assign(birth="", study="")
        columns = tuple(name for name in rows[0] if name not in ("patient_id", "image"))
        table = ClinicalTable(tmp_path / "t.csv", cells, columns, [])
        files = [
            scan.File(tmp_path / name, scan.FILM, scan.Tags(patient_id=patient, side=side, view=view))
            for name, (patient, side, view) in films.items()
        ]
        return join(files, [patient for patient, _, _ in films.values()], table, allow_similar=False)

    return call


BILATERAL = {"a.dcm": ("P1", "right", "AP"), "b.dcm": ("P1", "left", "AP")}


def test_headers_have_precedence_over_the_side_and_view_of_a_patients_row(joined):
    result = joined(BILATERAL, [{"patient_id": "P1", "side": "right", "view": "lateral", "bmi": "25"}])
    assert [row["side"] or "header" for row in result.values] == ["right", "header"]
    assert [row["view"] for row in result.values] == ["", ""]
    assert [row["bmi"] for row in result.values] == ["25", "25"]
    assert any("side" in note and "(films: 1); the headers are used" in note for note in result.notes)
    assert any("view" in note and "(films: 2); the headers are used" in note for note in result.notes)


def test_the_table_has_precedence_where_a_row_names_the_file(joined):
    rows = [{"image": "a.dcm", "side": "left"}, {"image": "b.dcm", "side": "left"}]
    result = joined(BILATERAL, rows)
    assert [row["side"] for row in result.values] == ["left", "left"]
    assert any("(films: 1); the table is used" in note for note in result.notes)


def test_a_patients_row_states_the_side_of_a_single_film_without_header(joined):
    rows = [{"patient_id": "P1", "side": "right"}, {"patient_id": "P2", "side": "left"}]
    films = {"a.png": ("P1", "", ""), "b.png": ("P1", "", ""), "c.png": ("P2", "", "")}
    result = joined(films, rows)
    assert [row["side"] for row in result.values] == ["", "", "left"]
    assert any("side" in note and "films: 2" in note and "column image" in note for note in result.notes)


def test_the_grade_of_one_knee_is_not_that_of_the_other(joined):
    result = joined(BILATERAL, [{"patient_id": "P1", "side": "right", "kl": "3"}])
    assert [row["kl"] for row in result.values] == ["3", ""]
    assert any("kl" in note and "films: 1" in note and "other knee" in note for note in result.notes)


def test_one_grade_for_two_knees_gives_a_note(joined):
    result = joined(BILATERAL, [{"patient_id": "P1", "kl": "3"}])
    assert [row["kl"] for row in result.values] == ["3", "3"]
    assert any("kl" in note and "films: 2" in note for note in result.notes)
    rows = [{"patient_id": "P1", "side": side, "kl": kl} for side, kl in (("right", "3"), ("left", "1"))]
    result = joined(BILATERAL, rows)
    assert [row["kl"] for row in result.values] == ["3", "1"] and not result.notes

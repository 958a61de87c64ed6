import numpy as np
import pandas as pd
import pytest

from kneefair_jax.data import metadata
from kneefair_jax.errors import InputError


def column(*cells, name="sex"):
    return pd.Series(cells, index=range(2, 2 + len(cells)), name=name)


USUAL = metadata.Options()


def problems_of(values, options=USUAL, edges=None):
    problems = []
    metadata.attribute(values, edges, problems, options)
    return problems


def test_levels_that_look_alike_are_refused_unless_allowed():
    values = column("Female", "male", "female", "Female", "\uff26emale")
    assert [row for row, _ in problems_of(values)] == [4, 6]
    assert all(
        "'Female' (row 2)" in text and "data.allow_similar_ids" in text for _, text in problems_of(values)
    )
    assert problems_of(values, metadata.Options(allow_similar=True)) == []
    assert problems_of(column("1", "01", "2", name="site"), edges=(1,)) == []  # numbers in bins are numbers


@pytest.mark.parametrize("level", ["f,race=x", "f, race=x", "a,b=missing"])
def test_a_level_that_would_be_another_group_is_refused(level):
    ((row, text),) = problems_of(column("m", level, level))
    assert row == 3 and repr(level) in text


@pytest.mark.parametrize("level", ["<=50", ">= 65", "Black, non-Hispanic", "a=b", "=1"])
def test_a_level_that_cannot_be_another_group_passes(level):
    assert problems_of(column("m", level)) == []


def test_a_name_that_would_be_another_group_and_a_column_of_dates_are_refused():
    assert problems_of(column("m", "f", name="a=b"))[0][0] == metadata.WHOLE_COLUMN
    assert problems_of(column("m", "f", name="a,b"))[0][0] == metadata.WHOLE_COLUMN
    assert "dates" in problems_of(column("1960-01-02", "", "1961-01-02", name="visit"))[0][1]


def test_spacings_by_hand():
    problems = []
    table = pd.DataFrame({"spacing_mm": column("0.3", "0.3x0.2", "0_3", "0.3X0.2", "", "-1", "1e999", "0,3")})
    spacing = metadata.spacings(table, problems)
    np.testing.assert_allclose(spacing[[0, 1, 3]], [[0.3, 0.3], [0.3, 0.2], [0.3, 0.2]], rtol=1e-6)
    assert np.isnan(spacing[[2, 4, 5, 6, 7]]).all()
    assert [row for row, _ in problems] == [4, 7, 8, 9]


@pytest.mark.parametrize("text", ["300", "0.0003", "0.3x300", "5.1", "0.009"])
def test_spacings_in_other_units_are_refused(text):
    problems = []
    assert np.isnan(metadata.spacings(pd.DataFrame({"spacing_mm": column(text)}), problems)).all()
    ((row, message),) = problems
    assert row == 2 and repr(text) in message and "millimeters" in message


def test_an_attribute_in_the_first_row_of_each_patient_alone_is_a_merged_cell():
    def rows(*cells):
        problems = []
        table = pd.DataFrame({"patient_id": column(*"aabbcc"), "sex": column(*cells)})
        metadata.check_merged(table, "sex", problems)
        return [row for row, _ in problems]

    assert rows("f", "", "m", "", "f", "") == [3, 5, 7]
    assert rows("f", "", "m", "", "", "") == [3, 5]
    assert rows("f", "", "m", "m", "f", "") == []  # some visits lack it
    assert rows("f", "", "", "", "", "") == []
    assert rows("", "f", "", "m", "", "f") == []


def test_a_blank_identifier_below_a_filled_one_has_its_remedy():
    table = pd.DataFrame({"case_id": column("a", "", "b"), "patient_id": column("", "p", "")})
    problems = []
    metadata.check_identifiers(table, problems, ("case_id", "patient_id"))
    texts = {row: text for row, text in problems}
    assert sorted(row for row, _ in problems) == [2, 3, 4]
    assert "unmerge" in texts[3] and "'a'" in texts[3] and "unmerge" in texts[4] and "unmerge" not in texts[2]


def test_a_word_for_missing_as_identifier_is_named_and_no_merged_cell(tmp_path):
    (tmp_path / "t.csv").write_text("case_id,patient_id\na,AB\nb,NK\nunknown,\nd,nk\nUnknown,CD\n")
    problems = []
    metadata.check_identifiers(metadata.read(tmp_path / "t.csv").cells, problems, ("case_id", "patient_id"))
    texts = dict(problems)
    assert sorted(row for row, _ in problems) == [3, 4, 4, 5, 6]
    assert "patient_id 'NK'" in texts[3] and "rename" in texts[3] and "unmerge" not in texts[3]
    assert "'nk'" in texts[5] and "'Unknown'" in texts[6]
    assert {"rename" in text for row, text in problems if row == 4} == {True, False}


def test_a_damaged_identifier_is_listed_once():
    table = pd.DataFrame({"case_id": column("7", "7.0", "8.0", "1.2E+11")})
    problems = []
    metadata.check_identifiers(table, problems, ("case_id",))
    assert sorted(row for row, _ in problems) == [3, 4, 5]
    assert "'7' (row 2)" in dict(problems)[3]


def test_dates_of_birth_are_refused_once_a_row(tmp_path):
    table = pd.DataFrame({"Age": column("1960-01-02", "50", "051Y", name="Age")})
    with pytest.raises(InputError, match="t.csv row 2: .*1960-01-02") as error:
        metadata.with_ages(table, tmp_path / "t.csv", ["Age"])
    assert len(str(error.value).splitlines()) == 1
    years, notes = metadata.with_ages(table[1:], tmp_path / "t.csv", ["Age"])
    assert years["Age"].tolist() == ["50", "51"] and len(notes) == 1


def test_an_age_is_computed_where_no_column_has_it(tmp_path):
    dates = {"DOB": ["1960-05-01", "1970-01-01"], "StudyDate": ["20260501", "20251231"]}
    table = pd.DataFrame(dates, index=[2, 3])
    years, notes = metadata.with_ages(table, tmp_path / "t.csv", ["age"])
    assert years["age"].tolist() == ["66", "55"] and len(notes) == 1
    assert "age" not in metadata.with_ages(table, tmp_path / "t.csv", ["sex"])[0]
    with pytest.raises(InputError, match="t.csv row 2: DOB '1960-05-01' is a date of birth.*study_date"):
        metadata.with_ages(table[["DOB"]], tmp_path / "t.csv", ["age"])


def test_covariates_are_numbers_or_words():
    table = pd.DataFrame({"age": column("50", "51.5", "", name="age"), "kl": column("mild", "", "severe")})
    problems = []
    covariates = metadata.confounders(table, (), problems)
    np.testing.assert_array_equal(covariates["age"], [50, 51.5, np.nan])
    assert covariates["kl"].tolist() == ["mild", "missing", "severe"] and not problems


@pytest.mark.parametrize("name", ["age", "bmi", "KL"])
@pytest.mark.parametrize(
    ("cells", "rows"),
    [
        (("50", "80+", "51"), [3]),
        (("mild", "severe", "2"), [2, 3]),
        (("22,5", "23", ""), [2]),
        (("22,5", "23,5", "24,1"), [2, 3, 4]),
    ],
)
def test_a_covariate_of_numbers_and_words_is_refused_by_row(name, cells, rows):
    table, problems = pd.DataFrame({name: column(*cells, name=name)}), []
    metadata.confounders(table, (), problems)
    assert [row for row, _ in problems] == rows and repr(cells[rows[0] - 2]) in problems[0][1]
    unchecked = []
    assert metadata.confounders(table, (name,), unchecked).empty and not unchecked


def test_sites_are_codes_whatever_they_look_like():
    problems = []
    table = pd.DataFrame({"site": column("1", "Boston", "2")})
    assert metadata.confounders(table, (), problems)["site"].tolist() == ["1", "Boston", "2"] and not problems


@pytest.mark.parametrize(
    ("name", "cells", "row"),
    [
        ("age", [str(50 + i) for i in range(12)] + ["80+"], 14),
        ("bmi", [f"{20 + i},5" for i in range(12)], 2),
        ("age", [f"about {50 + i}" for i in range(12)], metadata.WHOLE_COLUMN),
        ("bmi", [str(20 + i) for i in range(11)] + ["20.0"], metadata.WHOLE_COLUMN),
    ],
)
def test_measurements_never_become_levels(name, cells, row):
    problems = []
    metadata.attribute(column(*cells, name=name), None, problems)
    assert problems[0][0] == row and len(problems) == (12 if row == 2 else 1)


def test_codes_and_words_may_be_levels_of_an_attribute():
    problems = []
    levels = metadata.attribute(column("0", "1", "2", "TKR", name="kl"), None, problems)
    assert list(levels) == ["0", "1", "2", "TKR"] and not problems


def test_a_table_is_read_with_missing_words_and_as_written(tmp_path):
    (tmp_path / "t.csv").write_text("case_id,sex\n007,?\n8,f\n")
    table = metadata.read(tmp_path / "t.csv")
    assert table.cells["case_id"].tolist() == ["007", "8"] and table.cells["sex"].tolist() == ["", "f"]
    assert table.raw["sex"].tolist() == ["?", "f"] and list(table.cells.index) == [2, 3]
    assert table.notes == []
    assert len(metadata.word_notes(table.raw, ("sex",))) == 1 and metadata.word_notes(table.raw, ()) == []
    with pytest.raises(InputError, match="no such file"):
        metadata.read(tmp_path / "u.csv")

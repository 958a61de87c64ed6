import pandas as pd
import pytest

from kneefair_jax.data import ages


def convert(*cells, name="age", **columns):
    problems = []
    table = pd.DataFrame({name: cells} | columns, index=range(2, 2 + len(cells)))
    years, notes = ages.in_years(table, name, problems)
    assert years.name == name and list(years.index) == list(table.index)
    return years.tolist(), notes, problems


def test_dicom_ages_become_years():
    years, notes, problems = convert("065Y", "018M", "052W", "100D", "7", "", "65y", "60 Y")
    assert years[:2] == ["65", "1.5"]
    assert float(years[2]) == pytest.approx(52 * 7 / 365.25, rel=1e-5)
    assert float(years[3]) == pytest.approx(100 / 365.25, rel=1e-5)
    assert years[4:] == ["7", "", "65", "60"]
    assert len(notes) == 1 and "6 DICOM" in notes[0] and not problems


@pytest.mark.parametrize(
    "cell",
    [
        "1960-03-01",
        "1960/3/1",
        "01.03.1960",
        "3/1/60",
        "1-Mar-1960",
        "19600301",
        "1960",
        "1960.0",
        "1960-03-01 00:00",
        *("1961 03 02", "1961-13-45", "March 3, 1961", "Mar-61", "03/1961", "1961/03", "born 1961"),
    ],
)
def test_dates_and_years_of_birth_are_no_ages(cell):
    _, _, ((row, text),) = convert(cell)
    assert row == 2 and repr(cell) in text and "age in years" in text


@pytest.mark.parametrize(
    "cell",
    [
        "65",
        "65.5",
        "999",
        "-3",
        "50-64",
        "80+",
        "<=50",
        "",
        "65 and over",
        "45 to 54",
        "60 or 69",
        "12 10 14",
        "0.1961",
    ],
)
def test_what_may_be_an_age_passes(cell):
    assert convert(cell) == ([cell], [], [])


def test_a_decimal_comma_is_refused_with_the_remedy():
    _, _, ((row, text),) = convert("65,5")
    assert row == 2 and "65.5" in text


@pytest.mark.parametrize("cell", ["65 years", "65 yrs", "65yo", "1,5 years", "780 months", "65 Y.O."])
def test_a_unit_in_words_is_refused(cell):
    _, _, ((row, text),) = convert(cell)
    assert row == 2 and repr(cell) in text and "number of years" in text


@pytest.mark.parametrize("name", ["age", "birth_date"])
@pytest.mark.parametrize("exam", ["StudyDate", "exam_date", "date_of_visit", "V00XRAYDATE"])
def test_a_date_of_birth_beside_the_examination_s_becomes_completed_years(name, exam):
    births = ("1960-03-21", "19600321", "1960/03/22", "1960-02-29", "1960-03-21 00:00", "")
    dates = ("2026-03-21", "20260320", "2026-03-21", "2026-02-28", "", "2026-01-01")
    years, notes, problems = convert(*births, name=name, **{exam: dates})
    assert years == ["66", "65", "65", "65", "", ""] and not problems
    assert len(notes) == 1 and "5 dates of birth" in notes[0] and f"{exam} is missing for 1" in notes[0]
    assert "1960" not in notes[0]


@pytest.mark.parametrize(
    ("birth", "exam"),
    [("1960-03-01", "1959-12-31"), ("01.03.1960", "2026-01-01"), ("1960-03-01", "3/1/2026")],
)
def test_dates_that_give_no_age_are_refused_by_row(birth, exam):
    years, _, ((row, text),) = convert("50", birth, study_date=["2026-01-01", exam])
    assert row == 3 and "study_date" in text and years == ["50", ""]


def test_two_dates_of_the_examination_are_refused_by_name():
    _, _, ((row, text),) = convert("1960-03-01", study_date=["2026-01-01"], visit_date=["2020-01-01"])
    assert row == 2 and "study_date, visit_date" in text


def test_a_number_in_a_column_of_dates_of_birth_is_refused():
    _, _, ((row, text),) = convert("1960-03-01", "65", name="dob", study_date=["2026-01-01"] * 2)
    assert row == 3 and "'65'" in text


@pytest.mark.parametrize(
    "name",
    ["age", "Age", "V00AGE", "PatientAge", "age_years", "AGE at visit", "patient_age", "Alter", "edad"],
)
def test_names_of_ages(name):
    assert ages.is_age(name)


@pytest.mark.parametrize("name", ["stage", "image", "average", "Agent", "V00XRKL", "sex"])
def test_names_of_others(name):
    assert not ages.is_age(name)


def test_a_column_of_dicom_ages_by_its_cells():
    assert ages.is_dicom(pd.Series(["065Y", "", "006M"]))
    assert ages.is_dicom(pd.Series(["65Y", "40 Y", "70"]))
    for cells in (["", ""], ["65", "40"], ["12M", "24M"], ["065Y", "old"], ["2 years", "4 years"]):
        assert not ages.is_dicom(pd.Series(cells))

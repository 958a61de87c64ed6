import pandas as pd
import pytest

from kneefair_jax.data import ages


def convert(*cells, name="age", **columns):
    problems = []
    table = pd.DataFrame({name: cells} | columns, index=range(2, 2 + len(cells)))
    years, notes = ages.to_years(table, name, problems)
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
    assert ages.has_dicom_ages(pd.Series(["065Y", "", "006M"]))
    assert ages.has_dicom_ages(pd.Series(["65Y", "40 Y", "70"]))
    for cells in (["", ""], ["65", "40"], ["12M", "24M"], ["065Y", "old"], ["2 years", "4 years"]):
        assert not ages.has_dicom_ages(pd.Series(cells))


@pytest.mark.parametrize(
    "name", ["birth_date", "DOB", "PatientBirthDate", "date of birth", "Birthday", "patient_dob"]
)
def test_columns_of_births(name):
    assert ages.birth_columns(["sex", name, "birthweight"]) == [name]


@pytest.mark.parametrize(
    "name",
    ["exam_date", "StudyDate", "date_of_exam", "AcquisitionDate", "scan date", "xray_date", "visitday"],
)
def test_columns_of_examinations(name):
    assert ages.exam_columns(["image", name, "update", "date", "visit", "birth_date"]) == [name]


@pytest.mark.parametrize(
    ("birth", "exam", "years"),
    [
        ("2000-06-15", "2026-06-14", 25),
        ("2000-06-15", "2026-06-15", 26),
        ("2000-02-29", "2001-02-28", 0),
        ("2000-02-29", "2001-03-01", 1),
        ("2026-01-01", "20260101", 0),
        ("1960.3.1", "2026-03-02T10:00", 66),
    ],
)
def test_completed_years(birth, exam, years):
    assert ages.completed_years(birth, exam) == years


@pytest.mark.parametrize(
    ("birth", "exam"),
    [("2026-01-02", "2026-01-01"), ("2025-02-30", "2026-01-01"), ("2000-01-01", "1/2/2026")],
)
def test_what_gives_no_age(birth, exam):
    with pytest.raises(ValueError, match="after the examination|year, month and day"):
        ages.completed_years(birth, exam)


DATES = (
    *(
        "1961-03-02",
        "1961/3/2",
        "1961.03.02",
        "1961 03 02",
        "19610302",
        "19610302.0",
        "1961-13-45",
        "1961-03-02T10:00",
    ),
    *("02.03.1961", "3/2/1961", "2 3 1961", "3/2/61", "31-12-61", "12.31.61", "01.03.1961 00:00"),
    *(
        "March 3, 1961",
        "Mar. 3 1961",
        "3 March 1961",
        "3rd March 1961",
        "1-Mar-61",
        "03MAR1961",
        "03MAR1961:10:00",
    ),
    *("1. M\u00e4rz 1961", "3 f\u00e9vrier 1961", "3 de marzo de 1961", "24. Dezember 1961"),
)
PARTS = (
    "Mar-61",
    "March 1961",
    "03/1961",
    "1961/03",
    "1961-03",
    "born 1961",
    "1960s",
    "1960 to 1969",
    "10-Oct",
)
BANDS = (
    "45 to 54",
    "60 or 69",
    "50 and 59",
    "45 bis 54",
    "12 10 14",
    "45-54-64",
    "50-64",
    "65 and over",
    "80+",
    "old",
)


@pytest.mark.parametrize("cell", DATES)
def test_dates(cell):
    assert ages.is_date(cell)


@pytest.mark.parametrize("cell", PARTS)
def test_parts_of_dates(cell):
    assert ages.contains_date(cell) and not ages.is_date(cell)


@pytest.mark.parametrize("cell", [*BANDS, "5 maxima", "summary 3", "1st visit", "41 junior", "2100"])
def test_bands_and_words_are_no_dates(cell):
    assert not ages.contains_date(cell) and not ages.is_date(cell)


@pytest.mark.parametrize("cell", ["1961-13-45", "March 3, 1961", "02.03.1961", "1961-02-29"])
def test_a_date_that_states_no_day_without_doubt_gives_no_age(cell):
    with pytest.raises(ValueError, match="year, month and day"):
        ages.completed_years(cell, "2026-01-01")


def test_years_alone():
    assert ages.is_year("1960") and ages.is_year("1960.0")
    assert not ages.is_year("65") and not ages.is_year("1960-01-01")

import pytest

from kneefair_jax.data import birth_dates


@pytest.mark.parametrize(
    "name", ["birth_date", "DOB", "PatientBirthDate", "date of birth", "Birthday", "patient_dob"]
)
def test_columns_of_births(name):
    assert birth_dates.birth_columns(["sex", name, "birthweight"]) == [name]


@pytest.mark.parametrize(
    "name",
    ["exam_date", "StudyDate", "date_of_exam", "AcquisitionDate", "scan date", "xray_date", "visitday"],
)
def test_columns_of_examinations(name):
    assert birth_dates.exam_columns(["image", name, "update", "date", "visit", "birth_date"]) == [name]


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
    assert birth_dates.completed_years(birth, exam) == years


@pytest.mark.parametrize(
    ("birth", "exam"),
    [("2026-01-02", "2026-01-01"), ("2025-02-30", "2026-01-01"), ("2000-01-01", "1/2/2026")],
)
def test_what_gives_no_age(birth, exam):
    with pytest.raises(ValueError, match="after the examination|year, month and day"):
        birth_dates.completed_years(birth, exam)


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
    assert birth_dates.is_date(cell)


@pytest.mark.parametrize("cell", PARTS)
def test_parts_of_dates(cell):
    assert birth_dates.holds_date(cell) and not birth_dates.is_date(cell)


@pytest.mark.parametrize("cell", [*BANDS, "5 maxima", "summary 3", "1st visit", "41 junior", "2100"])
def test_bands_and_words_are_no_dates(cell):
    assert not birth_dates.holds_date(cell) and not birth_dates.is_date(cell)


@pytest.mark.parametrize("cell", ["1961-13-45", "March 3, 1961", "02.03.1961", "1961-02-29"])
def test_a_date_that_states_no_day_without_doubt_gives_no_age(cell):
    with pytest.raises(ValueError, match="year, month and day"):
        birth_dates.completed_years(cell, "2026-01-01")


def test_years_alone():
    assert birth_dates.is_year("1960") and birth_dates.is_year("1960.0")
    assert not birth_dates.is_year("65") and not birth_dates.is_year("1960-01-01")

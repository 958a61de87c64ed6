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


def test_years_alone():
    assert birth_dates.is_year("1960") and birth_dates.is_year("1960.0")
    assert not birth_dates.is_year("65") and not birth_dates.is_year("1960-01-01")

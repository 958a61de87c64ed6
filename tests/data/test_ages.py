import pandas as pd
import pytest

from kneefair_jax.data import ages


def convert(*cells, name="age"):
    problems = []
    years, notes = ages.in_years(pd.Series(cells, index=range(2, 2 + len(cells)), name=name), problems)
    return years.tolist(), notes, problems


def test_dicom_ages_become_years():
    years, notes, problems = convert("065Y", "018M", "052W", "100D", "7", "", "65y")
    assert years[:2] == ["65", "1.5"]
    assert float(years[2]) == pytest.approx(52 * 7 / 365.25, rel=1e-5)
    assert float(years[3]) == pytest.approx(100 / 365.25, rel=1e-5)
    assert years[4:] == ["7", "", "65"]
    assert len(notes) == 1 and "5 DICOM" in notes[0] and not problems


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
    ],
)
def test_dates_and_years_of_birth_are_no_ages(cell):
    _, _, ((row, text),) = convert(cell)
    assert row == 2 and repr(cell) in text and "age in years" in text


@pytest.mark.parametrize("cell", ["65", "65.5", "999", "-3", "50-64", "80+", "<=50", "", "1,5 years"])
def test_what_may_be_an_age_passes(cell):
    assert convert(cell) == ([cell], [], [])


def test_a_decimal_comma_is_refused_with_the_remedy():
    _, _, ((row, text),) = convert("65,5")
    assert row == 2 and "65.5" in text


@pytest.mark.parametrize(
    "name", ["age", "Age", "V00AGE", "PatientAge", "age_years", "AGE at visit", "patient_age"]
)
def test_names_of_ages(name):
    assert ages.is_age(name)


@pytest.mark.parametrize("name", ["stage", "image", "average", "Agent", "V00XRKL", "sex"])
def test_names_of_others(name):
    assert not ages.is_age(name)


def test_a_column_of_dicom_ages_by_its_cells():
    assert ages.is_dicom(pd.Series(["065Y", "", "006M"]))
    assert not ages.is_dicom(pd.Series(["065Y", "65"]))
    assert not ages.is_dicom(pd.Series(["", ""]))

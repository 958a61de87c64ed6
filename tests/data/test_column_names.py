from pathlib import Path

import pytest

from kneefair_jax.data import column_names
from kneefair_jax.errors import InputError

TABLE = Path("t.csv")


def test_synonyms_are_used_where_only_one_header_has_the_meaning():
    headers = ["Patienten-ID", "Geschlecht", "Größe", "Alter (Jahre)"]
    assert column_names.mapping(["patient_id", "sex", "age", "bmi"], headers, {}, TABLE) == {
        "patient_id": "Patienten-ID",
        "sex": "Geschlecht",
        "age": "Alter (Jahre)",
    }
    with pytest.raises(InputError, match=r"t\.csv: 'Gender' and 'Geschlecht' .*--columns sex=Gender"):
        column_names.mapping(["sex"], ["Gender", "Geschlecht"], {}, TABLE)
    with pytest.raises(InputError, match="--columns 'site=Site ID'"):
        column_names.mapping(["site"], ["Site ID", "Site Name"], {}, TABLE)
    stated = {"sex": "Geschlecht"}
    assert column_names.mapping(["sex"], ["Gender", "Geschlecht"], stated, TABLE) == stated
    assert column_names.mapping(["sex"], ["sex", "Gender"], {}, TABLE) == {"sex": "sex"}


@pytest.mark.parametrize(
    ("target", "headers"),
    {
        "patient_id": (
            "Patientennummer",
            "PatientID",
            "MRN",
            "Pat.-Nr.",
            "Nº de paciente",
        ),
        "hospital_number": ("Krankenhausnummer", "Hospital No.", "N Patient"),
        "case_id": ("Fallnummer", "Case No.", "Fall-ID", "Accession Number", "Numéro de cas"),
        "sex": ("Geschlecht", "Biological sex", "Género", "Sexe"),
        "age": ("Alter [Jahre]", "Age at exam", "Âge (années)", "Edad (años)"),
        "side": ("Seite", "Körperseite", "Lateralität", "Côté", "Lado"),
        "site": ("Klinik", "Hospital name", "Standort", "Hôpital", "Centro"),
        "race": ("Race/Ethnicity", "Raza"),
        "kl": (
            "KL-Grad",
            "KL Score",
            "Kellgren-Lawrence-Grad",
            "Kellgren-Lawrence score",
            "K&L",
            "K&L grade",
        ),
        "ethnicity": ("Ethnische Herkunft", "Etnia"),
    }.items(),
)
def test_a_header_means_one_column(target, headers):
    for header in headers:
        assert [name for name in column_names.SYNONYMS if column_names.synonyms(name, [header])] == [target]


def test_no_header_means_two_columns():
    forms = [form for forms in column_names.SYNONYMS.values() for form in forms]
    assert len(forms) == len(set(forms)) and forms == list(map(column_names.plain, forms))


def test_near_misses_are_suggested():
    assert column_names.suggestion("sex", ["Sex", "age"]) == "; did you mean 'Sex'?"
    assert column_names.suggestion("patient_id", ["patiend_id", "age"]) == "; did you mean 'patiend_id'?"
    assert column_names.suggestion("case_id", ["Fallnummer", "dice"]) == "; did you mean 'Fallnummer'?"
    assert column_names.suggestion("sex", ["dice"]) == ""
    with pytest.raises(InputError, match=r"no column 'Gendre'; did you mean 'Gender'\?"):
        column_names.mapping([], ["Gender"], {"sex": "Gendre"}, TABLE)

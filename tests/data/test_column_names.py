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
    stated = {"sex": "Geschlecht"}
    assert column_names.mapping(["sex"], ["Gender", "Geschlecht"], stated, TABLE) == stated
    assert column_names.mapping(["sex"], ["sex", "Gender"], {}, TABLE) == {"sex": "sex"}


def test_near_misses_are_suggested():
    assert column_names.suggestion("sex", ["Sex", "age"]) == "; did you mean 'Sex'?"
    assert column_names.suggestion("patient_id", ["patiend_id", "age"]) == "; did you mean 'patiend_id'?"
    assert column_names.suggestion("sex", ["dice"]) == ""
    with pytest.raises(InputError, match=r"no column 'Gendre'; did you mean 'Gender'\?"):
        column_names.mapping([], ["Gender"], {"sex": "Gendre"}, TABLE)

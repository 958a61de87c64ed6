import pandas as pd
import pytest

from kneefair_jax.data import metadata
from kneefair_jax.data.oai import attributes, tables
from kneefair_jax.errors import InputError
from tests import oai_tree

BINS = {"age": (50, 64)}


def films(*ks, visit="00", sides=("",)):
    rows = [
        {
            "case_id": oai_tree.name(k) + side,
            "patient_id": oai_tree.patient(k),
            "visit": visit,
            "barcode": oai_tree.barcode(k),
            "side": side,
        }
        for k in ks
        for side in sides
    ]
    return pd.DataFrame(rows)


def knees(*ks):
    return films(*ks, sides=("right", "left"))


def add(folder, cases, *names, bins=BINS):
    return attributes.add(cases, tables.find(folder), names, bins).cases


# Codes and labels, cases of names, separators: the same four patients.
VARIANTS = [
    {},
    {"bare": True},
    {"bare": True, "lower": True, "separator": ",", "enrollees": "ENROLLEES.csv", "exams": "xray00.csv"},
    {"clinical": "SubjectChar00.txt", "readings": "KXR_SQ_BU00.txt", "enrollees": "enrollees.TXT"},
    {"clinical": "deep/er/allclinical00.csv", "readings": "kXR_SQ_BU00.txt", "separator": "\t"},
    {"clinical": "SUBJECTCHAR00.TXT", "readings": "KXR_SQ_Bu00.csv", "lower": True},
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_way_to_write_the_tables_gives_the_same_attributes(tmp_path, variant):
    oai_tree.write_tables(tmp_path, 4, **variant)
    cases = add(tmp_path, knees(0, 3), "sex", "race", "age", "bmi", "kl", "site", "side", bins=BINS)
    assert list(cases) == ["case_id", "patient_id", "side", "sex", "race", "age", "bmi", "kl", "site"]
    assert cases["patient_id"].tolist() == ["9000099", "9000099", "9003099", "9003099"]
    assert cases["side"].tolist() == ["right", "left"] * 2
    assert cases["sex"].tolist() == ["male", "male", "female", "female"]
    assert cases["race"].tolist() == ["White", "White", "Black", "Black"]
    assert cases["age"].tolist() == ["<=50", "<=50", ">=65", ">=65"]  # 46 and 67
    # By the tables' own name it is no less an age: none stands beside its bins.
    assert "age" not in add(tmp_path, knees(0, 3), "V00AGE", bins={"V00AGE": (50, 64)})
    assert cases["bmi"].tolist() == ["20", "20", "21.5", "21.5"]
    # (k + 2 side) % 5 of the readings of project 15
    assert cases["kl"].tolist() == ["2", "4", "0", "2"]
    assert cases["site"].tolist() == ["A", "A", "D", "D"]
    film = add(tmp_path, films(0, 3), "kl_right", "kl_left")
    assert film["kl_right"].tolist() == ["2", "0"] and film["kl_left"].tolist() == ["4", "2"]
    assert "side" not in film


def test_any_column_by_its_own_name_and_what_is_missing(tmp_path):
    oai_tree.write_tables(tmp_path, 4)
    oai_tree.table(
        tmp_path / "Extra.txt",
        ["ID", "V00MEDS", "V00LEVEL"],
        [["9000099", "1: Yes", "low"], ["9001099", ".: Missing Form/Incomplete Workbook", "high"]],
    )
    cases = add(tmp_path, films(0, 1, 2, 3, 9), "v00meds", "V00LEVEL", "V00EXPOSE", "sex", "age")
    assert cases["v00meds"].tolist() == ["Yes", *["missing"] * 4]
    assert cases["V00LEVEL"].tolist() == ["low", "high", *["missing"] * 3]
    assert cases["V00EXPOSE"].tolist() == ["0"] * 4 + ["missing"]  # by barcode
    assert cases["sex"].tolist()[3:] == ["female", "missing"]
    assert cases["age"].tolist()[4] == "missing"


def test_words_for_missing_are_missing_and_counted(tmp_path):
    oai_tree.write_tables(tmp_path, 5)
    cells = ["1: Yes", "9: Unknown", "?", "0: None", ".M: Missing"]
    rows = [[oai_tree.patient(k), cell, cell] for k, cell in enumerate(cells)]
    oai_tree.table(tmp_path / "Extra.txt", ["ID", "V00MEDS", "V00AGE"], rows)
    result = attributes.add(films(*range(5)), tables.find(tmp_path), ("V00MEDS",), {})
    assert result.cases["V00MEDS"].tolist() == ["Yes", "missing", "missing", "None", "missing"]
    (note,) = [note for note in result.notes if "V00MEDS" in note]
    assert "Extra.txt" in note and "2 cells" in note and "'Unknown' (1)" in note and "'?' (1)" in note
    # A word gives way to the number of another table.
    oai_tree.table(tmp_path / "AAge.txt", ["ID", "V00AGE"], [[oai_tree.patient(1), "unknown"]])
    assert add(tmp_path, films(1), "age")["age"].tolist() == ["51-64"]


def test_the_age_is_the_visit_s_where_a_table_has_it_and_the_grade_only_there(tmp_path):
    oai_tree.write_tables(tmp_path, 3)
    oai_tree.table(tmp_path / "AllClinical06.txt", ["ID", "V06AGE"], [["9000099", "70"], ["9001099", "."]])
    oai_tree.table(
        tmp_path / "kxr_sq_bu06.txt",
        ["id", "side", "readprj", "v06xrkl"],
        [["9000099", "1: Right", "15", "4: 4"], ["9000099", "2: Left", "42", "1"]],
    )
    cases = pd.concat([films(0), films(0, 1, visit="06")], ignore_index=True)
    given = add(tmp_path, cases, "age", "kl_right", "kl_left")
    assert given["age"].tolist() == ["<=50", ">=65", "51-64"]  # 46; 70; 53 at enrolment
    assert given["kl_right"].tolist() == ["2", "4", "missing"]
    assert given["kl_left"].tolist() == ["4", "missing", "missing"]


@pytest.mark.parametrize(
    ("cases", "names", "message"),
    [
        (films(0), ("kl",), "kxr_sq_bu00.txt .* kl by knee.* kl_right or kl_left.* data.knees"),
        (films(0), ("sex_right",), "Enrollees.txt .* sex by patient: name sex"),
        (films(0), ("sex", "sex"), "'sex' is .* twice"),
        (films(0), ("patient_id",), "'patient_id' is .* attribute"),
        (films(0), ("V00XRJSM",), "no table has 'V00XRJSM'; .*V00XRKL.*side"),
        (films(0), ("side",), "'side' is .* knees: set data.knees='split'"),
        (films(0), ("smoker",), "ID, VERSION, V00AGE, P01BMI, P02HISP.*Add the table"),
        (films(0, visit="10"), ("kl_left",), "no table has 'kl_left' .column V##XRKL."),
        (films(8, 9), ("sex",), "column 'sex' is empty"),
        (films(*range(12)), ("bmi",), "holds 12 different numbers; set data.bins for it"),
    ],
)
def test_attributes_that_cannot_be_had(tmp_path, cases, names, message):
    oai_tree.write_tables(tmp_path, 12 if "bmi" in names else 4)
    with pytest.raises(InputError, match=message):
        add(tmp_path, cases, *names)


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        (
            "P02SEX",
            [["9000099", "7: Robot"]],
            "sex.txt: P02SEX holds a code that the OAI does not define, for",
        ),
        ("V00AGE", [["9000099", "forty"]], "'V00AGE' is not a number for case 9000099_00m_00180901; correct"),
        ("X", [["9000099", "a"], ["9000099", "b"]], "'X' has several values for case 9000099_00m_00180901"),
    ],
)
def test_values_that_cannot_be_used_are_not_shown(tmp_path, name, rows, message):
    oai_tree.table(tmp_path / "sex.txt", ["ID", name], rows)
    with pytest.raises(InputError, match=message) as error:
        add(tmp_path, films(0), "sex" if name == "P02SEX" else name, bins={"V00AGE": (50,)})
    assert "Robot" not in str(error.value) and "forty" not in str(error.value)


def test_levels_that_look_alike_are_refused_unless_allowed(tmp_path):
    rows = [[oai_tree.patient(k), level] for k, level in enumerate(("Center", "center", "other"))]
    oai_tree.table(tmp_path / "centers.txt", ["ID", "CENTER"], rows)
    with pytest.raises(
        InputError, match=r"'Center' and 'center' look like .*--config\.data\.allow_similar_ids"
    ) as error:
        add(tmp_path, films(0, 1, 2), "CENTER")
    assert "row" not in str(error.value) and oai_tree.patient(0) not in str(error.value)
    allowed = metadata.Options(allow_similar=True)
    cases = attributes.add(films(0, 1, 2), tables.find(tmp_path), ("CENTER",), BINS, allowed).cases
    assert cases["CENTER"].tolist() == ["Center", "center", "other"]

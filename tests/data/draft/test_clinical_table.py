import pytest

from kneefair_jax.data.draft import clinical_table
from kneefair_jax.data.draft.identity import Identifiers
from kneefair_jax.errors import InputError

NAMES = ["Brzezinski", "Kowalczyk", "Li", "Podolski", "Quast"]


def read(tmp_path, text, columns=None, confirmed=(), found=None):
    path = tmp_path / "t.csv"
    path.write_text(text)
    return clinical_table.read(path, columns or {}, {}, found or Identifiers(), confirmed)


def rows(header, *columns):
    return "\n".join([header, *(",".join(cells) for cells in zip(*columns, strict=True))])


def test_numbers_that_are_identifiers_are_not_written(tmp_path):
    text = "MRN,bmi,code,kl\n7654321,7654321,7654321,2\n25,25,25,3\n"
    cells = read(tmp_path, text, {"ref": "code"}).cells
    assert cells["bmi"].tolist() == cells["ref"].tolist() == ["", "25"]
    assert cells["kl"].tolist() == ["2", "3"]


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        *(
            ("bmi", "03012345"),
            ("bmi", "9"),
            ("kl", "5"),
            ("kl", "11"),
        ),
        *(("ref", "0301234567"), ("ref", "3.1e7"), ("ref", "+49 30 12-34-56"), ("age", "121"), ("age", "-1")),
    ],
)
def test_implausible_values_are_refused_by_row(tmp_path, column, cell):
    with pytest.raises(InputError, match=rf"t\.csv row 3: {column} .*; (correct|leave)") as error:
        read(tmp_path, f"MRN,{column}\nP-1,\nP-2,{cell}\n", {column: column})
    message = str(error.value).removeprefix(f"{tmp_path / 't.csv'} row 3").replace("120", "")
    assert cell not in message or len(cell) < 3


def test_words_among_measures_are_left_empty_and_noted(tmp_path):
    text = "MRN,bmi,kl\nP-1,25.5,TKR\nP-2,heavy,Kowalczyk\nP-3,n/a,2\n"
    table = read(tmp_path, text)
    assert table.cells["bmi"].tolist() == ["25.5", "", ""] and table.cells["kl"].tolist() == ["TKR", "", "2"]
    assert [note for note in table.notes if "1 of 3 cells of bmi" in note]
    assert [note for note in table.notes if "1 of 3 cells of kl" in note]
    assert not any("heavy" in note or "Kowalczyk" in note for note in table.notes)


def test_words_among_measures_are_no_identifiers(tmp_path):
    found = Identifiers()
    text = "MRN,bmi,kl,race,ref\nP-1,obese,2,British,mild\nP-2,30,mild,White,obese\nP-3,British,3,White,x\n"
    text += "P-4,22,1,,x\n"
    cells = read(tmp_path, text, {"ref": "ref"}, found=found).cells
    assert cells["bmi"].tolist() == ["", "30", "", "22"] and cells["kl"].tolist() == ["2", "", "3", "1"]
    assert cells["race"].tolist() == ["British", "White", "White", ""]
    assert cells["ref"].tolist() == ["mild", "obese", "x", "x"]
    assert not found.found_in("images/obese/film.dcm")


def test_columns_left_out_are_listed_without_values(tmp_path):
    """At most ten names; numbers and identifiers among the headers are counted, as they may be a patient's cells."""

    def note(header, columns=None):
        cells = ",".join(f"c{i}" for i in range(header.count(",") + 1))
        notes = read(tmp_path, f"{header}\n{cells}\n", columns).notes
        return [text.partition("left out: ")[2] for text in notes if "left out" in text]

    assert note("MRN,race") == [] and note("MRN,birth_date") == []
    assert note("MRN,Size,Name") == ["'Size', 'Name'"]
    assert note("MRN,Size,7654321,c0 notes") == ["'Size' and 2 more"]
    assert note("MRN," + ",".join(f"x{i}y" for i in range(13))) == [
        ", ".join(f"'x{i}y'" for i in range(10)) + " and 3 more"
    ]
    # No known header: the first row may be a patient's.
    assert note("Kowalczyk,Anna", {"patient_id": "Kowalczyk"}) == ["1"]


def test_roman_grades_are_numbers_and_no_identifiers(tmp_path):
    grades = ["I", "II", "III", "iv", "KL II", "0", "Grad 3"]
    centers = [f"Center {numeral}" for numeral in ("I", "II", "III", "IV", "I", "II", "I")]
    ids = [f"P-{number}" for number in range(7)]
    table = read(tmp_path, rows("MRN,kl,site,second_reading", ids, grades, centers, grades[::-1]))
    assert table.cells["kl"].tolist() == ["1", "2", "3", "4", "2", "0", "3"]
    assert table.cells["site"].tolist() == centers
    assert [note for note in table.notes if "'II' as 2" in note]


@pytest.mark.parametrize(("column", "number"), [("bmi", "25"), ("kl", "2")])
def test_a_measure_of_words_is_refused_by_row(tmp_path, column, number):
    text = f"MRN,{column}\nP-1,Kowalczyk\nP-2,obese\nP-3,{number}\nP-4,\nP-5,\n"
    with pytest.raises(InputError, match=rf"row 2: {column} .*correct(.|\n)*row 3: {column}") as error:
        read(tmp_path, text)
    assert "Kowalczyk" not in str(error.value)


@pytest.mark.parametrize(
    "cell", ["66", "66 Jahre", "66 years", "066Y", "66y", "66 y/o", "66 ans", "66 a\u00f1os"]
)
def test_ages_with_a_unit_are_years(tmp_path, cell):
    table = read(tmp_path, f"MRN,age\nP-1,{cell}\n")
    assert table.cells["age"].tolist() == ["66"]
    assert not [note for note in table.notes if "1 ages" in note]


@pytest.mark.parametrize("cell", ["66 kg", "66 weeks old", "Jahre", "about 66"])
def test_other_texts_are_no_ages(tmp_path, cell):
    with pytest.raises(InputError, match=r"t\.csv row 2: age .*correct"):
        read(tmp_path, f"MRN,age\nP-1,{cell}\n")


@pytest.mark.parametrize(
    ("cell", "grade"),
    [("0", "0"), ("4", "4"), ("2.0", "2.0"), ("KL 2", "2"), ("grade 3", "3"), ("TKR", "TKR")],
)
def test_grades_are_read(tmp_path, cell, grade):
    assert read(tmp_path, f"MRN,kl\nP-1,{cell}\n").cells["kl"].tolist() == [grade]


def test_names_in_columns_that_are_not_written_are_looked_for(tmp_path):
    ids = [f"P-{number}" for number in range(1, 6)]
    race = [NAMES[0], "White", "Black", NAMES[2], "White"]
    remarks = [f"{name} came" if index % 2 else "none" for index, name in enumerate(NAMES)]
    phones = [f"030-99887{number}" for number in range(5)]
    text = rows("MRN,Familie,race,notes,Ruf,call", ids, NAMES, race, remarks, phones, phones)
    table = read(tmp_path, text, {"remarks": "notes", "contact": "call"})
    assert table.cells["race"].tolist() == ["", "White", "Black", "", "White"]
    assert table.cells["remarks"].tolist() == ["none", "", "none", "", "none"]
    assert set(table.cells["contact"]) == {""}


def test_a_value_that_many_patients_share_is_no_identifier(tmp_path):
    ids = [f"P-{number}" for number in range(1, 7)]
    found = Identifiers()
    text = rows("MRN,diagnosis,Familie", ids, ["Gonarthrose"] * 5 + ["Fraktur"], [*NAMES, "Zander"])
    read(tmp_path, text, found=found)
    assert not found.found_in("Gonarthrose") and found.found_in("Fraktur") and found.found_in("zander.png")


def test_texts_of_single_patients_need_a_confirmation(tmp_path):
    ids = [f"P-{number}" for number in range(1, 6)]
    text = rows("MRN,Familie", ids, NAMES)
    with pytest.raises(
        InputError, match="column remarks: .*5 .*5 patients.*--confirm-columns remarks"
    ) as error:
        read(tmp_path, text, {"remarks": "Familie"})
    assert not [name for name in NAMES if name in str(error.value)]
    cells = read(tmp_path, text, {"remarks": "Familie"}, ["remarks"]).cells
    assert cells["remarks"].tolist() == NAMES
    races = ["White", "Black", "Asian", "Hispanic", "Other"]
    assert read(tmp_path, rows("MRN,race", ids, races)).cells["race"].tolist() == races
    with pytest.raises(InputError, match=r"--confirm-columns race: .*--columns"):
        read(tmp_path, text, {"remarks": "Familie"}, ["race", "remarks"])


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("MRN,sex\nP-1,Brzezinski Zbigniew\n", {}),
        ("MRN,side\nP-1,Brzezinski\n", {}),
        ("MRN,Alter\nP-1,Brzezinski\n", {}),
        ("Brzezinski,Zbigniew,f\nKowalczyk,Jan,m\n", {}),
        ("Brzezinski,Zbigniew,f\nKowalczyk,Jan,m\n", {"patient_id": "Brzezinsky"}),
        ("Brzezinski,Zbigniew,f\nKowalczyk,Jan,m\n", {"sex": "Sex"}),
    ],
)
def test_messages_repeat_no_cell(tmp_path, text, columns):
    with pytest.raises(InputError, match=r"t\.csv( row 2)?: ") as error:
        read(tmp_path, text, columns)
    assert not [name for name in ("Brzezinski", "Zbigniew", "Jan") if name in str(error.value)]


def test_the_text_above_the_header_may_identify_a_patient(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("Name: Zander,geb. 01.02.1950\n\nfile,sex,age,bmi,kl\na.png,f,60,25,2\n")
    identifiers = Identifiers()
    clinical_table.read(path, {}, {}, identifiers, ())
    for text in ("zander/film.dcm", "film_01021950.png", "film_1950-02-01.png"):
        assert identifiers.found_in(text)
    assert not identifiers.found_in("knee/film_2.png")

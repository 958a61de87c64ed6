import pytest
from hypothesis import given
from hypothesis import strategies as st

from kneefair_jax.data.oai import tables
from kneefair_jax.errors import InputError


@pytest.mark.parametrize(
    ("cell", "code", "label"),
    [
        ("2: Female", "2", "Female"),
        ("2", "2", "2"),
        ("2.0", "2", "2.0"),
        ("A: Ohio: Columbus", "A", "Ohio: Columbus"),
        ("27.50", "27.50", "27.50"),
        ("12:30", "12:30", "12:30"),
        ("note: none", "note: none", "note: none"),
    ],
)
def test_codes_and_labels(cell, code, label):
    assert (tables.code(cell), tables.label(cell)) == (code, label)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("016600180901", "00180901"),
        ("16600180901", "00180901"),
        ("16600180901.0", "00180901"),
        ("166-0018-0901", "00180901"),
        ("00180901", "00180901"),
        ("180901", "00180901"),
        ("16610063803", "10063803"),
        ("123456789", ""),
        ("exam Number", ""),
        ("", ""),
    ],
)
def test_barcodes(text, expected):
    assert tables.barcode(text) == expected


@given(st.integers(0, 10**8 - 1))
def test_a_barcode_is_the_same_however_it_is_written(number):
    eight = f"{number:08d}"
    ways = [eight, str(number), f"0166{eight}", f"166{eight}"]
    assert {tables.barcode(way) for way in ways} == {eight}


CELLS = [
    "a",
    ".: Missing Form/Incomplete Workbook",
    ". : Not asked",
    ".",
    ".A",
    ".a: Unknown",
    "",
    "NA",
    "nan",
]


@pytest.mark.parametrize("separator", ["|", ",", "\t"])
def test_what_is_missing_is_empty_and_rows_keep_their_line(tmp_path, separator):
    rows = [f"90000{i:02d}{separator}{cell}" for i, cell in enumerate(CELLS)]
    path = tmp_path / "a.txt"
    path.write_text("\ufeffid" + separator + " V00x \n" + "\n\n".join(rows), encoding="utf-8")
    table = tables.header(path)
    assert table.columns == ("ID", "V00X") and table.separator == separator
    frame = tables.read(table, ["V00X", "ID"])
    assert frame["V00X"].tolist() == ["a", *[""] * 8]
    assert frame.index.tolist() == list(range(2, 19, 2))
    assert tables.patients(table) == {f"90000{i:02d}" for i in range(9)}


def test_an_id_keeps_its_seven_digits(tmp_path):
    (tmp_path / "a.csv").write_text("ID,V00AGE\n9000099.0,50\n0000012,60\n")
    assert tables.patients(tables.header(tmp_path / "a.csv")) == {"9000099", "0000012"}
    (tmp_path / "a.csv").write_text("ID,V00AGE\n9000099,50\n12,60\n,70\n")
    with pytest.raises(InputError, match=r"(?s)2 problems.*row 3: ID is not of seven digits.*row 4: ID"):
        tables.patients(tables.header(tmp_path / "a.csv"))


def test_find_goes_everywhere_but_into_images(tmp_path):
    for name in ("a/Enrollees.TXT", "b/c/KXR_SQ_bu00.csv", "00m/x.txt", "IMAGES/y.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("Id|X\n9000099|1\n")
    (tmp_path / "readme.txt").write_text("Read me")
    (tmp_path / "other.csv").write_text("name,value\na,1\n")
    (tmp_path / "data.bin").write_bytes(b"\0\xff")
    found = tables.find(tmp_path)
    assert set(found) == {"enrollees", "kxr_sq_bu00"}
    assert found["enrollees"].path == tmp_path / "a/Enrollees.TXT"
    (tmp_path / "enrollees.csv").write_text("ID,X\n9000099,1\n")
    with pytest.raises(InputError, match="the same table; keep one"):
        tables.find(tmp_path)


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return tables.find(folder)


def test_columns_are_keyed_by_patient_knee_or_film(tmp_path):
    found = write(
        tmp_path,
        AllClinical00="ID|V00AGE\n9000001|50\n9000002|.\n",
        SubjectChar00="ID|V00AGE\n9000001|51\n9000002|60.0\n",
        kXR_SQ_BU00="ID|SIDE|READPRJ|V00XRKL\n9000001|1: Right|15|3\n9000001|1: Right|37|1\n9000001|2|15: KL|0\n",
        XRay00="ID|V00XRBARCD|V00EXPOSE\n9000001|16600000001|0\n9000001|016600000002|1\n",
        kMRI="ID|SIDE|READPRJ|VALUE\n9000001|1|15|a\n9000001|1|22|b\n",
    )
    age = tables.column(found, "V00AGE")
    assert age.cells == {("9000001", ""): ["50"], ("9000002", ""): ["60.0"]}
    grade = tables.column(found, "V00XRKL")
    assert grade.by_side and grade.cells == {("9000001", "right"): ["3"], ("9000001", "left"): ["0"]}
    expose = tables.column(found, "V00EXPOSE")
    assert expose.by_film and expose.cells == {("00000001", ""): ["0"], ("00000002", ""): ["1"]}
    # Project 15 means something else elsewhere, so nothing is chosen.
    assert tables.column(found, "VALUE").cells == {("9000001", "right"): ["a", "b"]}
    assert tables.column(found, "V01AGE") is None


def test_malformed_tables(tmp_path):
    (tmp_path / "a.txt").write_text("ID|X|Y\n9000001|1\n9000002|1|2|3\n9000003|1|2|\n9000004|1|2\n")
    table = tables.header(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"(?s)2 problems.*row 2: 2 cells under 3.*row 3: 4 cells"):
        tables.read(table, ["X"])
    (tmp_path / "a.txt").write_text("ID|x|X\n9000001|1|2\n")
    with pytest.raises(InputError, match="column occurs twice"):
        tables.header(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text("")
    assert tables.header(tmp_path / "a.txt") is None


def test_quotes(tmp_path):
    (tmp_path / "a.csv").write_text('"ID","X"\n"9000001","a, b"\n')
    assert tables.read(tables.header(tmp_path / "a.csv"), ["X"])["X"].tolist() == ["a, b"]
    (tmp_path / "a.txt").write_text('ID|X\n9000001|"5 inches\n"9000002"|7"\n')
    assert tables.read(tables.header(tmp_path / "a.txt"), ["ID"])["ID"].tolist() == ["9000001", "9000002"]

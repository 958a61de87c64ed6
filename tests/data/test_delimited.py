import pytest

from benchmarks.hostile_inputs import table_files
from kneefair_jax.data import delimited, metadata
from kneefair_jax.errors import InputError


def read(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return delimited.read(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_dialect_gives_the_same_cells(tmp_path, encoding, mark, end):
    lines = [
        mark.join(["case_id", '"a b"', "x"]),
        mark.join(["0007", f'"u{mark} v"', " é "]),
        "",
        mark.join("123"),
    ]
    rows = read(tmp_path, end.join(lines), encoding)
    assert rows.header == ["case_id", "a b", "x"]
    assert rows.cells == {2: ["0007", f"u{mark} v", "é"], 4: ["1", "2", "3"]}
    assert len(rows.notes) == (mark != "," or not encoding.startswith("utf-8"))


@pytest.mark.parametrize("code", ["utf-16-le", "utf-16-be"])
def test_utf16_of_either_order(tmp_path, code):
    mark = "\ufeff".encode(code)
    assert read(tmp_path, mark + "case_id\tx\n1\té\n".encode(code)).cells == {2: ["1", "é"]}
    with pytest.raises(InputError, match="save it as UTF-8"):
        read(tmp_path, "case_id\tx\n1\t2\n".encode(code))


def test_the_delimiter_is_the_one_that_yields_the_key(tmp_path):
    assert read(tmp_path, "case_id;note, long;x\n1;a, b;c\n").header == ["case_id", "note, long", "x"]
    assert read(tmp_path, "case_id,a;b;c,x\n1,2;3;4,5\n").header == ["case_id", "a;b;c", "x"]
    assert read(tmp_path, "id;x\n1;2\n").header == ["id", "x"]  # without the key, by the number of cells
    assert read(tmp_path, "\u200bcase_id\u200b;x\n1;2\n").header == ["case_id", "x"]
    rows = read(tmp_path, "sep=;\r\ncase_id;x\r\n1;2\r\n")
    assert rows.header == ["case_id", "x"] and rows.cells == {3: ["1", "2"]}


def test_rows_above_the_header_are_titles(tmp_path):
    for text in ("Study, 2024\n\n", "Study\n", "\n\n", "Study;;;\n;;;\n"):
        rows = read(tmp_path, f"{text}case_id;sex;age;bmi\na;f;60,5;25\n")
        assert rows.header == ["case_id", "sex", "age", "bmi"]
        assert list(rows.cells.values()) == [["a", "f", "60.5", "25"]]
        assert list(rows.cells) == [text.count("\n") + 2]
        assert sum("is the header" in note for note in rows.notes) == ("Study" in text)
    data = "ID,kind\n17,Patient\n18,control\n"  # a level is no header
    (tmp_path / "t.csv").write_text(data)
    assert delimited.read(tmp_path / "t.csv", ["patient"]).header == ["ID", "kind"]
    (tmp_path / "t.csv").write_text("Patient\nPatient ID,kind\n17,a\n")  # a title is no header
    assert delimited.read(tmp_path / "t.csv", ["patient", "patientid"]).header == ["Patient ID", "kind"]
    assert read(tmp_path, "case_id\na\n").header == ["case_id"]
    assert read(tmp_path, "x\n" * 10 + "case_id,sex\na,f\n").header == ["x"]


def test_decimal_commas_by_column(tmp_path):
    text = "case_id;dice;codes;mixed;n;spacing_mm\n1,5;0,5;1,2 a;0,5;3;0,3x0,25\n2,5;1;b;1.234,5;4;0,3\n"
    rows = read(tmp_path, text)
    assert rows.cells == {
        2: ["1,5", "0.5", "1,2 a", "0,5", "3", "0.3x0.25"],
        3: ["2,5", "1", "b", "1.234,5", "4", "0.3"],
    }
    assert next(note for note in rows.notes if "decimal" in note).endswith("dice, spacing_mm")
    assert read(tmp_path, 'case_id,x\n1,"0,5"\n').cells == {2: ["1", "0,5"]}


def test_windows_text_is_read_with_a_note(tmp_path):
    rows = read(tmp_path, "case_id;sex\n1;männlich\n", "cp1252")
    assert rows.cells == {2: ["1", "männlich"]}
    assert "Windows-1252" in rows.notes[0] and "'ä' in row 2" in rows.notes[0]
    for damaged in ("case_id,x\n1,é\n".encode() + b"\xe9", b"case_id,x\n1,\x81\n", b"case_id,x\n1,\xac\n"):
        with pytest.raises(InputError, match=r"malformed CSV.*save it as UTF-8"):
            read(tmp_path, damaged)


def test_the_delimiter_of_a_table_without_a_known_column(tmp_path):
    def header(text):
        (tmp_path / "t.csv").write_text(text)
        return delimited.read(tmp_path / "t.csv", ()).header

    assert header("MRN;Alter\n1;65,5\n2;70\n") == ["MRN", "Alter"]
    assert header("MRN\tnote\n1\ta, b\n") == ["MRN", "note"]
    assert header('MRN;note\n1;"a\nb"\n') == ["MRN", "note"]
    with pytest.raises(InputError, match=r"row 1: commas and semicolons .*sep="):
        header("a,b;c\n1,5;2\n2,5;3\n")


FAST = [
    kind
    for kind, (name, _) in table_files.REFUSED.items()
    if name.endswith((".csv", ".xlsx"))
    and not kind.startswith(("a million", "a row of", "a header of", "a cell"))
]
# Refused by `metadata.read`, which knows what a row is.
METADATA = {"a header twice", "empty", "a header alone", "line feeds alone", "a short row"}


@pytest.mark.parametrize("kind", [kind for kind in FAST if "3 GiB" not in kind])
def test_bad_tables_are_refused_by_name(tmp_path, kind):
    name, write = table_files.REFUSED[kind]
    write(tmp_path / name)
    with pytest.raises(InputError, match=name[:20]):
        (metadata.read if kind in METADATA else delimited.read)(tmp_path / name)


@pytest.mark.parametrize("kind", table_files.WORKS)
def test_odd_tables_hold_all_rows(tmp_path, kind):
    name, write = table_files.WORKS[kind]
    write(tmp_path / name)
    table = delimited.read(tmp_path / name)
    assert table.header == ["case_id", "sex", "dice"]
    assert [row[0] for row in table.cells.values()] == [f"c{n}" for n in range(40)]
    assert list(table.cells) == list(range(2, 42))


@pytest.mark.parametrize(
    ("limit", "text", "row"),
    [
        ("LONGEST_LINE", "case_id,a\nb,1\nc,22222\n", "row 3"),
        ("MOST_COLUMNS", "case_id" + ",a" * 10 + "\n", "11 columns"),
        ("MOST_CELLS", "case_id,a\n" + "b,1\n" * 9, "20 cells"),
    ],
)
def test_a_table_beyond_a_limit(tmp_path, monkeypatch, limit, text, row):
    path = tmp_path / "t.csv"
    path.write_text(text)
    delimited.read(path)
    monkeypatch.setattr(delimited, limit, 10 if limit == "LONGEST_LINE" else int(row.split()[0]) - 1)
    path.write_text(text.replace("22222", "2" * 20))
    with pytest.raises(InputError, match=rf"t\.csv.*{row}"):
        delimited.read(path)


def test_a_quoted_comment_of_several_lines_is_one_cell(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('case_id,sex,note\na,f,"left, right\nand, both, knees"\nb,m,"one\ntwo"\n')
    cells = delimited.read(path).cells
    assert cells[3] == ["a", "f", "left, right\nand, both, knees"] and cells[5][2] == "one\ntwo"


def test_a_note_of_several_lines_is_no_row(tmp_path):
    """It has as many delimiters as a row, and its second line does not begin as rows do."""
    path = tmp_path / "m.csv"
    path.write_text(
        'case_id,patient_id,sex,note\nc1,p1,f,plain\nc2,p2,m,"swelling, pain, none,\nsee letter"\n'
    )
    rows = delimited.read(path).cells
    assert [cells[0] for cells in rows.values()] == ["c1", "c2"]
    path.write_text('case_id,patient_id,sex,note\nc1,p1,f,"plain\nc2,p2,m,"\nc3,p3,f,x\n')
    with pytest.raises(InputError, match="row 2"):
        delimited.read(path)

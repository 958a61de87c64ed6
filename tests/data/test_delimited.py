import pytest

from kneefair_jax.data import delimited
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
    assert read(tmp_path, "id;x\n1;2\n").header == ["id;x"]  # nobody's key: the comma, and an error elsewhere
    assert read(tmp_path, "\u200bcase_id\u200b;x\n1;2\n").header == ["case_id", "x"]
    rows = read(tmp_path, "sep=;\r\ncase_id;x\r\n1;2\r\n")
    assert rows.header == ["case_id", "x"] and rows.cells == {3: ["1", "2"]}


def test_decimal_commas_by_column(tmp_path):
    text = "case_id;dice;codes;mixed;n;spacing_mm\n1,5;0,5;1,2 a;0,5;3;0,3x0,25\n2,5;1;b;1.234,5;4;0,3\n"
    rows = read(tmp_path, text)
    assert rows.cells == {
        2: ["1,5", "0.5", "1,2 a", "0,5", "3", "0.3x0.25"],
        3: ["2,5", "1", "b", "1.234,5", "4", "0.3"],
    }
    assert next(note for note in rows.notes if "decimal" in note).endswith("dice, spacing_mm")
    assert read(tmp_path, 'case_id,x\n1,"0,5"\n').cells == {2: ["1", "0,5"]}

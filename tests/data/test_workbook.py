import datetime
import zipfile

import openpyxl
import pandas as pd
import pytest

from kneefair_jax.data import folder, metadata
from kneefair_jax.data.workbook import read
from kneefair_jax.errors import InputError
from tests import films


def workbook(path, *sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(f"sheet {number}")
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_cells_are_text_as_excel_shows_them(tmp_path):
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["case_id", " age ", "seen", "bmi", "ok"])
    sheet.append([7, 65.0, datetime.datetime(2020, 3, 1), 0.1 + 0.2, True])
    sheet.append([None, None, None, None, None])
    sheet.append([8, "65,5", None, "#N/A", None])
    sheet["A2"].number_format = "0000"
    sheet["A4"].number_format = '"P"000'
    book.save(tmp_path / "t.xlsx")
    rows = read(tmp_path / "t.xlsx")
    assert rows.header == ["case_id", "age", "seen", "bmi", "ok"]
    assert rows.cells == {
        2: ["0007", "65", "2020-03-01", "0.3", "TRUE"],
        4: ["P008", "65.5", "", "#N/A", ""],
    }
    assert "sheet 'Sheet'" in rows.notes[0] and "age" in rows.notes[1]


def test_the_sheet_with_the_key_is_the_table(tmp_path):
    path = workbook(tmp_path / "t.xlsx", [["legend"], ["x"]], [], [["case_id", "sex"], ["a", "f"]])
    assert metadata.read(path).cells.to_dict("list") == {"case_id": ["a"], "sex": ["f"]}
    with pytest.raises(
        InputError, match=r"t\.xlsx: several sheets .*'sheet 0', 'sheet 2'.*; .*'t\.xlsx:sheet 0'"
    ):
        read(path, ["MRN"])


def test_a_path_may_end_in_the_name_of_a_sheet(tmp_path):
    path = workbook(tmp_path / "t.xlsx", *([["case_id", "sex"], ["a", sex]] for sex in "fm"), [])
    with pytest.raises(InputError, match=r"several sheets .*'t\.xlsx:sheet 0'"):
        metadata.read(path)
    cells = [metadata.read(tmp_path / f"t.xlsx:sheet {number}").cells for number in range(2)]
    assert [list(table["sex"]) for table in cells] == [["f"], ["m"]]
    for sheet in ("sheet 2", "x"):  # without cells; missing
        with pytest.raises(InputError, match=rf"t\.xlsx: no sheet '{sheet}' .*'sheet 0', 'sheet 1'"):
            metadata.read(tmp_path / f"t.xlsx:{sheet}")
    with pytest.raises(InputError, match=r"u\.xlsx:x: no such file"):
        metadata.read(tmp_path / "u.xlsx:x")
    (tmp_path / "t.xlsx:x").write_text("case_id,sex\nb,f\n")  # a file of this name
    assert metadata.read(tmp_path / "t.xlsx:x").cells["case_id"].tolist() == ["b"]


def test_rows_above_the_header_are_titles(tmp_path):
    rows = [
        ["Study of 2024"],
        [],
        [None, "Date", "2024"],
        ["case_id", "sex", "age", "bmi"],
        ["a", "f", 60, 25],
    ]
    table = metadata.read(workbook(tmp_path / "t.xlsx", rows, [["legend"]]))
    assert table.cells.to_dict("index") == {5: {"case_id": "a", "sex": "f", "age": "60", "bmi": "25"}}
    assert len(table.notes) == 2 and "row 4" in table.notes[1]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (["=A1"], r"row 2: a formula"),
        ([1234567890123456], r"row 2: a number of more than 15 digits"),
        (["a", "b", "c"], r"row 2: malformed CSV: 3 cells"),
    ],
)
def test_cells_that_lost_their_value_are_refused_by_row(tmp_path, row, text):
    path = workbook(tmp_path / "t.xlsx", [["case_id", "sex"], row])
    with pytest.raises(InputError, match=text):
        metadata.read(path)


def test_a_folder_may_have_a_workbook_as_its_table(tmp_path):
    root = films.folder(tmp_path / "f")
    config = {
        "root": str(root),
        "metadata": "metadata.csv",
        "structures": "disc,square",
        "attributes": ("sex",),
    }
    config |= {"bins": {}, "split_column": "", "on_read_error": "stop"}
    expected = folder.source(config, size=(8, 8), channels=1).cases
    lines = [line.split(",") for line in (root / "metadata.csv").read_text().splitlines()]
    rows = [
        [float(cell) if cell.replace(".", "").isdigit() else cell or None for cell in line] for line in lines
    ]
    workbook(root / "t.xlsx", rows)
    source = folder.source(config | {"metadata": "t.xlsx"}, size=(8, 8), channels=1)
    pd.testing.assert_frame_equal(source.cases, expected)
    assert "t.xlsx is read as an Excel workbook" in source.notes[0]


def test_damaged_workbooks_and_other_archives_are_refused(tmp_path):
    path = tmp_path / "t.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "case_id\n1\n")
    with pytest.raises(InputError, match="zip archive, not an Excel workbook"):
        read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook>")
    with pytest.raises(InputError, match="save it again"):
        read(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="damaged"):
        read(path)
    workbook(path, [])
    with pytest.raises(InputError, match="no sheet has a cell"):
        read(path)

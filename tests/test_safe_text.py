import sys
from pathlib import Path

import pytest

from kneefair_jax import safe_text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain é\t1\n", "plain é\t1\n"),
        ("\x1b[2J\r\x9b", r"\x1b[2J\r\x9b"),
        ("a\u202eb", r"a\u202eb"),
        ("\udcff", r"\udcff"),
    ],
)
def test_printable(text, escaped):
    assert safe_text.printable(text) == escaped


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("-2+3", "'-2+3"),
        ("@A1", "'@A1"),
        ("\t=1", "'\t=1"),
        ("＝1", "'＝1"),  # noqa: RUF001
        ("-2.5", "-2.5"),
        ("+1e-3", "+1e-3"),
        ("<=50", "<=50"),
        ("'=1", "'=1"),
        (-2.5, -2.5),
        (None, None),
    ],
)
def test_spreadsheet_cell(value, cell):
    assert safe_text.spreadsheet_cell(value) == cell


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("/home/jane/m.csv row 3: /home/jane/x/1.png: bad", "m.csv row 3: 1.png: bad"),
        ("[Errno 2] no file: '/home/jane doe/1.png'", "[Errno 2] no file: '1.png'"),
        ("~/knees/1.png", "1.png"),
        ("/home/Jo Smith/films/x.png: damaged", "x.png: damaged"),
        ("/data/J. Smith/Study 2/x 1.png: damaged", "x 1.png: damaged"),
        ("/data/jo/1.png and masks/2.png; /data/jo/m/", "1.png and masks/2.png; m"),
        ("file:///home/jo/x.png, file://pc/home/Jo S/y.png", "x.png, y.png"),
        ('no file: "/home/jo/it\'s/1.png"', 'no file: "1.png"'),
        ("2 images /s and 3/4 a/b", "2 images /s and 3/4 a/b"),
        ("masks/1.png and ../2.png", "masks/1.png and ../2.png"),
        ("https://arxiv.org/abs/1810.03993, 3/4 images/s", "https://arxiv.org/abs/1810.03993, 3/4 images/s"),
    ],
)
def test_paths_are_stripped(text, stripped):
    assert safe_text.strip_paths(text) == stripped


def test_paths_below_a_given_folder_keep_the_rest():
    root = Path("/home/jane doe/my knees")
    text = f"{root}/m.csv row 3: {root}/masks/a 1.png"
    assert safe_text.strip_paths(text, root) == "my knees/m.csv row 3: my knees/masks/a 1.png"
    assert safe_text.strip_paths("knees/1.png", Path("knees")) == "knees/1.png"


def test_the_home_folder_is_replaced(monkeypatch):
    monkeypatch.setenv("HOME", "/home/Smith, Jo (x)")
    text = "/home/Smith, Jo (x)/films/1.png: bad; /home/Smith, Jo (x); /mnt/home/Smith"
    assert safe_text.strip_paths(text) == "1.png: bad; ~; Smith"
    folder = Path("/home/Smith, Jo (x)/my knees")
    assert safe_text.strip_paths(f"{folder}/a, b/1.png {folder}2/x", folder) == "my knees/a, b/1.png x"


def test_a_text_that_begins_with_a_path_is_a_message():
    texts = ["/home/jo/m.csv: correct a/b", "/tmp (/home/jo/y)", "/", "/data/Smith, Jo/knees", "~/k/x", "/x"]
    stripped = ["m.csv: correct a/b", "/tmp (y)", "/", "knees", "x", "x"]
    assert safe_text.strip_json_paths(texts) == stripped


def test_paths_in_a_json_value():
    value = {"a": ["/home/jane doe/x", 1, None], "b": {"c": "--temp=/home/jane/t"}, "d": "sex"}
    assert safe_text.strip_json_paths(value) == {"a": ["x", 1, None], "b": {"c": "--temp=t"}, "d": "sex"}


def test_printable_output(capsys):
    stdout = sys.stdout
    with safe_text.printable_output():
        print("\x1b[1m")
        print("\x07", file=sys.stderr)
    assert sys.stdout is stdout
    assert capsys.readouterr() == ("\\x1b[1m\n", "\\x07\n")


def test_columns_are_aligned():
    rows = [("", "patients", "Dice"), ("sex=female", "7", "0.950"), ("all", "120", "")]
    assert safe_text.align_columns(rows) == [
        "            patients   Dice",
        "sex=female         7  0.950",
        "all              120       ",
    ]

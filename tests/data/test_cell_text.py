import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kneefair_jax.data import cell_text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3", 3),
        ("0.3", 0.3),
        (".5", 0.5),
        ("5.", 5),
        ("-1e-3", -0.001),
        ("+2E2", 200),
        (" 7 ", 7),
        ("007", 7),
    ],
)
def test_decimal_notation(text, number):
    assert cell_text.parse_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "0_3",
        "1_000",
        "0,3",
        "1.2.3",
        "",
        " ",
        "inf",
        "nan",
        "-Infinity",
        "1e999",
        "0x10",
        "\u0663",
        "3mm",
        "--3",
        "e3",
        ".",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="decimal"):
        cell_text.parse_number(text)
    assert np.isnan(cell_text.to_numbers(pd.Series([text]))[0])


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_python_and_numpy_write_is_read(number):
    assert cell_text.parse_number(repr(number)) == number
    assert cell_text.parse_number(str(np.float64(number))) == number


def test_a_column_keeps_its_index():
    numbers = cell_text.to_numbers(pd.Series(["1", "", "x", "1"], index=[2, 3, 5, 6]))
    assert numbers.dtype == np.float64
    np.testing.assert_array_equal(numbers, [1, np.nan, np.nan, 1])
    assert list(numbers.index) == [2, 3, 5, 6]
    assert cell_text.to_numbers(pd.Series([], dtype=object)).dtype == np.float64


def test_words_become_empty_cells_and_levels_stay():
    words = [
        "",
        "NA",
        "N/A",
        "#N/A",
        "<NA>",
        "NaN",
        "null",
        "Missing",
        "?",
        "Unknown",
        "-",
        "--",
        ".",
        "n.a.",
        "\uff0d",
    ]
    words += ["not available", "Not  Known", "NOT KNOWN", "\u2014", "\u200b", "#VALUE!"]
    levels = ["none", "None", "0", "f", "-1", "no", "known", "other", "Nancy", "x.y"]
    table = pd.DataFrame({"a": words + levels})
    assert cell_text.without_missing_words(table)["a"].tolist() == [""] * len(words) + levels


def test_a_note_counts_the_ambiguous_words_of_a_column():
    table = pd.DataFrame(
        {"a": ["?", "?", "Unknown", "NA", "f"], "b": ["none", "x", "", "NA", "x"], "c": list("vwxyz")}
    )
    first, second = cell_text.missing_word_notes(table)
    assert "column a" in first and "3 cells" in first and "'?' (2)" in first and "'Unknown' (1)" in first
    assert "NA" not in first
    assert "column b" in second and "1 cell" in second and "'none'" in second and "level" in second
    assert cell_text.missing_word_notes(table, frozenset({"a", "b"})) == []


@pytest.mark.parametrize("word", sorted(cell_text.MISSING_WORDS | cell_text.AMBIGUOUS_WORDS))
def test_every_word_of_the_lists_is_in_its_own_form(word):
    assert cell_text.normalized(word) == word

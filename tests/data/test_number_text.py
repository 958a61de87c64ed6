import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kneefair_jax.data import number_text


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
    assert number_text.parse(text) == number


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
        number_text.parse(text)
    assert np.isnan(number_text.column(pd.Series([text]))[0])


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_python_and_numpy_write_is_read(number):
    assert number_text.parse(repr(number)) == number
    assert number_text.parse(str(np.float64(number))) == number


def test_a_column_keeps_its_index():
    numbers = number_text.column(pd.Series(["1", "", "x", "1"], index=[2, 3, 5, 6]))
    assert numbers.dtype == np.float64
    np.testing.assert_array_equal(numbers, [1, np.nan, np.nan, 1])
    assert list(numbers.index) == [2, 3, 5, 6]
    assert number_text.column(pd.Series([], dtype=object)).dtype == np.float64

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kneefair_jax.data import identifiers
from kneefair_jax.data.identifiers import (
    across,
    canonical,
    canonical_identifier,
    similar,
    similar_identifiers,
    spoiled,
)

SAME = [
    ["7", "0007", "7.0", "7.0e0", "7e+0", "+7", "07.00", "70e-1", "7.", " 7 ", "\uff17", "\u0667", "7\u200b"],
    ["p7", "P7", " p7", "p7\t", "\uff507", "p\u200d7", "p\u00ad7", "\ufeffp7", "p\ufe0f7"],
    ["caf\u00e9", "cafe\u0301", "CAF\u00c9", "cafe\u034f\u0301"],
    ["Female", "female", "FEMALE ", "\uff26emale"],
    ["a b", "a  b", "a\u00a0b", "A\u3000B", "a\tb"],
    ["0", "000", "0.0", "-0", "0e+5"],
    ["stra\u00dfe", "STRASSE"],
    ["123456780001000", "1.23456780001e14"],
    ["P7", "P007", "p07", "P\u0660\u0667"],
    ["site-1-7", "site-01-007", "SITE-1-07"],
    ["1.7", "01.007", "1.07"],
    ["s1.7", "S01.007"],
    ["1.2.10", "01.02.10"],
    ["a0b", "a00b", "A000B"],
]
DIFFERENT = [
    "7",
    "70",
    "-7",
    "7a",
    "a7",
    "ab",
    "a b",
    "7.1",
    "7.10",
    "7.100",
    "7e0",
    "12000",
    "12E03",
    "1e+400",
    "1e+401",
    "1" * 40,
    "1" * 39 + "2",
    "p70",
    "p700",
    "site-1-7",
    "site-17",
    "site-1-70",
    "1.1",
    "1.10",
    "s1.1",
    "s1.10",
]


@pytest.mark.parametrize("values", SAME, ids=lambda values: values[0])
def test_what_looks_the_same_by_hand(values):
    assert similar_identifiers(values) == [values]
    assert similar_identifiers(values[:1] * 3) == []


def test_levels_keep_the_zeros_of_fractions_and_names():
    levels = ["0.5 mg", "0.05 mg", "1.5", "1.05", "grade 1", "grade 01"]
    assert similar_identifiers(levels, canonical) == []
    assert similar_identifiers(["1", "01", "1.0"], canonical) == [["1", "01", "1.0"]]
    assert across(["1.5"], ["1.05"]) == [("1.5", "1.05")] and across(["1.5"], ["1.05"], canonical) == []


def test_what_looks_different_by_hand():
    assert similar_identifiers(DIFFERENT) == []


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(TEXT)
def test_a_canonical_form_stays_as_it_is(value):
    for form_of in (canonical, canonical_identifier):
        form = form_of(value)
        assert form_of(f"  {value}\u200b ") == form
        assert (
            form_of(unicodedata.normalize("NFD", value))
            == form_of(unicodedata.normalize("NFC", value))
            == form
        )


PREFIX = st.text("abPQ-_/ ", min_size=1, max_size=4).map(lambda text: f"x{text.strip()}")
NUMBERS = st.lists(
    st.tuples(PREFIX, st.integers(0, 10**12), st.integers(0, 3), st.integers(0, 3)), min_size=1
)


@given(NUMBERS, st.sampled_from(["", ".", "-"]), st.data())
def test_numbers_inside_identifiers_are_equal_but_for_leading_zeros(parts, mark, data):
    written = [
        "".join(f"{prefix}{mark}{'0' * part[zeros]}{number}" for prefix, number, *part in parts)
        for zeros in (0, 1)
    ]
    assert canonical_identifier(written[0]) == canonical_identifier(written[1])
    changed = data.draw(st.integers(0, len(parts) - 1))
    other = "".join(f"{p}{mark}{n + (k == changed)}" for k, (p, n, *_) in enumerate(parts))
    assert canonical_identifier(other) != canonical_identifier(written[0])


@given(st.integers(0, 10**30), st.integers(0, 9), st.integers(0, 9))
def test_numerals_of_one_value_have_one_form(value, zeros, places):
    forms = [
        str(value),
        "0" * zeros + str(value),
        f"{value}.{'0' * places}",
        f"{value}{'0' * places}e-{places}",
    ]
    assert len({canonical(form) for form in forms}) == 1
    assert canonical(str(value)) != canonical(str(value + 1))


@given(st.lists(st.sampled_from([value for group in SAME for value in group] + DIFFERENT)))
def test_groups_of_similar_identifiers_are_disjoint_and_complete(values):
    found = similar_identifiers(values)
    members = [value for group in found for value in group]
    assert len(members) == len(set(members)) and set(members) <= set(values)
    assert all(
        len(group) > 1 and len({canonical_identifier(value) for value in group}) == 1 for group in found
    )
    rest = [value for value in dict.fromkeys(values) if value not in members]
    assert len({canonical_identifier(value) for value in rest}) == len(rest)


def test_problems_name_both_rows():
    cells = {2: "x", 3: "7", 4: "", 5: "7", 9: "0007", 11: "7.0", 12: "0007"}
    problems = similar(cells, "patient_id", "patient", "--allow-similar-ids")
    assert [row for row, _ in problems] == [9, 11]
    assert all("'7' (row 3)" in text and "--allow-similar-ids" in text for _, text in problems)
    assert "'0007'" in problems[0][1] and "'7.0'" in problems[1][1]


def test_what_a_spreadsheet_spoiled():
    cells = dict(enumerate(["1.23457E+11", "1E+05", "1.5e3", "7.0", "7", "0007", "1e5", "p7.0", "3.10"]))
    assert [row for row, _ in spoiled(cells, "case_id")] == [0, 1, 2, 3]
    assert [row for row, _ in spoiled(cells, "case_id", allow_floats=True)] == [0, 1, 2]


def test_pairs_across_two_cohorts():
    assert across(["7", "8", "P1"], ["0007", "8", "p1", "9"]) == [("7", "0007"), ("P1", "p1")]
    assert across(["7"], []) == []


def test_visible_text_keeps_letters_and_inner_space():
    assert identifiers.visible(" \ufeffcase\u200b_id\u00a0 ") == "case_id"
    assert identifiers.visible("a \t b") == "a b"


@pytest.mark.parametrize(
    "cell",
    [
        *("c\0", "c" * 201, ".", "..", "../c", "a/../c", "a/.", "/c", "file", "allow_pickle"),
        *("c\x1b[2J", "c\nd", "c\ud800"),
    ],
)
def test_identifiers_that_no_archive_can_hold(cell):
    ((row, text),) = identifiers.unusable({2: "c1", 3: cell, 4: ""}, "case_id")
    assert row == 3 and "case_id" in text and len(text) < 300


def test_usable_identifiers():
    cells = ["c1", "a/b", "c" * 200, "...", "a..b", "File", "files", "caf\u00e9", "a b"]
    assert identifiers.unusable(dict(enumerate(cells)), "case_id") == []

"""The rows of several runs are merged by file, and a mask belongs to one file."""

import csv
from pathlib import Path

import pytest

from kneefair_jax.errors import InputError
from kneefair_jax.predict.areas import AREAS, COLUMNS, MASK, Areas, file_id

FILM = Path("films/a.png")


def rows(*masks, path=FILM):
    """A row a structure: its name, its label, and the path of its mask."""
    return [
        [str(path), file_id(path), structure, label, "", "7", *[""] * (len(COLUMNS) - 7), mask]
        for structure, label, mask in masks
    ]


WHOLE_FEMUR = rows(
    ("whole femur", "1", "masks/a.png"),
    ("tibia", "2", "masks/a.png"),
    ("whole femur", "1", "outlines/a_whole_femur.png"),
    ("whole tibia", "1", "outlines/a_whole_tibia.png"),
    ("whole patella", "", ""),
)
KNEE = rows(("femur", "1", "masks/a.png"), ("tibia", "2", "masks/a.png"))


def append(out, *blocks):
    """Write a table as a killed process leaves it."""
    with (out / AREAS).open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *(row for block in blocks for row in block)])


def table(out):
    with (out / AREAS).open(newline="") as file:
        return list(csv.reader(file))[1:]


def test_a_mask_and_a_whole_bone_of_one_name_keep_their_rows(tmp_path):
    with Areas(tmp_path) as areas:
        areas.add(WHOLE_FEMUR)
    with Areas(tmp_path) as areas:
        assert areas.rows(FILM) == WHOLE_FEMUR
        areas.require_own(FILM, "masks/a.dcm")
        with pytest.raises(InputError):
            areas.require_own(Path("others/a.png"), "masks/a.dcm")
    assert table(tmp_path) == WHOLE_FEMUR


@pytest.mark.parametrize(("first", "second"), [(WHOLE_FEMUR, KNEE), (KNEE, WHOLE_FEMUR), (KNEE, KNEE)])
def test_the_latest_rows_replace_all_earlier_ones_of_the_file(tmp_path, first, second):
    other = rows(("femur", "1", "masks/b.png"), path=Path("films/b.png"))
    append(tmp_path, first, other, second)
    with Areas(tmp_path):
        pass
    assert table(tmp_path) == [*second, *other]


def test_a_discarded_file_has_no_rows_and_no_mask(tmp_path):
    other = rows(("femur", "1", "masks/b.png"), path=Path("films/b.png"))
    with Areas(tmp_path) as areas:
        areas.add(KNEE)
        areas.add(other)
        areas.discard(FILM)
        areas.discard(Path("films/unknown.png"))
        assert areas.rows(FILM) == []
        areas.require_own(Path("others/a.png"), "masks/a.png")
    assert table(tmp_path) == other


def test_a_sorted_table_keeps_its_rows_and_its_owner(tmp_path):
    by_mask = sorted(WHOLE_FEMUR, key=lambda row: row[MASK], reverse=True)
    append(tmp_path, by_mask)
    with Areas(tmp_path) as areas, pytest.raises(InputError):
        areas.require_own(Path("others/a.png"), "masks/a.png")
    assert table(tmp_path) == by_mask

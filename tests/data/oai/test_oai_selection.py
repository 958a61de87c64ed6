import numpy as np
import pytest

from kneefair_jax.data.oai import selection, tables
from kneefair_jax.data.oai.films import Film
from kneefair_jax.errors import InputError
from tests import oai_tree

ANY = dict.fromkeys(selection.QUALITY, "")
ROWS = [
    # ID, barcode, ACCEPT, MOTION
    ["9000001", "16600000000", "1: Yes", "0: None"],
    ["9000002", "16600000001", "0: No", "0: None"],
    ["9000003", "16600000002", ".: Missing Form/Incomplete Workbook", "0: None"],
    ["9000004", "16600000003", "1: Yes", "2: Marked"],
    ["9000005", "16600000004", "1: Yes", "0: None"],
    ["9000005", "16600000004", "0: No", "0: None"],
]


@pytest.fixture
def films(tmp_path):
    return [
        Film(
            f"f{k}",
            f"900000{k + 1}",
            "00",
            f"{k:08d}",
            oai_tree.write_film(tmp_path / f"{k}", np.zeros((4, 4), "u2")),
        )
        for k in range(6)
    ]


def select(tmp_path, films, enrolled=None, **quality):
    oai_tree.table(tmp_path / "XRAY00.txt", ["id", "v00xrbarcd", "V00ACCEPT", "V00motion"], ROWS)
    found = tables.find(tmp_path)
    enrolled = enrolled or {film.patient for film in films}
    return selection.select(films, found, enrolled, ANY | quality, must_be_named=True)


@pytest.mark.parametrize(
    ("quality", "kept"),
    [
        ({}, "012345"),
        ({"ACCEPT": "1"}, "03"),
        ({"ACCEPT": "yes"}, "03"),
        ({"ACCEPT": "0, 1"}, "0134"),
        ({"ACCEPT": "1", "MOTION": "0,1"}, "0"),
    ],
)
def test_quality(tmp_path, films, quality, kept):
    usable, left_out = select(tmp_path, films, **quality)
    assert [film.name for film in usable] == [f"f{k}" for k in kept]
    assert {name for name, _ in left_out} == {f"f{k}" for k in range(6)} - {f"f{k}" for k in kept}
    assert all(film.spacing == (0.3, 0.2) for film in usable)


def test_every_reason_of_a_film_is_given(tmp_path, films):
    oai_tree.write_film(films[1].path, np.zeros((4, 4), "u2"), ImagerPixelSpacing=0)
    films[5].path.write_bytes(b"?")
    _, left_out = select(tmp_path, films, enrolled={"9000001", "9000006"}, ACCEPT="1")
    assert dict(left_out) == {
        "f1": "its header's pixel spacing is 0; its patient is not in Enrollees; V00ACCEPT is not as "
        "data.quality.ACCEPT asks",
        "f2": "its patient is not in Enrollees; no V00ACCEPT for its barcode",
        "f3": "its patient is not in Enrollees",
        "f4": "its patient is not in Enrollees; V00ACCEPT is not as data.quality.ACCEPT asks",
        "f5": "unreadable DICOM header (InvalidDicomError); no V00ACCEPT for its barcode",
    }


def test_a_visit_has_its_own_columns(tmp_path, films):
    later = films[1]._replace(visit="01")
    with pytest.raises(
        InputError, match=r"quality.ACCEPT: no table has V01ACCEPT by barcode; add XRay01.txt"
    ):
        select(tmp_path, [films[0], later], ACCEPT="1")
    oai_tree.table(
        tmp_path / "xray01.csv", ["ID", "V01XRBARCD", "V01ACCEPT"], [["9000002", "1", "1"]], separator=","
    )
    usable, left_out = select(tmp_path, [films[0], later], ACCEPT="1")
    assert usable == [films[0]._replace(spacing=(0.3, 0.2)), later._replace(spacing=(0.3, 0.2))]
    assert left_out == []


def test_when_none_is_left_the_commonest_reasons_are_told():
    left_out = [("a", "too dark"), ("b", "too dark"), ("c", "no X-ray")]
    with pytest.raises(InputError, match="root: no film can be used:\n2 x too dark\n1 x no X-ray"):
        selection.require([], left_out, "root")
    with pytest.raises(InputError, match="no film can be used: there is none"):
        selection.require([], [], "root")

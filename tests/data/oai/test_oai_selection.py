from pathlib import Path

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
    usable, excluded = select(tmp_path, films, **quality)
    assert [film.name for film in usable] == [f"f{k}" for k in kept]
    assert {name for name, _ in excluded} == {f"f{k}" for k in range(6)} - {f"f{k}" for k in kept}
    assert all(film.spacing == (0.3, 0.2) for film in usable)


def test_every_reason_to_exclude_a_film_is_listed(tmp_path, films):
    oai_tree.write_film(films[1].path, np.zeros((4, 4), "u2"), ImagerPixelSpacing=0)
    films[5].path.write_bytes(b"?")
    _, excluded = select(tmp_path, films, enrolled={"9000001", "9000006"}, ACCEPT="1")
    assert dict(excluded) == {
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
    usable, excluded = select(tmp_path, [films[0], later], ACCEPT="1")
    assert usable == [films[0]._replace(spacing=(0.3, 0.2)), later._replace(spacing=(0.3, 0.2))]
    assert excluded == []


def test_without_a_usable_film_the_most_frequent_reasons_are_listed():
    excluded = [("a", "too dark"), ("b", "too dark"), ("c", "no X-ray")]
    with pytest.raises(InputError, match="root: no film can be used:\n2 x too dark\n1 x no X-ray"):
        selection.require_films([], excluded, "root")
    with pytest.raises(InputError, match="no film can be used: there is none"):
        selection.require_films([], [], "root")


def film(patient, barcode, visit="00"):
    return Film(f"{patient}_{visit}m_{barcode}", patient, visit, barcode, Path("001"))


ONE, TWO, THREE = (
    film("9000001", "00000011"),
    film("9000002", "00000022"),
    film("9000002", "00000033", "12"),
)


def put(folder, *names):
    for name in names:
        (folder / name).touch()


@pytest.mark.parametrize(
    "name",
    [
        "9000001_00m_00000011.nii.gz",
        "9000001_00M_00000011.PNG",
        "00000011.nii",
        "016600000011.png",
        "16600000011.npy",
        "9000001.tif",
    ],
)
def test_names_that_a_mask_may_have(tmp_path, name):
    put(tmp_path, name, "notes.txt", ".hidden.png")
    assert selection.pair_masks([ONE], tmp_path) == ([ONE._replace(mask=tmp_path / name)], [], [])


def test_what_is_left_without_a_mask(tmp_path):
    put(tmp_path, "9000002.png", "00000011.png", "9000009.png")
    paired, excluded, unused = selection.pair_masks([ONE, TWO, THREE, film("9000003", "00000044")], tmp_path)
    assert [one.mask.name for one in paired] == ["00000011.png"]
    several = "its mask is named by the ID of a patient with several films"
    assert excluded == [
        (TWO.name, several),
        (THREE.name, several),
        ("9000003_00m_00000044", "no mask in data.masks"),
    ]
    assert unused == [("2 masks", "fit no film in use")]
    put(tmp_path, "00000022.png")  # the film's own name goes before the patient's
    paired, _, _ = selection.pair_masks([TWO, THREE], tmp_path)
    assert [one.mask.name for one in paired] == ["00000022.png"]


def test_no_mask_fits(tmp_path):
    with pytest.raises(InputError, match="the folder has none"):
        selection.pair_masks([ONE], tmp_path)
    put(tmp_path, "knee1.png")
    message = r"9000001_00m_00000011.nii.gz, 00000011.nii.gz, .*9000001.nii.gz.*the folder has 'knee1.png'"
    with pytest.raises(InputError, match=message):
        selection.pair_masks([ONE], tmp_path)


def test_two_masks_of_one_name(tmp_path):
    put(tmp_path, "00000011.png", "00000011.nii.gz")
    with pytest.raises(InputError, match="masks of the same name; keep one"):
        selection.pair_masks([ONE], tmp_path)


def test_a_preview_beside_a_mask_is_no_mask(tmp_path):
    put(tmp_path, "00000011.png", "00000011.jpg", "9000002.JPEG")
    assert list(selection.masks_by_name(tmp_path).values()) == [tmp_path / "00000011.png"]


def tree_put(root, place, text=""):
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).write_text(text)


def names(found):
    return [film.name for film in found]


def test_the_tree_is_walked(tmp_path):
    tree_put(tmp_path, "00m/0.C.2/9000099/20050120/00180901/001")
    tree_put(tmp_path, "00m/0.E.1/9000798/20050403/00180902/001.dcm")
    tree_put(tmp_path, "00m/0.E.1/9000798/20050403/00180903/readme")
    tree_put(tmp_path, "00m/0.E.1/9000798/20050403/10063803/001")  # magnetic resonance
    tree_put(tmp_path, "00m/0.E.1/9000099/20050120/00180901/001")  # the same film in the other release
    tree_put(tmp_path, "00m/0.E.1/notes/20050120/00180901/001")
    tree_put(tmp_path, "00m/.DS_Store")
    tree_put(tmp_path, "12m/1.C.2/9000099/20060120/00180999/001")
    found, excluded, unused = selection.find_films(tmp_path, ("00",))
    assert names(found) == ["9000099_00m_00180901", "9000798_00m_00180902"]
    first = found[0]
    assert (first.patient, first.visit, first.barcode) == ("9000099", "00", "00180901")
    assert first.path == tmp_path / "00m/0.C.2/9000099/20050120/00180901/001"
    assert found[1].path.name == "001.dcm"
    assert unused == [("00m: 1 folders", "no X-rays, as their numbers lack the leading 0")]
    assert sorted(excluded) == [
        ("9000099_00m_00180901", "a second folder with the same barcode"),
        ("9000798_00m_00180903", "no file 001 in its folder"),
    ]
    both, _, _ = selection.find_films(tmp_path, ("01", "00"))
    assert names(both) == ["9000099_00m_00180901", "9000099_12m_00180999", "9000798_00m_00180902"]
    assert both[1].visit == "01"


@pytest.mark.parametrize(("visit", "folder"), selection.VISITS.items())
def test_every_visit_has_its_folder(tmp_path, visit, folder):
    tree_put(tmp_path, f"{folder.upper()}/{int(visit)}.C.2/9000099/20050120/00180901/001")
    found, _, _ = selection.find_films(tmp_path, (visit,))
    assert names(found) == [f"9000099_{folder}_00180901"] and found[0].visit == visit


@pytest.mark.parametrize(
    ("number", "folder"),
    [
        ("16600180901", "0.C.2/9000099/20050120/00180901"),
        ("016600180901", r"0.C.2\9000099\20050120\180901"),
        ("180901", "00m/0.C.2/9000099/20050120/180901"),
        ("", "00m/0.C.2/9000099/20050120/180901/"),
        ("16600180901.0", "180901"),
        ("16600180901", ""),
    ],
)
def test_contents_say_which_films_there_are(tmp_path, number, folder):
    tree_put(tmp_path, "00m/0.C.2/9000099/20050120/00180901/001")
    tree_put(tmp_path, "00m/0.C.2/9000099/20050120/00180902/001")  # not listed
    rows = [
        "participantid,StudyDate,Barcode,SeriesDescription,Folder",
        f"9000099,20050120,{number}, Bilateral PA Fixed Flexion Knee ,{folder}",
        "9000099,20050120,16600180909,PA Right Hand,0.C.2/9000099/20050120/180909",
        "9000099,20050120,16610063803,SAG IW TSE,0.C.2/9000099/20050120/10063803",
        "nobody,20050120,16600180901,PA Right Hand,",
        "9000099,20050120,?,PA Right Hand,",
    ]
    tree_put(tmp_path, "00m/Contents.csv", "\n".join(rows))
    found, excluded, unused = selection.find_films(tmp_path, ("00",))
    assert names(found) == ["9000099_00m_00180901"]
    assert found[0].description == "Bilateral PA Fixed Flexion Knee"
    assert found[0].path == tmp_path / "00m/0.C.2/9000099/20050120/00180901/001"
    assert excluded == [
        ("9000099_00m_00180909", "in contents.csv, but not in the download"),
        ("Contents.csv row 5", "no ParticipantID of seven digits, or no barcode"),
        ("Contents.csv row 6", "no ParticipantID of seven digits, or no barcode"),
    ]
    assert unused == [("00m: 1 rows", "no X-rays, as their barcodes lack the leading 0")]


@pytest.mark.parametrize(
    ("visits", "message"),
    [
        (("02",), r"visits=\('02',\): give one or more of 00 \(00m\), 01 \(12m\), 03"),
        ((), "give one or more"),
        (("00", "00"), "each once"),
        (("00", "01"), r"holds no folder 12m \(visit 01\); set data.root"),
    ],
)
def test_visits_that_are_not_there(tmp_path, visits, message):
    tree_put(tmp_path, "00m/0.C.2/9000099/20050120/00180901/001")
    with pytest.raises(InputError, match=message):
        selection.find_films(tmp_path, visits)


def test_a_list_of_contents_without_its_columns(tmp_path):
    tree_put(tmp_path, "00m/contents.csv", "a,b\n1,2\n")
    with pytest.raises(InputError, match="contents.csv: .* columns ParticipantID"):
        selection.find_films(tmp_path, ("00",))


def test_the_generated_tree_is_of_this_layout(tmp_path):
    for k in range(2):
        oai_tree.write_film(oai_tree.place(tmp_path, k), oai_tree.np.zeros((4, 4), "u2"))
    assert names(selection.find_films(tmp_path, ("00",))[0]) == [oai_tree.name(k) for k in range(2)]

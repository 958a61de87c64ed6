import pytest

from kneefair_jax.data.oai import tree
from kneefair_jax.errors import InputError
from tests import oai_tree


def put(root, place, text=""):
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).write_text(text)


def names(found):
    return [film.name for film in found]


def test_the_tree_is_walked(tmp_path):
    put(tmp_path, "00m/0.C.2/9000099/20050120/00180901/001")
    put(tmp_path, "00m/0.E.1/9000798/20050403/00180902/001.dcm")
    put(tmp_path, "00m/0.E.1/9000798/20050403/00180903/readme")
    put(tmp_path, "00m/0.E.1/9000798/20050403/10063803/001")  # magnetic resonance
    put(tmp_path, "00m/0.E.1/9000099/20050120/00180901/001")  # the same film in the other release
    put(tmp_path, "00m/0.E.1/notes/20050120/00180901/001")
    put(tmp_path, "00m/.DS_Store")
    put(tmp_path, "12m/1.C.2/9000099/20060120/00180999/001")
    found, excluded, unused = tree.films(tmp_path, ("00",))
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
    both, _, _ = tree.films(tmp_path, ("01", "00"))
    assert names(both) == ["9000099_00m_00180901", "9000099_12m_00180999", "9000798_00m_00180902"]
    assert both[1].visit == "01"


@pytest.mark.parametrize(("visit", "folder"), tree.VISITS.items())
def test_every_visit_has_its_folder(tmp_path, visit, folder):
    put(tmp_path, f"{folder.upper()}/{int(visit)}.C.2/9000099/20050120/00180901/001")
    found, _, _ = tree.films(tmp_path, (visit,))
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
    put(tmp_path, "00m/0.C.2/9000099/20050120/00180901/001")
    put(tmp_path, "00m/0.C.2/9000099/20050120/00180902/001")  # not listed
    rows = [
        "participantid,StudyDate,Barcode,SeriesDescription,Folder",
        f"9000099,20050120,{number}, Bilateral PA Fixed Flexion Knee ,{folder}",
        "9000099,20050120,16600180909,PA Right Hand,0.C.2/9000099/20050120/180909",
        "9000099,20050120,16610063803,SAG IW TSE,0.C.2/9000099/20050120/10063803",
        "nobody,20050120,16600180901,PA Right Hand,",
        "9000099,20050120,?,PA Right Hand,",
    ]
    put(tmp_path, "00m/Contents.csv", "\n".join(rows))
    found, excluded, unused = tree.films(tmp_path, ("00",))
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
    put(tmp_path, "00m/0.C.2/9000099/20050120/00180901/001")
    with pytest.raises(InputError, match=message):
        tree.films(tmp_path, visits)


def test_a_list_of_contents_without_its_columns(tmp_path):
    put(tmp_path, "00m/contents.csv", "a,b\n1,2\n")
    with pytest.raises(InputError, match="contents.csv: .* columns ParticipantID"):
        tree.films(tmp_path, ("00",))


def test_the_generated_tree_is_of_this_layout(tmp_path):
    for k in range(2):
        oai_tree.write_film(oai_tree.place(tmp_path, k), oai_tree.np.zeros((4, 4), "u2"))
    assert names(tree.films(tmp_path, ("00",))[0]) == [oai_tree.name(k) for k in range(2)]

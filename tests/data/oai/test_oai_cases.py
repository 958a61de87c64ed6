import json
import os
import pickle

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from kneefair_jax.data import oai, readers
from kneefair_jax.errors import InputError
from tests import oai_tree

SIZE = (24, 20)


@pytest.fixture
def root(tmp_path):
    return oai_tree.tree(tmp_path)


def source(folder, size=SIZE, **changes):
    return oai.source(ConfigDict(oai_tree.config(folder, **changes)), size=size)


def windowed(picture):
    low, high = np.percentile(picture, [5, 99])
    return np.rint(255 * np.clip((picture - low) / (high - low), 0, 1)).astype(np.uint8)


@pytest.mark.slow
def test_films(root):
    given = source(root)
    assert given.structures == tuple(
        f"{side} {bone}" for bone in ("patella", "femur", "tibia", "fibula") for side in ("right", "left")
    )
    assert given.cases["case_id"].tolist() == [oai_tree.name(k) for k in range(4)]
    assert given.cases["patient_id"].tolist() == [oai_tree.patient(k) for k in range(4)]
    assert given.cases["sex"].tolist() == ["male", "female"] * 2
    assert given.cases["race"].tolist() == ["White", "White", "Black", "Black"]
    assert given.cases["age"].tolist() == ["<=50", "51-64", "51-64", ">=65"]
    assert given.excluded == () and given.portable
    size = oai_tree.film(0)[0].shape
    for k, example in enumerate(source(root, size).read(range(4))):
        picture, label = oai_tree.film(k)
        np.testing.assert_array_equal(example.label, label)
        np.testing.assert_allclose(example.image[..., 0].astype(int), windowed(picture), atol=1)
        np.testing.assert_allclose(example.spacing, [0.3, 0.2], rtol=1e-6)


def test_rows_in_any_order_on_the_grid_with_its_spacing_by_a_pickled_reader(root):
    given = source(root)
    read = pickle.loads(pickle.dumps(given.read))
    height, width = oai_tree.film(0)[0].shape
    for row, example in zip([2, 0, 2], read([2, 0, 2]), strict=True):
        _, label = oai_tree.film(row)
        assert example.image.shape == (*SIZE, 1) and example.image.dtype == np.uint8
        np.testing.assert_array_equal(example.label, readers.resize_label(label, SIZE, 9))
        np.testing.assert_allclose(example.spacing, [0.3 * height / 24, 0.2 * width / 20], rtol=1e-6)
    assert list(read([])) == []


def test_knees_the_right_one_at_image_left(root):
    given = source(root, knees="split", attributes=("sex", "kl", "side"))
    assert given.structures == ("femur", "tibia", "fibula", "patella")
    assert given.cases["case_id"].tolist()[:2] == [f"{oai_tree.name(0)}_right", f"{oai_tree.name(0)}_left"]
    assert given.cases["patient_id"].nunique() == 4
    assert given.cases["side"].tolist() == ["right", "left"] * 4
    grades = [str(oai_tree.grade(k, side)) for k in range(4) for side in (1, 2)]
    assert given.cases["kl"].tolist() == grades
    size = (48, oai_tree.film(1)[0].shape[1] // 2)
    right, left = source(root, size, knees="split").read([2, 3])
    mirrored = list(source(root, size, knees="split", mirror=True).read([2, 3]))
    np.testing.assert_array_equal(mirrored[0].image, right.image)
    np.testing.assert_array_equal(mirrored[1].image[:, ::-1], left.image)
    np.testing.assert_array_equal(mirrored[1].label[:, ::-1], left.label)
    # The fibula is lateral: at image left in a right knee; every label is of the scheme `knee`.
    for knee, lateral in ((right, -1), (left, 1), (mirrored[1], -1)):
        assert set(np.unique(knee.label)) == {0, 1, 2, 3, 4}
        fibula, tibia = (np.nonzero(knee.label == bone)[1].mean() for bone in (3, 2))
        assert np.sign(fibula - tibia) == lateral


def test_visits_of_a_patient_are_one_patient(root):
    oai_tree.add(root, 1, visit=3, folder="24m")
    oai_tree.table(root / "General/AllClinical03.txt", ["ID", "V03AGE"], [[oai_tree.patient(1), 66]])
    cases = source(root, visits=("00", "03")).cases
    assert cases["case_id"].tolist()[1:3] == [oai_tree.name(1), "9001099_24m_00180914"]
    assert cases["patient_id"].tolist()[1:3] == ["9001099"] * 2
    assert cases["age"].tolist()[1:3] == ["51-64", ">=65"] and cases["sex"].tolist()[1:3] == ["female"] * 2


def test_monochrome1_gives_the_same_case(root):
    before = next(source(root).read([0]))
    oai_tree.write_film(oai_tree.place(root, 0, release="0.E.1"), oai_tree.film(0)[0], "MONOCHROME1")
    np.testing.assert_array_equal(next(source(root).read([0])).image, before.image)


def test_excluded_films_are_listed_with_reasons(root):
    film = oai_tree.film(0)[0]
    oai_tree.write_film(root / "00m/0.C.2/9000099/20050120/00000001/001", film, SeriesDescription="PA Hand")
    oai_tree.write_film(root / "00m/0.C.2/9000099/20050120/00000002/001", film)
    oai_tree.write_film(root / "00m/0.C.2/9999999/20050120/00000003/001", film)
    oai_tree.write_film(
        root / "00m/0.C.2/9001099/20050120/00000004/001",
        film,
        SeriesDescription="AP Pelvis",
        ImagerPixelSpacing="0.000",
    )
    (root / "00m/0.C.2/9001099/20050120/00000005").mkdir()
    (root / "00m/0.C.2/9001099/20050120/10000006").mkdir()
    (root / "masks" / "spare.png").touch()
    given = source(root)
    assert len(given.cases) == 4
    assert given.unused == (
        ("00m: 1 folders", "no X-rays, as their numbers lack the leading 0"),
        ("1 masks", "fit no film in use"),
    )
    assert sorted(given.excluded) == [
        ("9000099_00m_00000001", "not a Bilateral PA Fixed Flexion Knee"),
        ("9000099_00m_00000002", "no mask in data.masks"),
        (
            "9001099_00m_00000004",
            "not a Bilateral PA Fixed Flexion Knee; its header's pixel spacing is 0",
        ),
        ("9001099_00m_00000005", "no file 001 in its folder"),
        ("9999999_00m_00000003", "its patient is not in Enrollees"),
    ]


def test_quality(root):
    path = root / "General" / "XRay00.txt"
    path.write_text(path.read_text().replace("1: Yes", "0: No", 1))
    given = source(root, quality={"ACCEPT": "1", "MOTION": "0"})
    assert given.cases["case_id"].tolist() == [oai_tree.name(k) for k in (1, 2, 3)]
    assert given.excluded[0] == (oai_tree.name(0), "V00ACCEPT is not as data.quality.ACCEPT asks")


def test_the_same_with_a_list_of_contents_and_png_masks(root):
    before = source(root)
    examples = list(before.read(range(4)))
    rows = ["ParticipantID,StudyDate,Barcode,SeriesDescription,Folder"]
    for k in range(4):
        number = oai_tree.barcode(k).lstrip("0")
        folder = f"{'0.C.2' if k % 3 else '0.E.1'}/{oai_tree.patient(k)}/20050120/{number}"
        rows.append(f"{oai_tree.patient(k)},20050120,166{number.zfill(8)},{oai_tree.SERIES} ,{folder}")
    (root / "00m" / "contents.csv").write_text("\n".join(rows))
    for k in range(4):
        (root / "masks" / f"{oai_tree.barcode(k)}.nii.gz").unlink()
        Image.fromarray(oai_tree.film(k)[1]).save(root / "masks" / f"{oai_tree.patient(k)}.png")
    after = source(root)
    assert after.cases.equals(before.cases)
    for one, other in zip(examples, after.read(range(4)), strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.label, other.label)


def test_cases_that_cannot_be_read_say_so_in_their_place(root):
    oai_tree.write_mask(root / "masks" / f"{oai_tree.barcode(0)}.nii.gz", oai_tree.film(0)[1][:, :-1])
    label = oai_tree.film(1)[1]
    only_right = np.where(np.isin(label, [1, 3, 5, 7]), label, 0).astype(np.uint8)
    oai_tree.write_mask(root / "masks" / f"{oai_tree.barcode(1)}.nii.gz", only_right)
    path = oai_tree.place(root, 2)
    path.write_bytes(path.read_bytes()[:-50])
    found = list(source(root, knees="split").read(range(8)))
    said = [str(one) if isinstance(one, InputError) else "" for one in found]
    assert "export it on the film's grid" in said[0] and said[0] == said[1]
    assert said[2] == "" and "left knee" in said[3]
    assert str(path) in said[4] and said[4] == said[5] and said[6:] == ["", ""]
    found = list(source(root).read(range(4)))
    assert [isinstance(one, InputError) for one in found] == [True, False, True, False]


def test_settings_follow_the_arrays_and_nothing_else(root):
    before = json.dumps(source(root).settings)
    assert str(root) not in before and "male" not in before
    assert json.dumps(source(root, attributes=("sex",)).settings) == before
    changed = [source(root, (8, 6)), source(root, knees="split"), source(root, knees="split", mirror=True)]
    os.utime(root / "masks" / f"{oai_tree.barcode(0)}.nii.gz", ns=(1, 1))
    changed.append(source(root))
    changed.append(source(root, quality={"EXPOSE": "0"}))
    assert len({before, *(json.dumps(other.settings) for other in changed)}) == 5
    assert changed[3].settings == changed[4].settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": ""}, "data.root is empty: give the folder with --config.data.root=DIR"),
        ({"root": "/nowhere"}, "data.root=/nowhere: no such folder"),
        ({"masks": ""}, "data.masks is empty"),
        ({"tables": "/nowhere"}, "data.tables=/nowhere: no such folder"),
        ({"visits": ("12m",)}, "visits=.'12m',.: give one or more of 00"),
        ({"visits": ("01",)}, "holds no folder 12m"),
        ({"knees": "both"}, "knees='both': give film or split"),
        ({"mirror": True}, "mirror is for split knees"),
        ({"attributes": ("smoker",)}, "no table has 'smoker'"),
        (
            {"quality": {"ACCEPT": "7"}},
            "no film can be used:\n4 x V00ACCEPT is not as data.quality.ACCEPT asks",
        ),
    ],
)
def test_a_bad_config_is_one_clear_sentence(root, changes, message):
    with pytest.raises(InputError, match=message):
        source(root, **changes)


def test_folders_that_do_not_fit(root):
    with pytest.raises(InputError, match="no mask fits a film.*00180901.nii.gz.*the folder has none"):
        source(root, masks=str(root / "General"))
    (root / "General" / "Enrollees.txt").rename(root / "General" / "people.txt")
    message = "Enrollees.txt or Enrollees.csv.*found: AllClinical00.txt, "
    with pytest.raises(InputError, match=message):
        source(root)
    with pytest.raises(InputError, match="holds no folder 00m"):
        source(root / "masks", masks=str(root), tables=str(oai_tree.tree(root / "other") / "General"))
    (root / "empty" / "00m").mkdir(parents=True)
    with pytest.raises(InputError, match="empty: no film can be used: there is none"):
        source(root, root=str(root / "empty"), masks=str(root), tables=str(root / "other" / "General"))


@pytest.mark.parametrize(("split", "structures"), [("film", 8), ("split", 4)])
def test_what_the_headers_and_the_mask_of_a_film_show_is_recorded_by_case(root, split, structures):
    picture, label = oai_tree.film(1)
    oai_tree.write_film(oai_tree.place(root, 1), picture, PixelSpacing=[0.6, 0.4], ImageLaterality="R")
    small = Image.fromarray(label[::2, ::2].astype(np.float32))
    rim = np.rint(small.resize(label.shape[::-1], Image.Resampling.BILINEAR)).astype(np.uint8)
    (path,) = root.glob(f"masks/*{oai_tree.barcode(1)}*")
    oai_tree.write_mask(path, rim)
    given = source(root, knees=split)
    assert len(given.structures) == structures and not any("film:" in note for note in given.notes)
    shown = [case.inspection for case in given.read(range(len(given.cases)))]
    odd = [k for k, one in enumerate(shown) if one.notes != shown[0].notes]
    assert odd == ([1] if split == "film" else [2, 3])
    notes = " / ".join(shown[odd[0]].notes)
    assert "PixelSpacing 0.6 x 0.4 mm disagree" in notes and notes.count("the right knee alone") == 1
    assert all(one.spacing_kind == "detector" for one in shown)
    assert [k for k, one in enumerate(shown) if one.interpolated] == odd

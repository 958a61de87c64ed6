import numpy as np
import pytest
from ml_collections import ConfigDict

from kneefair_jax.data.oai import siddiqui
from kneefair_jax.errors import InputError
from tests import oai_tree


@pytest.fixture
def root(tmp_path):
    return oai_tree.study(tmp_path)


def source(root, size=(24, 20), **changes):
    return siddiqui.source(ConfigDict(oai_tree.config(root, **changes)), size=size)


def test_the_study_s_layout(root):
    picture, label = oai_tree.film(2)
    given = source(root, picture.shape)
    assert given.cases["case_id"].tolist() == [oai_tree.patient(k) for k in range(4)]
    assert given.cases["patient_id"].tolist() == [oai_tree.patient(k) for k in range(4)]
    assert given.cases["sex"].tolist() == ["male", "female"] * 2
    assert given.cases["race"].tolist() == ["White", "White", "Black", "Black"]
    assert given.cases["age"].tolist() == ["<=50", "51-64", "51-64", ">=65"]
    assert len(given.structures) == 8 and given.portable and given.excluded == ()
    (example,) = given.read([2])
    np.testing.assert_array_equal(example.label, label)
    assert set(np.unique(example.label)) == set(range(9))
    knees = source(root, knees="split", attributes=("kl", "side"))
    assert knees.cases["case_id"].tolist()[:2] == ["9000099_right", "9000099_left"]
    assert knees.cases["kl"].tolist()[:2] == [str(oai_tree.grade(0, side)) for side in (1, 2)]


def test_ids_suffixes_and_series(root):
    image = root / "Images" / "9000099.dcm"
    (root / "Images").rename(root / "images")
    image = root / "images" / "9000099.dcm"
    image.rename(root / "images" / "P_9000099_v00.DCM")
    (root / "Annotations" / "9000099.nii.gz").rename(root / "Annotations" / "p_9000099_V00.nii.gz")
    oai_tree.write_film(root / "images" / "9001099.dcm", oai_tree.film(1)[0], SeriesDescription=None)
    cases = source(root).cases
    assert set(cases["case_id"]) == {"P_9000099_v00", "9001099", "9002099", "9003099"}
    assert set(cases["patient_id"]) == {oai_tree.patient(k) for k in range(4)}


def test_excluded_films_are_listed_with_reasons(root):
    film, label = oai_tree.film(0)
    oai_tree.write_film(root / "Images" / "knee.dcm", film)
    (root / "Images" / "9000099.jpg").touch()
    oai_tree.write_film(root / "Images" / "9009099.dcm", film)
    (root / "Annotations" / "9001099.nii.gz").rename(root / "Annotations" / "spare.nii.gz")
    oai_tree.write_film(root / "Images" / "9002099.dcm", film, SeriesDescription="PA Hand")
    oai_tree.write_film(root / "Images" / "9003099.dcm", film, ImagerPixelSpacing=None)
    oai_tree.write_mask(root / "Annotations" / "9009099.nii.gz", label)
    given = source(root)
    assert given.cases["case_id"].tolist() == ["9000099"]
    assert given.unused == (
        ("9000099.jpg", "no .dcm file"),
        ("spare.nii.gz", "a mask without a film in Images"),
    )
    assert sorted(given.excluded) == [
        ("9001099", "no mask in Annotations"),
        ("9002099", "not a Bilateral PA Fixed Flexion Knee"),
        ("9003099", "no pixel spacing in its header"),
        ("9009099", "its patient is not in Enrollees"),
        ("knee", "its name contains no ID of seven digits"),
    ]


def test_quality_goes_by_the_accession_number(root):
    film, _ = oai_tree.film(0)
    for k in (0, 1):
        oai_tree.write_film(
            root / "Images" / f"{oai_tree.patient(k)}.dcm", film, AccessionNumber=f"0166{oai_tree.barcode(k)}"
        )
    given = source(root, quality={"ACCEPT": "1"})
    assert given.cases["case_id"].tolist() == ["9000099", "9001099"]
    assert [why for _, why in given.excluded] == ["no V00ACCEPT for its barcode"] * 2


def test_layouts_that_do_not_fit(root):
    with pytest.raises(InputError, match=r"tables holds no folder Images; set data.root"):
        source(root / "tables", tables=str(root / "tables"))
    with pytest.raises(InputError, match="data.visit='12m': give one of 00, 01"):
        source(root, visit="12m")
    for path in (root / "Annotations").iterdir():
        path.rename(path.with_name(f"mask_{path.name}"))
    message = "no mask fits a film.*'9000099.dcm' in Images and 'mask_9000099.nii.gz' here"
    with pytest.raises(InputError, match=message):
        source(root)
    for path in (root / "Images").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="(?s)no film can be used:.4 x a mask without a film in Images"):
        source(root)


@pytest.mark.parametrize("twin", ["9000099.dicom", "9000099.DCM"])
def test_two_films_of_one_name_are_refused(root, twin):
    oai_tree.write_film(root / "Images" / twin, oai_tree.film(0)[0])
    with pytest.raises(
        InputError, match=r"9000099\.\w+ and 9000099\.\w+ are films of the same name; keep one"
    ):
        source(root)

import csv
import json

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK
from PIL import Image

from configs import folder as folder_config
from kneefair_jax.audit import __main__ as audit
from kneefair_jax.data import folder as folders
from kneefair_jax.data import readers
from kneefair_jax.errors import InputError
from kneefair_jax.predict import __main__ as predict
from kneefair_jax.runs import modes
from tests.hostile import films, geometry
from tests.predict.networks import write

pytestmark = pytest.mark.usefixtures("terminal_log")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(
        write(tmp_path_factory.mktemp("weights") / "w.safetensors", ("femur", "tibia", "fibula", "patella"))
    )


@pytest.fixture(scope="module")
def oriented(tmp_path_factory):
    return geometry.orientations(tmp_path_factory.mktemp("oriented"))


def audited(root, pred, out, *more, truth="truth"):
    """The report, and the per-case table."""
    given = [
        "--truth",
        root / truth,
        "--pred",
        root / pred,
        "--metadata",
        root / "metadata.csv",
        "--out",
        out,
    ]
    given += ["--labels", "knee", "--attributes", "sex", "--draws", "50", *more]
    assert audit.main([str(word) for word in given]) == 0
    cases = pd.read_parquet(out / "cases.parquet").drop(columns="model")  # the name of its folder
    return json.loads((out / "report.json").read_text()), cases


@pytest.fixture(scope="module")
def same_order(oriented, tmp_path_factory):
    return audited(oriented, "pred_LP", tmp_path_factory.mktemp("same"))


def slow(*values):
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
        for value in values
    ]


@pytest.mark.parametrize(
    "pred", ["pred_RA", *slow("pred_AR", "pred_by_site", "pred_RP", "pred_LA", "pred_PL")]
)
def test_predictions_in_another_order_score_the_same(oriented, same_order, tmp_path, pred, capsys):
    same, expected = same_order
    report, cases = audited(oriented, pred, tmp_path / "other")
    pd.testing.assert_frame_equal(cases, expected)
    gap = report["scores"]["dice"]["summaries"]["sex"]["gap"]
    assert gap == same["scores"]["dice"]["summaries"]["sex"]["gap"] and gap["value"] < 0.05
    assert "orientation" not in capsys.readouterr().out


def test_cases_that_lie_otherwise_are_named(oriented, tmp_path, capsys):
    audited(oriented, "pred_wrong", tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    (note,) = [line for line in lines if line.startswith("note: ") and "orientation" in line]
    turned = [f"c{n:02d}" for n in range(24) if n % 8 < 2]
    assert "6 of 24 cases" in note and all(f"{case}: fits after flip-lr" in note for case in turned[:5])
    assert not any(f"c{n:02d}" in note for n in range(24) if n % 8 >= 2)
    faults = pd.read_csv(tmp_path / "out/mask_faults.csv")
    assert faults["case_id"].tolist() == turned and set(faults["mask"]) == {"pred_wrong"}
    assert set(faults["detail"].str.split(" ").str[2]) == {"flip-lr"}


@pytest.mark.parametrize("turn", ["flip-lr", *slow("rotate-90", "flip-ud", "rotate-180", "transpose")])
def test_an_orientation_is_named_and_applied_by_the_flag_alone(tmp_path, turn, capsys):
    rows = []
    for n in range(12):
        mask = films.knee(n)[1]
        for name, array in (
            ("truth", mask),
            ("pred", readers.ORIENTATIONS[turn].undo(geometry.thicker(mask))),
        ):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / name / f"c{n}.png")
        rows.append(f"c{n},p{n},{'fm'[n % 2]},{films.MM}")
    films.table(tmp_path / "metadata.csv", "case_id,patient_id,sex,spacing_mm", rows)
    _, before = audited(tmp_path, "pred", tmp_path / "before")
    assert f"--orientation {turn}" in capsys.readouterr().out
    _, after = audited(tmp_path, "pred", tmp_path / "after", "--orientation", turn)
    assert "--orientation" not in capsys.readouterr().out
    assert before["dice"].mean() < 0.75 and after["dice"].mean() > 0.8


def config_of(root, **data):
    made = folder_config.get_config()
    made.data.update(
        {"root": str(root), "size": (64, 64), "attributes": ("sex",), "structures": "knee", **data}
    )
    made.model.widths = (2, 4)
    made.train.update({"steps": 2, "batch_size": 8})
    made.check.against = ""
    return made


@pytest.fixture
def no_timing(monkeypatch):
    """`check` without its timing of this machine, which compiles a network."""
    measured = type("Measured", (), {"_asdict": lambda self: {}})()
    monkeypatch.setattr(modes.hardware, "measure", lambda *_: measured)
    monkeypatch.setattr(modes.hardware, "lines", lambda _: [])


def checked(root, workdir, **data):
    modes.check(config_of(root, **data), workdir)
    return json.loads((workdir / "check" / "check.json").read_text())["cohort"]


def examples(root, **data):
    return list(
        folders.source(config_of(root, **data).data, size=(64, 64), channels=1).read(range(geometry.CASES))
    )


@pytest.mark.parametrize(("images", "masks"), [("AR", "LP"), *slow(("LP", "LA"), ("RA", "PL"))])
def test_films_and_masks_that_agree_in_space_are_trained_on_aligned(tmp_path, no_timing, images, masks):
    root = geometry.cohort(tmp_path / "cohort", images, masks)
    for n, example in enumerate(examples(root)):
        np.testing.assert_array_equal(example.image[..., 0], films.knee(n)[0])
        np.testing.assert_array_equal(example.label, films.knee(n)[1])
        np.testing.assert_allclose(example.spacing, films.MM)
    assert checked(root, tmp_path / "run")["orientation"] == {"consistent": "", "turned": []}


@pytest.mark.slow
def test_masks_drawn_on_dcm2niix_s_films_are_named_and_never_turned_in_silence(tmp_path, no_timing, capsys):
    root = geometry.dcm2niix(tmp_path / "cohort")
    np.testing.assert_array_equal(examples(root)[3].label, films.knee(3)[1][::-1])
    result = checked(root, tmp_path / "run")["orientation"]
    assert result["consistent"] == "flip-ud" and len(result["turned"]) == 24
    assert "--config.data.orientation=flip-ud" in capsys.readouterr().out
    np.testing.assert_array_equal(examples(root, orientation="flip-ud")[3].label, films.knee(3)[1])
    result = checked(root, tmp_path / "right", orientation="flip-ud")["orientation"]
    assert result == {"consistent": "", "turned": []}


def test_the_few_masks_that_lie_otherwise_are_named(tmp_path, no_timing, capsys):
    root = geometry.dcm2niix(tmp_path / "cohort", share=10)
    turned = checked(root, tmp_path / "run")["orientation"]["turned"]
    expected = {"c00": "flip-ud", "c10": "flip-ud", "c20": "flip-ud"}
    assert {one["case_id"]: one["orientation"] for one in turned} == expected
    told = capsys.readouterr().out
    assert all(case in told for case in expected)


def test_a_mask_that_states_nothing_of_a_film_that_does_needs_a_word(tmp_path):
    root = geometry.cohort(tmp_path / "cohort", images="RA")
    table = pd.read_csv(root / "metadata.csv")
    for n, name in enumerate(table["case_id"]):
        Image.fromarray(films.knee(n)[1]).save(root / "masks" / f"{name}.png")
    table["mask"] = [f"masks/{name}.png" for name in table["case_id"]]
    table.to_csv(root / "metadata.csv", index=False)
    error = examples(root)[2]
    assert isinstance(error, InputError)
    for word in ("row 4", "c02.png", "data.orientation=none", "data.orientation=stored"):
        assert word in str(error)
    np.testing.assert_array_equal(examples(root, orientation="none")[2].label, films.knee(2)[1])
    with pytest.raises(InputError, match=r"orientation='upside'.*flip-ud"):
        examples(root, orientation="upside")


@pytest.mark.slow
def test_units_are_read_and_unknown_is_unknown(tmp_path, capsys):
    root = geometry.units(tmp_path)
    _, expected = audited(root, "pred", tmp_path / "mm", truth="truth_mm")
    for unit in ("micron", "meter", "by_site"):
        _, cases = audited(root, "pred", tmp_path / unit, truth=f"truth_{unit}")
        pd.testing.assert_frame_equal(cases, expected, rtol=1e-5)
    _, cases = audited(root, "pred", tmp_path / "unknown", truth="truth_unknown")
    assert cases["true_area_mm2"].isna().all() and cases["hd95_mm"].isna().all()
    np.testing.assert_array_equal(cases["dice"], expected["dice"])
    given = ["--truth", root / "truth_wrong", "--pred", root / "pred", "--metadata", root / "metadata.csv"]
    given += ["--labels", "knee", "--attributes", "sex", "--out", tmp_path / "wrong"]
    capsys.readouterr()
    assert audit.main([str(word) for word in given]) == 2
    message = capsys.readouterr().err
    assert "c00.nii.gz" in message and "row 2" in message and "0.01" in message and "correct" in message
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("kind", [*geometry.SPACINGS, "vr_ut"])
def test_a_spacing_that_is_none_is_refused_by_name(tmp_path, kind):
    path = geometry.bad_spacing(tmp_path / "film.dcm", kind)
    with pytest.raises(InputError, match=r"film\.dcm.*PixelSpacing.*correct it"):
        readers.read_image(path)


@pytest.mark.slow
def test_bad_spacings_stop_neither_films_nor_a_cohort(tmp_path, weights, no_timing, capsys):
    root, out = tmp_path / "cohort", tmp_path / "out"
    bad = geometry.cohort_with_bad_spacing(root)
    assert {"comma", "comma_between", "three", "blank", "word", "vr_ut"} <= set(bad.values())
    given = ["--checkpoint", weights, "--images", str(root / "images"), "--out", str(out), "--no-overlays"]
    assert predict.main(given) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(bad)
    for line, name in zip(lines, bad, strict=True):
        assert f"{name}.dcm" in line and "PixelSpacing" in line and "correct it" in line
    good = {f"c{n:02d}" for n in range(geometry.CASES)} - set(bad)
    assert {path.stem for path in (out / "masks").iterdir()} == good
    assert checked(root, tmp_path / "run", on_read_error="skip")["cases"] == len(good)
    excluded = json.loads((tmp_path / "run/check/check.json").read_text())["cohort"]["excluded"]
    assert [case for case, _ in excluded] == list(bad)
    assert all("PixelSpacing" in why and "correct it" in why for _, why in excluded)
    with pytest.raises(InputError, match=r"row 7.*c05\.dcm"):
        modes.check(config_of(root, on_read_error="stop"), tmp_path / "stop")


IOP = {
    "none": None,
    "axial": [1, 0, 0, 0, 1, 0],
    "frontal": [1, 0, 0, 0, 0, -1],
    "frontal mirrored": [-1, 0, 0, 0, 0, -1],
    "lateral": [0, 1, 0, 0, 0, -1],
    "on its side": [0, 0, -1, 1, 0, 0],
}


@pytest.mark.parametrize("directions", IOP.values(), ids=IOP)
def test_a_written_mask_lies_on_its_dicom_film(tmp_path, weights, directions):
    tags = (
        {}
        if directions is None
        else {"ImageOrientationPatient": directions, "ImagePositionPatient": [5, -7, 11]}
    )
    film = films.dicom(
        tmp_path / "film.dcm",
        films.bright()[:60],
        ImagerPixelSpacing=[2.0, 1.5],
        PixelSpacing=[2.0, 1.5],
        **tags,
    )
    given = ["--checkpoint", weights, "--images", str(film), "--out", str(tmp_path / "out"), "--no-overlays"]
    assert predict.main([*given, "--format", "nifti"]) == 0
    path = tmp_path / "out" / "masks" / "film.nii.gz"
    mask, image = SimpleITK.ReadImage(str(path)), SimpleITK.ReadImage(str(film))
    assert mask.GetSize() == image.GetSize()
    np.testing.assert_allclose(mask.GetDirection(), image.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(mask.GetOrigin(), image.GetOrigin(), atol=1e-5)
    np.testing.assert_allclose(mask.GetSpacing()[:2], image.GetSpacing()[:2], rtol=1e-6)
    read = readers.read_label_file(path)
    shown = readers.read_radiograph(film)
    assert read.values.shape == shown.pixels.shape[:2]
    np.testing.assert_allclose(read.spacing, shown.spacing, rtol=1e-6)
    # nibabel's affine brings each voxel to where DICOM's header brings it.
    affine = nibabel.load(path).affine
    across, down = np.split(np.array(directions or IOP["axial"], float), 2)
    start = np.array([5, -7, 11] if directions else [0, 0, 0], float)
    place = start + 9 * 1.5 * across + 4 * 2.0 * down
    np.testing.assert_allclose((affine @ [9, 4, 0, 1])[:3], place * [-1, -1, 1], atol=1e-4)


@pytest.mark.parametrize("axes", ["LP", "RA", "AL"])
def test_a_written_mask_has_the_geometry_of_its_nifti_film_and_none_of_its_text(tmp_path, weights, axes):
    film = films.nifti(tmp_path / "film.nii.gz", films.knee(0)[0][:60], axes, (2.0, 1.5))
    source = nibabel.load(film)
    source.header["descrip"], source.header["db_name"] = b"Jane Doe 1950-01-01", b"Jane"
    source.header["aux_file"], source.header["intent_name"] = b"Jane Doe", b"Jane Doe"
    nibabel.save(source, film)
    given = ["--checkpoint", weights, "--images", str(film), "--out", str(tmp_path / "out"), "--no-overlays"]
    assert predict.main([*given, "--format", "nifti"]) == 0
    path = tmp_path / "out" / "masks" / "film.nii.gz"
    mask, source = nibabel.load(path), nibabel.load(film)
    assert mask.shape == source.shape and mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(mask.affine, source.affine)
    for name in ("sform_code", "qform_code", "xyzt_units", "pixdim"):
        np.testing.assert_array_equal(mask.header[name], source.header[name])
    assert b"Jane" not in mask.header.binaryblock
    image, label = SimpleITK.ReadImage(str(film)), SimpleITK.ReadImage(str(path))
    assert image.GetDirection() == label.GetDirection() and image.GetOrigin() == label.GetOrigin()


def test_every_order_of_a_film_gets_one_mask_and_one_area(tmp_path, weights):
    image = films.knee(0)[0][:60]
    for axes in ("LP", "RP", "LA", "RA", "PL", "PR", "AL", "AR"):
        films.nifti(tmp_path / "films" / f"{axes}.nii.gz", image, axes, (2.0, 1.5))
    areas = {}
    for suffix in ("png", "nifti"):
        out = tmp_path / suffix
        given = [
            "--checkpoint",
            weights,
            "--images",
            str(tmp_path / "films"),
            "--out",
            str(out),
            "--no-overlays",
        ]
        assert predict.main([*given, "--format", suffix]) == 0
        masks = [readers.read_mask(path) for path in sorted((out / "masks").iterdir())]
        assert len(masks) == 8 and len(np.unique(masks[0])) > 1
        for mask in masks:
            np.testing.assert_array_equal(mask, masks[0])
        rows = list(csv.DictReader((out / "areas.csv").read_text().splitlines()))
        areas[suffix] = {(row["structure"], row["area_mm2"], row["spacing_kind"]) for row in rows}
        assert len(areas[suffix]) == 4
    assert areas["png"] == areas["nifti"]


def test_an_unknown_spacing_is_written_and_read_back_as_unknown(tmp_path, weights):
    Image.fromarray(films.knee(0)[0]).save(tmp_path / "film.png")
    for name, film in (("a", "film.png"), ("b", "a/masks/film.nii.gz")):
        given = ["--checkpoint", weights, "--images", str(tmp_path / film), "--out", str(tmp_path / name)]
        if name == "b":  # a film this time, with the header of the mask
            copy = nibabel.load(tmp_path / film)
            picture = nibabel.Nifti1Image(films.knee(0)[0].T[..., None], copy.affine, copy.header)
            nibabel.save(picture, tmp_path / film)
        assert predict.main([*given, "--format", "nifti", "--no-overlays"]) == 0
        mask = readers.read_label_file(tmp_path / name / "masks" / "film.nii.gz")
        assert np.isnan(mask.spacing).all() and mask.orientation == readers.NONE
        rows = list(csv.DictReader((tmp_path / name / "areas.csv").read_text().splitlines()))
        assert {(row["area_mm2"], row["spacing_kind"]) for row in rows} == {("", "unknown")}


def test_a_mirrored_film_of_both_knees_has_its_sides_right(tmp_path, weights):
    """PatientOrientation R-F: the patient's right is at image right, as it is stored."""
    both = np.hstack([films.bright(0), films.bright(1)])
    films.dicom(tmp_path / "films" / "a.dcm", both, PatientOrientation=["L", "F"])
    films.dicom(tmp_path / "films" / "b.dcm", both[:, ::-1], PatientOrientation=["R", "F"])
    given = ["--checkpoint", weights, "--images", str(tmp_path / "films"), "--out", str(tmp_path / "out")]
    assert predict.main([*given, "--knees", "both"]) == 0
    masks = {name: readers.read_mask(tmp_path / "out" / "masks" / f"{name}.png") for name in "ab"}
    np.testing.assert_array_equal(masks["b"], masks["a"][:, ::-1])  # on its own pixels, with the same sides
    assert len(np.unique(masks["a"])) > 2
    assert pydicom.dcmread(tmp_path / "films" / "b.dcm").PatientOrientation == ["R", "F"]

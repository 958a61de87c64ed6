"""`--spacing` and areas of films whose files state none, and masks among radiographs."""

import csv

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from kneefair_jax.data import mask_files, readers
from kneefair_jax.errors import InputError
from kneefair_jax.predict import __main__ as cli
from kneefair_jax.predict import areas, films, writers
from kneefair_jax.predict.prediction import Prediction
from tests.hostile import masks
from tests.hostile.films import dicom, nifti
from tests.predict.networks import write

PICTURE = np.random.default_rng(0).integers(0, 256, (30, 24), dtype=np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    structures = ("femur", "tibia", "fibula", "patella")
    return str(write(tmp_path_factory.mktemp("weights") / "w.safetensors", structures))


@pytest.fixture
def predict(tmp_path, weights):
    """Runs the command on the files of `tmp_path/films`: exit status and rows of areas.csv."""

    def of(*more):
        given = ["--checkpoint", weights, "--images", str(tmp_path / "films"), "--out", str(tmp_path / "out")]
        status = cli.main([*given, "--no-overlays", *more])
        table = tmp_path / "out/areas.csv"
        return status, list(csv.DictReader(table.read_text().splitlines())) if table.exists() else []

    (tmp_path / "films").mkdir()
    return of


@pytest.mark.parametrize(
    ("text", "spacing"),
    [
        ("0.15", [0.15, 0.15]),
        ("0.15,0.2", [0.15, 0.2]),
        ("0.15x0.2", [0.15, 0.2]),
        ("1x2", [1, 2]),
        ("1.0,1.5", [1, 1.5]),
        ("5", [5, 5]),
        ("1e-2", [0.01] * 2),
    ],
)
def test_one_number_or_two(text, spacing):
    np.testing.assert_allclose(films.parse_spacing(text), spacing, rtol=1e-6)


@pytest.mark.parametrize(
    "text",
    ["", "0", "0.009", "5.1", "-1", "0_3", "0,15", "nan", "inf", "1,1,1", "0.15;0.2", "x"],
)
def test_anything_else_is_refused_with_the_remedy(text):
    with pytest.raises(InputError, match=r"--spacing.*0\.01 and 5.*--spacing 0\.15,0\.2"):
        films.parse_spacing(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,5", r"decimal comma; write 1\.5 for one number, or 1x5 for"),
        ("1,1", r"decimal comma; write 1\.1 for one number, or 1x1 for"),
        ("0.1,0.3", r"0\.1 mm down and 0\.3 mm across differ by more than a factor of 2"),
        ("1x5", "factor of 2"),
    ],
)
def test_a_decimal_comma_and_pixels_that_are_far_from_square_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        films.parse_spacing(text)


def test_a_refused_spacing_begins_nothing(predict, tmp_path, capsys):
    Image.fromarray(PICTURE).save(tmp_path / "films/a.png")
    status, rows = predict("--spacing", "0_3")
    assert status == 2 and "0_3" in capsys.readouterr().err
    assert rows == [] and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_areas_of_files_without_a_spacing(predict, tmp_path, kind, capsys):
    Image.fromarray(PICTURE).save(tmp_path / f"films/a.{kind}")
    assert {(row["area_mm2"], row["spacing_kind"]) for row in predict()[1]} == {("", "unknown")}
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "1 file states no pixel spacing: areas in pixels only; state it with --spacing"
    _, rows = predict("--spacing", "0.5,0.4", "--format", "nifti", "--overwrite")
    assert "no pixel spacing" not in capsys.readouterr().out
    assert {row["spacing_kind"] for row in rows} == {"stated"}
    assert [row["area_mm2"] for row in rows] == [f"{0.2 * int(row['area_pixels']):.2f}" for row in rows]
    spacing = readers.read_label_file(tmp_path / "out/masks/a.nii.gz").spacing
    np.testing.assert_allclose(spacing, [0.5, 0.4], rtol=1e-6)


def asymmetric(shape):
    mask = np.zeros(shape, np.uint8)
    mask[3:9, 2:20] = 1
    mask[12:20, 3:7] = 2
    return mask


def read_back(tmp_path, film, format_name, structures=("femur", "tibia")):
    """The spacing of a mask of the film, written and read again; its pixels agree."""
    stated = films.with_stated_spacing(film, np.array([0.15, 0.25], np.float32))
    ending, write = writers.FORMATS[format_name]
    mask = asymmetric(stated.image.shape[:2])
    write(tmp_path / f"mask{ending}", mask, stated, structures)
    result = mask_files.read(tmp_path / f"mask{ending}", {name: (n,) for n, name in enumerate(structures, 1)})
    np.testing.assert_array_equal(result.values, stated.to_displayed(mask))
    return result.spacing


@pytest.mark.parametrize("axes", ["LP", "RP", "LA", "RA", "PL", "AR"])
@pytest.mark.parametrize("codes", [(0, 0), (0, 2), (1, 0), (1, 1)])
def test_nifti_masks_of_films_without_a_unit_state_it(tmp_path, axes, codes):
    path = nifti(tmp_path / "film.nii.gz", PICTURE, axes, mm=0.3, unit="unknown")
    image = nibabel.load(path)
    image.header["qform_code"], image.header["sform_code"] = codes
    nibabel.save(nibabel.Nifti1Image(image.dataobj[...], None, image.header), path)
    np.testing.assert_allclose(read_back(tmp_path, films.read(path), "nifti"), [0.15, 0.25], rtol=1e-6)
    mask = nibabel.load(tmp_path / "mask.nii.gz")
    assert mask.header.get_xyzt_units()[0] == "mm" and mask.shape == image.shape
    transposed = any(codes) and axes[0] in "AP"
    zooms = [0.15, 0.25] if transposed else [0.25, 0.15]
    np.testing.assert_allclose(mask.header.get_zooms()[:2], zooms, rtol=1e-6)
    np.testing.assert_allclose(nibabel.affines.voxel_sizes(mask.affine)[:2], zooms, rtol=1e-6)


@pytest.mark.parametrize("shape", [(24, 30), (24, 30, 1), (24, 30, 1, 1), (1, 24, 30), (24, 1, 30)])
def test_nifti_masks_of_arrays_without_a_place_in_space_state_it(tmp_path, shape):
    nibabel.save(nibabel.Nifti1Image(PICTURE.T.reshape(shape), np.eye(4)), tmp_path / "film.nii")
    film = films.read(tmp_path / "film.nii")
    assert film.orientation is None
    np.testing.assert_allclose(read_back(tmp_path, film, "nifti"), [0.15, 0.25], rtol=1e-6)
    assert nibabel.load(tmp_path / "mask.nii.gz").shape == shape


@pytest.mark.parametrize("format_name", ["nifti", "dicomseg"])
@pytest.mark.parametrize("letters", [None, ["L", "F"], ["R", "F"], ["F", "L"]])
def test_masks_of_dicom_films_without_a_spacing_state_it(tmp_path, format_name, letters):
    film = pydicom.dcmread(masks.film(tmp_path / "film.dcm", PICTURE))
    del film.ImagerPixelSpacing
    film.PatientOrientation = letters
    film.save_as(tmp_path / "film.dcm")
    spacing = read_back(tmp_path, films.read(tmp_path / "film.dcm"), format_name)
    np.testing.assert_allclose(spacing, [0.15, 0.25], rtol=1e-6)


def test_it_is_of_the_film_as_displayed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the film is displayed turned by a quarter
    Image.fromarray(PICTURE).save(tmp_path / "a.png", exif=exif)
    film = films.with_stated_spacing(films.read(tmp_path / "a.png"), np.array([0.5, 0.2], np.float32))
    assert film.image.shape[:2] == (24, 30) and film.spacing_kind == "stated"
    np.testing.assert_allclose(film.spacing, [0.5, 0.2])
    np.testing.assert_allclose(film.stored_spacing(), [0.2, 0.5])


@pytest.mark.parametrize(
    ("text", "warned"), [("0.5", False), ("0.501", False), ("0.25", True), ("0.5,0.4", True)]
)
def test_a_header_is_followed_and_a_contradiction_is_a_warning(predict, tmp_path, text, warned):
    dicom(tmp_path / "films/a.dcm", PICTURE.astype(np.uint16) * 16, PixelSpacing=[0.5, 0.5])
    _, rows = predict("--spacing", text)
    assert {row["spacing_kind"] for row in rows} == {"calibrated"}
    assert rows[0]["area_mm2"] == f"{0.25 * int(rows[0]['area_pixels']):.2f}"
    assert ("--spacing" in rows[0]["warning"]) == warned
    assert rows[0]["warning"].startswith("the header states 0.5 x 0.5 mm, and --spacing 0.") == warned


def test_a_warning_is_written_once_a_film_and_every_row_refers_to_it(predict, tmp_path):
    dicom(
        tmp_path / "films/a.dcm",
        PICTURE.astype(np.uint16) * 16,
        PixelSpacing=[0.5, 0.5],
        ImagerPixelSpacing=[2, 2],
    )
    _, rows = predict()
    first, *others = (row["warning"] for row in rows)
    assert "ImagerPixelSpacing" in first and others == ["see femur"] * 3


def test_no_warning_is_no_text_in_any_row(tmp_path):
    item = films.Input(tmp_path / "a.png", "a")
    prediction = Prediction(np.ones((30, 24), np.uint8), dict.fromkeys(("femur", "tibia"), 0.99))
    film = films.Film(tmp_path / "a.png", PICTURE[..., None], np.full(2, np.nan), False, ())
    assert [row[-2] for row in areas.rows_of(item, item.path, film, prediction, tmp_path, {})] == ["", ""]


def test_no_folder_s_name_is_in_a_warning(tmp_path):
    folder = tmp_path / "Smith, Jo (x)"
    item = films.Input(folder / "a.png", "a")
    prediction = Prediction(np.ones((30, 24), np.uint8), {"femur": 0.99})
    film = films.Film(item.path, PICTURE[..., None], np.full(2, np.nan), False, (f"{folder}/a.png is odd",))
    ((*_, warning, _),) = areas.rows_of(item, item.path, film, prediction, tmp_path, {})
    assert "is odd" in warning and str(tmp_path) not in warning


def shafts(size: int) -> np.ndarray:
    """Two bright shafts on soft tissue with noise of 4 % of the range, u8[size, size]."""
    y, x = np.mgrid[:size, :size] / size
    bright = 90 + 60 * np.sin(3 * x) * np.cos(2 * y) + 70 * (np.abs(x - 0.5) < 0.2) * (np.abs(y - 0.5) > 0.03)
    noise = np.random.default_rng(0).normal(0, 10, (size, size))
    return np.clip(bright + noise, 0, 255).astype(np.uint8)


def shaft_labels(size: int) -> np.ndarray:
    """Two shafts and a smaller bone, u8[size, size]."""
    y, x = np.mgrid[:size, :size] / size
    shaft = np.abs(x - 0.5) < 0.2
    return np.select([shaft & (y < 0.47), shaft & (y > 0.53), (x > 0.75) & (y > 0.6)], [1, 2, 3], 0).astype(
        np.uint8
    )


@pytest.mark.parametrize("size", [64, 300])
@pytest.mark.parametrize("values", [8, 16, 32])
def test_films_of_few_gray_values_are_no_masks(values, size):
    image = shafts(size) // (256 // values)
    assert 3 < len(np.unique(image)) <= values and not films.is_label_image(image, "a")


@pytest.mark.parametrize("size", [64, 300])
def test_masks_are_recognized_by_their_regions(size):
    label = shaft_labels(size)
    assert films.is_label_image(label, "a") and films.is_label_image(
        np.repeat(label[..., None] * 50, 3, 2), "a"
    )


@pytest.mark.slow  # draws 40 phantoms
def test_the_threshold_separates_phantoms_from_their_masks():
    radiographs, labels = masks.phantoms()
    assert max(films.constant_share(image // 32) for image in radiographs) < films.MIN_CONSTANT - 0.03
    assert min(map(films.constant_share, labels)) > films.MIN_CONSTANT + 0.03


def test_two_values_are_a_mask_and_one_value_is_if_its_name_says_so():
    noise = np.random.default_rng(0).integers(0, 2, (20, 20), np.uint8)
    assert films.is_label_image(noise * 255, "a")
    blank = np.zeros((20, 20), np.uint8)
    assert [films.is_label_image(blank, name) for name in ("a", "a_mask", "gt/a", "mask_a")] == [
        False,
        True,
        True,
        True,
    ]


def test_a_name_marks_a_mask_with_few_values_only():
    noise = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)
    assert not films.is_label_image(noise, "masks/a") and films.is_label_image(noise // 64, "masks/a")
    assert not films.is_label_image(noise // 64, "a")


def test_an_image_of_two_columns_has_no_constant_region():
    assert films.constant_share(np.zeros((9, 2), np.uint8)) == 0

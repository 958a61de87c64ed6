"""The same film in every format, orientation and polarity, and other libraries' reading of the same files."""

import cv2
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import tifffile
from PIL import Image
from pydicom.pixels import apply_modality_lut

from kneefair_jax.data import readers
from kneefair_jax.errors import InputError
from tests.hostile import films

FILM = (np.random.default_rng(0).integers(0, 4096, (20, 28))).astype(np.uint16)
MM = (0.4, 0.25)
ORDERS = ("LP", "RP", "LA", "RA", "PL", "PR", "AL", "AR")


def same(path, expected=FILM, spacing=(np.nan, np.nan)):
    image, stated = readers.read_image(path)
    np.testing.assert_array_equal(image.astype(np.float64), np.reshape(expected, (*expected.shape[:2], -1)))
    np.testing.assert_allclose(stated, spacing, rtol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_nifti_in_every_order(tmp_path, order):
    path = films.nifti(tmp_path / "film.nii.gz", FILM, order, MM)
    same(path, spacing=MM)
    np.testing.assert_array_equal(readers.read_mask(path), FILM)
    canonical = nibabel.as_closest_canonical(nibabel.load(path))  # R-A, the other way along both axes
    np.testing.assert_array_equal(np.asarray(canonical.dataobj)[::-1, ::-1, 0].T, FILM)
    image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS")
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image)[0], FILM)
    np.testing.assert_allclose(image.GetSpacing()[1::-1], MM, rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("flip", [False, True])
def test_nifti_in_every_plane(tmp_path, axis, flip):
    """A slice across each axis of a volume in RAS+ order, against ITK's reading in LPS order."""
    stored = np.expand_dims(FILM.T[::-1] if flip else FILM.T, axis)
    nibabel.save(nibabel.Nifti1Image(stored, np.diag([0.5, 0.5, 0.5, 1])), tmp_path / "film.nii")
    image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(tmp_path / "film.nii")), "LPI")
    expected = SimpleITK.GetArrayFromImage(image).squeeze()  # [z, y, x]: to the feet, posterior, left
    same(tmp_path / "film.nii", expected)


def test_nifti_that_states_no_orientation_is_read_as_stored(tmp_path):
    for name, affine in (("codes", None), ("identity", np.eye(4))):
        nibabel.save(nibabel.Nifti1Image(FILM.T, affine), tmp_path / f"{name}.nii")
        same(tmp_path / f"{name}.nii")
        assert readers.read_label_file(tmp_path / f"{name}.nii").orientation is None


DIRECTIONS = {
    "L": [1, 0, 0],
    "R": [-1, 0, 0],
    "P": [0, 1, 0],
    "A": [0, -1, 0],
    "H": [0, 0, 1],
    "F": [0, 0, -1],
}


@pytest.mark.parametrize(
    "order",
    ["LP", "RP", "LA", "RA", "PL", "PR", "AL", "AR", "LF", "RF", "LH", "RH", "FL", "HR", "PF", "AF", "AH"],
)
def test_dicom_in_every_order(tmp_path, order):
    path, transposed = tmp_path / "film.dcm", order in ("PL", "PR", "AL", "AR", "FL", "FR", "HL", "HR")
    mirrored = "R" in order or ("A" in order and set(order) & {"F", "H"})
    upside_down = "H" in order or ("A" in order and not mirrored) or set(order) == {"A", "R"}
    stored = FILM[::-1] if upside_down else FILM
    stored = stored[:, ::-1] if mirrored else stored
    stored = stored.T if transposed else stored
    directions = [*DIRECTIONS[order[0]], *DIRECTIONS[order[1]]]
    spacing = MM[::-1] if transposed else MM
    tags = {"ImageOrientationPatient": directions, "ImagePositionPatient": [0, 0, 0]}
    films.dicom(path, stored, PixelSpacing=list(spacing), ImagerPixelSpacing=list(spacing), **tags)
    same(path, spacing=MM)
    image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPI")
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image).squeeze(), FILM)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("slope", "intercept"), [(None, None), (1, 0), (2, -100), (-1, 4095), (-0.5, 7)])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_dicom_in_every_polarity_is_pydicom_s_reading(tmp_path, photometric, slope, intercept, dtype):
    stored = FILM.astype(dtype) - (2048 if dtype == np.int16 else 0)
    tags = {} if slope is None else {"RescaleSlope": slope, "RescaleIntercept": intercept}
    path = films.dicom(
        tmp_path / "film.dcm", stored.astype(dtype), photometric, PixelSpacing=list(MM), **tags
    )
    dataset = pydicom.dcmread(path)
    expected = apply_modality_lut(dataset.pixel_array, dataset).astype(np.float64)
    film = readers.read_radiograph(path)
    rises = photometric == "MONOCHROME2"
    ours = film.pixels[..., 0].astype(np.float64)
    steps = ours - expected if rises else ours + expected
    assert np.ptp(steps) < 1e-3  # equal but for a constant, or the opposite
    assert film.spacing_kind == "calibrated"


TURNS = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.T,
    6: lambda stored: np.rot90(stored, 3),
    7: lambda stored: stored[::-1, ::-1].T,
    8: lambda stored: np.rot90(stored),
}


@pytest.mark.parametrize("number", TURNS)
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_exif_and_tiff_orientation(tmp_path, number, suffix):
    path, film = tmp_path / f"film.{suffix}", (FILM >> 4).astype(np.uint8)
    exif = Image.Exif()
    exif[274] = number
    Image.fromarray(film).save(path, exif=exif)
    if suffix == "jpg":
        with Image.open(path) as image:
            film = np.asarray(image)
    expected = TURNS[number](film)
    same(path, expected)
    if suffix != "jpg":
        np.testing.assert_array_equal(readers.read_mask(path), expected)
    if suffix != "tif":  # OpenCV turns PNG and JPEG, and TIFF in some versions
        np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), expected)


@pytest.mark.parametrize("number", TURNS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "tiff_deflate"])
@pytest.mark.parametrize("shape", [(60, 80), (80, 60)])
def test_a_tiff_is_turned_by_its_tag_whatever_its_compression(tmp_path, number, dtype, compression, shape):
    stored = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    path = tmp_path / "film.tif"
    Image.fromarray(stored).save(path, tiffinfo={274: number}, compression=compression)
    same(path, TURNS[number](stored))
    np.testing.assert_array_equal(readers.read_mask(path), TURNS[number](stored))


def test_a_bilevel_tiff_is_a_film_as_displayed_and_a_mask_as_stored(tmp_path):
    film = FILM > 2000
    for photometric in ("minisblack", "miniswhite"):
        path = tmp_path / f"{photometric}.tif"
        tifffile.imwrite(path, film, photometric=photometric)
        shown = film if photometric == "minisblack" else ~film
        np.testing.assert_array_equal(readers.read_mask(path), film)
        same(path, np.where(shown, 255, 0))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_of_16_bits_keeps_its_depth(tmp_path, channels):
    """Noise and a ramp, so that OpenCV's encoder takes several filters."""
    ramp = np.add.outer(np.arange(20) * 700, np.arange(28) * 311)[..., None] + np.arange(channels) * 97
    film = (ramp + FILM[..., None] % 50).astype(np.uint16)
    path = tmp_path / "film.png"
    cv2.imwrite(str(path), film)
    expected = film if channels == 1 else film[..., [2, 1, 0]]  # OpenCV has blue first
    same(path, expected)
    assert readers.read_image(path)[0].dtype == np.uint16
    if channels > 1:
        with pytest.raises(InputError, match="in color"):
            readers.read_mask(path)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_labels_in_png_of_few_bits(tmp_path, bits):
    labels = (FILM % min(2**bits, 5)).astype(np.uint8)
    _write_png(tmp_path / "labels.png", labels, bits)
    np.testing.assert_array_equal(readers.read_mask(tmp_path / "labels.png"), labels)


def _write_png(path, labels, bits):
    """Grey PNG of few bits, which Pillow does not write."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    flat = np.unpackbits(labels[..., None], axis=2)[..., -bits:].reshape(len(labels), -1)
    lines = b"".join(b"\0" + row.tobytes() for row in np.packbits(flat, axis=1))
    head = struct.pack(">IIBBBBB", labels.shape[1], labels.shape[0], bits, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )

import re
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from kneefair_jax.data import readers
from kneefair_jax.errors import InputError

U8 = np.arange(12, dtype=np.uint8).reshape(3, 4)
U16 = (U8.astype(np.uint16) * 300) + 7
RGB = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)


def write_dicom(path: Path, pixels: np.ndarray, photometric="MONOCHROME2", bits=None, **tags) -> Path:
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = 8 * pixels.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_nifti(path: Path, pixels: np.ndarray, zooms=(0.2, 0.3, 1.0)) -> Path:
    image = nibabel.Nifti1Image(pixels, np.diag([-zooms[0], -zooms[1], zooms[2], 1]))  # L-P, as displayed
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
@pytest.mark.parametrize("pixels", [U8, U16, RGB])
def test_pillow_keeps_pixels_and_type(tmp_path, suffix, pixels):
    if pixels.dtype == np.uint16 and suffix != ".png":
        pixels = pixels.astype(np.float32) / 3
    path = tmp_path / f"a{suffix}"
    Image.fromarray(pixels).save(path)
    image, spacing = readers.read_image(path)
    assert image.dtype == pixels.dtype and np.isnan(spacing).all() and spacing.dtype == np.float32
    np.testing.assert_array_equal(image, pixels.reshape(3, 4, -1))


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("LA", 1), ("P", 3), ("RGBA", 3)])
def test_other_pillow_modes_become_grey_or_rgb(tmp_path, mode, channels):
    Image.fromarray(RGB).convert(mode).save(tmp_path / "a.png")
    image, _ = readers.read_image(tmp_path / "a.png")
    assert image.shape == (3, 4, channels) and image.dtype == np.uint8


def test_jpeg_is_an_image_and_no_mask(tmp_path):
    for name in ("a.jpg", "disguised.png"):
        Image.fromarray(np.full((8, 8), 90, np.uint8)).save(tmp_path / name, format="JPEG")
        assert readers.read_image(tmp_path / name)[0].shape == (8, 8, 1)
        with pytest.raises(InputError, match=r"lossy.*export the mask as PNG"):
            readers.read_mask(tmp_path / name)


@pytest.mark.parametrize(
    "syntax", [JPEGBaseline8Bit, JPEGExtended12Bit, JPEG2000, HTJ2K, JPEGLSNearLossless, RLELossless]
)
def test_a_dicom_mask_in_a_lossy_transfer_syntax_is_refused(tmp_path, syntax):
    path = write_dicom(tmp_path / "a.dcm", U8)
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path)
    if syntax == RLELossless:
        np.testing.assert_array_equal(readers.read_mask(path), U8)
        return
    with pytest.raises(
        InputError, match=r"a\.dcm: DICOM in the transfer syntax .*JPEG.*may be lossy.*export the mask"
    ):
        readers.read_mask(path)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (U16, U16),
        (U16.astype(">u2"), U16),
        (U8 > 5, np.where(U8 > 5, 255, 0).astype(np.uint8)),
        (U16.astype(np.int64), U16.astype(np.float32)),
        (U8 / 4.0, (U8 / 4).astype(np.float32)),
    ],
)
def test_npy(tmp_path, stored, expected):
    np.save(tmp_path / "a.npy", stored)
    image, _ = readers.read_image(tmp_path / "a.npy")
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image[..., 0], expected)


@pytest.mark.parametrize("name", ["a.dcm", "a.DICOM", "001", "1.2.840.7"])
def test_dicom_by_extension_or_magic(tmp_path, name):
    image, spacing = readers.read_image(write_dicom(tmp_path / name, U16, bits=12))
    assert image.dtype == np.uint16 and np.isnan(spacing).all()
    np.testing.assert_array_equal(image[..., 0], U16)


def test_monochrome1_is_inverted_in_images_only(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", U16, "MONOCHROME1", bits=12)
    np.testing.assert_array_equal(readers.read_image(path)[0][..., 0], 4095 - U16)
    np.testing.assert_array_equal(readers.read_mask(path), U16)
    path = write_dicom(tmp_path / "b.dcm", U8, "MONOCHROME1")
    np.testing.assert_array_equal(readers.read_image(path)[0][..., 0], 255 - U8)
    path = write_dicom(tmp_path / "c.dcm", U8.astype(np.int16) - 5, "MONOCHROME1")
    np.testing.assert_array_equal(readers.read_image(path)[0][..., 0], 5 - U8.astype(np.float32))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"PixelSpacing": [0.3, 0.2]}, [0.3, 0.2]),
        ({"PixelSpacing": [0.3, 0.2], "ImagerPixelSpacing": [0.15, 0.1]}, [0.15, 0.1]),
        ({"PixelSpacing": [0.3, 0.2], "ImagerPixelSpacing": None}, [0.3, 0.2]),
        ({"ImagerPixelSpacing": "0.25"}, [0.25, 0.25]),
    ],
)
def test_dicom_spacing(tmp_path, tags, expected):
    _, spacing = readers.read_image(write_dicom(tmp_path / "a.dcm", U8, **tags))
    np.testing.assert_allclose(spacing, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("used", "unused", "value"),
    [
        ("ImagerPixelSpacing", "PixelSpacing", [0, 0]),
        ("ImagerPixelSpacing", "PixelSpacing", [0.2, 0.2, 0.2]),
        ("ImagerPixelSpacing", "NominalScannedPixelSpacing", [25.4, 25.4]),
        ("PixelSpacing", "NominalScannedPixelSpacing", [25.4, 25.4]),
    ],
)
def test_an_implausible_spacing_that_is_not_used_is_a_note(tmp_path, used, unused, value):
    path = write_dicom(tmp_path / "a.dcm", U8, **{used: [0.2, 0.1], unused: value})
    film = readers.read_radiograph(path)
    np.testing.assert_allclose(film.spacing, [0.2, 0.1], rtol=1e-6)
    assert len(film.notes) == 1 and film.notes[0].startswith(f"{unused} ") and used in film.notes[0]
    with pytest.raises(InputError, match=rf"a\.dcm.*{used}.*correct it"):
        readers.read_image(write_dicom(path, U8, **{used: value, unused: [0.2, 0.1]}))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("extra", [0, 1])
def test_nifti_is_transposed(tmp_path, name, extra):
    stored = U8.T.reshape(4, 3, *[1] * extra)  # [x, y]: four across, three down
    path = write_nifti(tmp_path / name, stored)
    image, spacing = readers.read_image(path)
    np.testing.assert_array_equal(image[..., 0], U8)
    np.testing.assert_allclose(spacing, [0.3, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(readers.read_mask(path), U8)


def test_masks_keep_their_labels(tmp_path):
    np.save(tmp_path / "float.npy", U8.astype(np.float64))
    np.save(tmp_path / "negative.npy", U8[..., None].astype(np.int16) - 3)
    Image.fromarray(U16).save(tmp_path / "u16.png")
    Image.fromarray(U8 > 4).save(tmp_path / "bits.png")
    palette = Image.fromarray(U8 % 3).convert("L").copy()
    palette = Image.frombytes("P", palette.size, palette.tobytes())
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "palette.png")
    for name, expected in {
        "float.npy": U8,
        "negative.npy": U8.astype(int) - 3,
        "u16.png": U16,
        "bits.png": U8 > 4,
        "palette.png": U8 % 3,
    }.items():
        mask = readers.read_mask(tmp_path / name)
        assert mask.dtype in (np.uint8, np.int64)
        np.testing.assert_array_equal(mask, expected)


def bad_files(folder: Path):
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "broken.dcm").write_bytes(b"no picture")
    (folder / "broken.nii").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture")
    np.save(folder / "object.npy", np.array([{}]), allow_pickle=True)
    np.save(folder / "nan.npy", np.full((3, 4), np.nan))
    np.save(folder / "large.npy", np.full((3, 4), 1e300))
    np.save(folder / "complex.npy", np.ones((3, 4), complex))
    np.save(folder / "volume.npy", np.ones((3, 4, 5)))
    write_nifti(folder / "volume.nii", np.ones((3, 4, 5), np.uint8))
    write_dicom(folder / "zero.dcm", U8, ImagerPixelSpacing=[0, 0], PixelSpacing=[1, 1])
    write_dicom(folder / "frames.dcm", np.stack([U8, U8]), NumberOfFrames=2)
    write_dicom(folder / "palette.dcm", U8, "PALETTE COLOR")
    write_dicom(folder / "empty.dcm", U8, Rows=9)
    report = pydicom.dcmread(write_dicom(folder / "report.dcm", U8))
    del report.PixelData, report.PhotometricInterpretation
    report.save_as(folder / "report.dcm")
    packed = pydicom.dcmread(write_dicom(folder / "packed.dcm", U8))
    packed.compress(RLELossless)
    packed.PixelData = packed.PixelData[:-20]
    packed.save_as(folder / "packed.dcm")
    pages = [Image.fromarray(U8), Image.fromarray(U8)]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])


def test_a_long_error_of_a_library_is_cut_to_its_first_sentence(tmp_path, monkeypatch):
    def refuse(path, mask):
        raise ValueError("Broken header. Some advice for programmers.")

    monkeypatch.setitem(readers.files.READERS, ".png", refuse)
    with pytest.raises(InputError, match=r"unreadable file \(Broken header\); export"):
        readers.read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.png", "no such file"),
        ("absent.dcm", "no such file"),
        ("absent", "no such file"),
        ("broken.png", "unreadable file .*download it again"),
        (
            "broken.dcm",
            r"unreadable file \(File is missing DICOM .{1,90} the header\); export or download it again$",
        ),
        ("report.dcm", "a DICOM file without an image"),
        ("packed.dcm", r"unreadable file \(compressed DICOM, RLE Lossless: .{1,100}\); pip install"),
        ("broken.nii", "unreadable file"),
        ("empty.dcm", r"unreadable file \(.{1,100}\); export or download it again$"),
        ("object.npy", "unreadable file"),
        ("notes.txt", "unknown format.*convert it to PNG"),
        ("large.npy", "NaN, infinite or beyond float32"),
        ("nan.npy", "NaN, infinite or beyond float32"),
        ("complex.npy", "of type complex128; export them as numbers"),
        ("volume.npy", r"shape \(3, 4, 5\).*give one image"),
        ("volume.nii", r"shape \(3, 4, 5\).*give one image"),
        ("frames.dcm", "several frames"),
        ("pages.tif", "several images"),
        ("palette.dcm", "color palette"),
        ("zero.dcm", r"spacing \(ImagerPixelSpacing\) is 0 x 0 mm, .* and 5 mm; correct it"),
    ],
)
def test_bad_images_name_the_file_and_the_remedy(tmp_path, name, message):
    bad_files(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        readers.read_image(tmp_path / name)
    assert str(error.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (RGB, "in color"),
        (U8 + 0.5, "not integers"),
        (np.full((3, 4), np.nan), "not integers"),
        (np.ones((3, 4), complex), "not integers"),
        (np.ones((2, 3, 4), np.uint8), r"\(2, 3, 4\)"),
        (np.ones((0, 4), np.uint8), "0 x 4 pixels"),
    ],
)
def test_bad_masks(tmp_path, array, message):
    path = tmp_path / ("a.png" if array is RGB else "a.npy")
    Image.fromarray(array).save(path) if array is RGB else np.save(path, array)
    with pytest.raises(InputError, match=message):
        readers.read_mask(path)


def test_to_uint8_windows_between_percentiles():
    assert readers.to_uint8(RGB) is RGB
    image = np.arange(1001, dtype=np.uint16).reshape(7, 143, 1)  # percentiles 0.5 and 99.5 are 5 and 995
    np.testing.assert_array_equal(
        readers.to_uint8(image).ravel(), np.rint(np.clip((np.arange(1001) - 5) / 990, 0, 1) * 255)
    )
    np.testing.assert_array_equal(readers.to_uint8(image, (0, 100)).ravel()[[0, 200, 1000]], [0, 51, 255])
    np.testing.assert_array_equal(readers.to_uint8(np.full((2, 2, 1), 7, np.uint16)), 0)
    spike = np.zeros((100, 100, 1), np.float32)
    spike[0, 0] = 3
    assert readers.to_uint8(spike).max() == 255


def test_resize_image_does_not_alias_or_shift():
    image = np.arange(96, dtype=np.uint8).reshape(4, 8, 3)
    assert readers.resize_image(image, (4, 8)) is image
    ramp = np.broadcast_to((np.arange(50) * 5)[:, None, None], (50, 50, 1)).astype(np.uint8)
    small = readers.resize_image(ramp, (20, 20))[..., 0]
    np.testing.assert_allclose(
        small[2:-2], ((np.arange(20) + 0.5) * 12.5 - 2.5)[2:-2, None] + np.zeros(20), atol=1
    )
    assert readers.resize_image(image, (9, 5)).shape == (9, 5, 3)
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))[..., None]
    grey = readers.resize_image(stripes, (16, 16)).astype(int)
    assert abs(grey[:, 1:-1] - 128).max() <= 1


@settings(max_examples=50)
@given(st.integers(0, 999), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_resize_label_takes_the_largest_area(seed, size):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, rng.integers(1, 12, 2)).astype(np.uint8)
    small = readers.resize_label(label, size, 4)
    # On a grid that both divide, areas are counts.
    fine = (
        label.repeat(size[0], 0).repeat(size[1], 1).reshape(size[0], label.shape[0], size[1], label.shape[1])
    )
    area = np.stack([(fine == value).sum((1, 3)) for value in range(4)])
    np.testing.assert_array_equal(small, area.argmax(0))
    assert small.dtype == np.uint8


def test_resize_label_is_the_identity_at_its_own_size_and_repeats_when_enlarged():
    label = U8 % 3
    assert readers.resize_label(label, (3, 4), 3) is label
    np.testing.assert_array_equal(readers.resize_label(label, (6, 8), 3), label.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(
    ("pixdim", "unit", "text", "hint"),
    [
        ((1093.8, 1093.8), "mm", "pixdim in mm) is 1093.8 x 1093.8 mm", "micrometers labeled as mm?"),
        ((0.0002, 0.0002), "mm", "pixdim in mm) is 0.0002 x 0.0002 mm", "meters labeled as mm?"),
        ((0.2, 0.2), "meter", "pixdim in meters) is 200 x 200 mm", "mm labeled as meters?"),
        (
            (0.25, 0.5),
            "micron",
            "pixdim in micrometers) is 0.0005 x 0.00025 mm",
            "mm labeled as micrometers?",
        ),
        ((0.1, 1093.8), "mm", "pixdim in mm) is 1093.8 x 0.1 mm", ""),
    ],
)
def test_an_implausible_spacing_of_nifti_names_its_field_and_unit(tmp_path, pixdim, unit, text, hint):
    image = nibabel.Nifti1Image(np.zeros((8, 8), np.uint8), np.diag([*pixdim, 1, 1]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii.gz")
    hint = f" ({hint} correct the unit)" if hint else ""
    message = f"a.nii.gz: the header's spacing ({text}, not between 0.01 and 5 mm{hint}; correct it, or"
    for read in (readers.read_image, readers.read_mask):
        with pytest.raises(InputError, match=re.escape(message)):
            read(tmp_path / "a.nii.gz")


def test_a_mask_comes_with_the_spacing_of_its_header(tmp_path):
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4)
    labels, spacing, *_ = readers.read_label_file(write_nifti(tmp_path / "a.nii.gz", stored))
    np.testing.assert_array_equal(labels, stored.T)
    np.testing.assert_allclose(spacing, [0.3, 0.2])
    np.save(tmp_path / "a.npy", stored)
    labels, spacing, *_ = readers.read_label_file(tmp_path / "a.npy")
    np.testing.assert_array_equal(labels, stored)
    assert np.isnan(spacing).all()


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.nii.gz", ".nii.gz"),
        ("a.nii", ".nii"),
        ("A.NII.GZ", ".nii.gz"),
        ("a.b.PNG", ".png"),
        ("a.DICOM", ".dicom"),
        ("1.2.840.7", ""),
        ("001", ""),
        ("a.gz", ""),
        ("a.txt", ""),
    ],
)
def test_the_longest_known_ending(name, suffix):
    assert readers.suffix_of(name) == suffix

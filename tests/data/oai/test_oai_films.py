import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from kneefair_jax.data import readers
from kneefair_jax.data.oai import films
from kneefair_jax.data.readers import orientation
from kneefair_jax.errors import InputError
from tests import oai_tree

PIXELS = np.arange(600, dtype=np.uint16).reshape(20, 30)


def film(path, **changes):
    return films.Film("f", "9000099", "00", "00180901", path)._replace(**changes)


def inspect(tmp_path, must_be_named=True, description="", **tags):
    path = oai_tree.write_film(tmp_path / "001", PIXELS, **tags)
    return films.inspect(film(path, description=description), must_be_named=must_be_named)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"ImagerPixelSpacing": [0.3, 0.2]}, (0.3, 0.2)),
        ({"ImagerPixelSpacing": ["0.300", "0.200"]}, (0.3, 0.2)),
        ({"ImagerPixelSpacing": "0.3\\0.2"}, (0.3, 0.2)),
        ({"ImagerPixelSpacing": "0.25"}, (0.25, 0.25)),
        ({"ImagerPixelSpacing": 0.25}, (0.25, 0.25)),
        ({"ImagerPixelSpacing": [0.3, 0.2], "PixelSpacing": [0.15, 0.1]}, (0.3, 0.2)),
        ({"ImagerPixelSpacing": None, "PixelSpacing": [0.15, 0.1]}, (0.15, 0.1)),
        ({"ImagerPixelSpacing": "", "PixelSpacing": 0.15}, (0.15, 0.15)),
    ],
)
def test_spacing(tmp_path, tags, expected):
    found, reasons = inspect(tmp_path, **tags)
    assert found.spacing == expected and reasons == []


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"ImagerPixelSpacing": None}, "no pixel spacing in its header"),
        ({"ImagerPixelSpacing": ""}, "no pixel spacing in its header"),
        ({"ImagerPixelSpacing": 0}, "its header's pixel spacing is 0"),
        ({"ImagerPixelSpacing": "0.000"}, "its header's pixel spacing is 0"),
        ({"ImagerPixelSpacing": ["0.000", "0.000"], "PixelSpacing": [0.2, 0.2]}, "pixel spacing is 0"),
        ({"ImagerPixelSpacing": [0.2, 0]}, "its header's pixel spacing is 0"),
        ({"ImagerPixelSpacing": [2.0, 2.0]}, "is not between 0.05 and 1 mm"),
        ({"ImagerPixelSpacing": [0.02, 0.2]}, "is not between 0.05 and 1 mm"),
        ({"ImagerPixelSpacing": [0.2, 0.2, 0.2]}, "is not one number or two"),
        ({"SeriesDescription": "Bilateral PA Fixed Flexion Knee, repeated"}, "not a Bilateral PA Fixed"),
        ({"SeriesDescription": "PA Right Hand"}, "not a Bilateral PA Fixed Flexion Knee"),
        ({"SeriesDescription": None}, "no source states that it is a Bilateral PA Fixed Flexion Knee"),
        ({"SeriesDescription": "", "description": ""}, "no source states that it is a Bilateral"),
        ({"description": "AP Pelvis"}, "not a Bilateral PA Fixed Flexion Knee"),
        ({"AccessionNumber": "016600180902"}, "its AccessionNumber is another film's"),
    ],
)
def test_what_is_refused_and_why(tmp_path, tags, reason):
    _, reasons = inspect(tmp_path, **tags)
    assert len(reasons) == 1 and reason in reasons[0]


def test_a_series_may_be_written_in_other_ways(tmp_path):
    for text in ("bilateral  PA fixed flexion KNEE ", "Bilateral_PA_Fixed_Flexion_Knee"):
        assert inspect(tmp_path, SeriesDescription=text)[1] == []
    assert inspect(tmp_path, SeriesDescription=None, description="BILATERAL PA FIXED FLEXION KNEE")[1] == []
    assert inspect(tmp_path, must_be_named=False, SeriesDescription=None)[1] == []
    assert inspect(tmp_path, must_be_named=False, SeriesDescription="PA Hand")[1] == [f"not a {films.SERIES}"]


def test_every_reason_is_listed_and_the_barcode_is_read(tmp_path):
    _, reasons = inspect(tmp_path, SeriesDescription="Hand", ImagerPixelSpacing=None, AccessionNumber="1")
    assert len(reasons) == 3
    listed = film(tmp_path / "nowhere", description="PA Hand")
    assert films.inspect(listed, must_be_named=True)[1] == [f"not a {films.SERIES}"]  # and is not opened
    path = oai_tree.write_film(tmp_path / "001", PIXELS, AccessionNumber="016600000007")
    assert films.inspect(film(path, barcode=""), must_be_named=True)[0].barcode == "00000007"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "unreadable DICOM header (InvalidDicomError)"),
        (b"no picture", "unreadable DICOM header (InvalidDicomError)"),
        (b"\0" * 128 + b"DICM\x02\0", "its DICOM file holds no picture"),
    ],
)
def test_a_damaged_header_is_a_reason(tmp_path, content, reason):
    (tmp_path / "001").write_bytes(content)
    assert films.inspect(film(tmp_path / "001"), must_be_named=True)[1] == [reason]
    assert films.inspect(film(tmp_path / "absent"), must_be_named=True)[1] == [
        "unreadable DICOM header (FileNotFoundError)"
    ]


def picture(path):
    return films.to_displayed(readers.read_radiograph(path), path)


def test_monochrome1_gives_the_same_picture_windowed_at_the_5th_and_99th_percentile(tmp_path):
    two = picture(oai_tree.write_film(tmp_path / "2", PIXELS))
    one = picture(oai_tree.write_film(tmp_path / "1", PIXELS, "MONOCHROME1"))
    assert pydicom.dcmread(tmp_path / "1").pixel_array[0, 0] == 4095
    np.testing.assert_array_equal(one, two)
    low, high = 0.05 * 599, 0.99 * 599
    expected = np.rint(255 * np.clip((PIXELS - low) / (high - low), 0, 1))
    np.testing.assert_array_equal(two[..., 0], expected)


REAL = {"RG1_UNCR.dcm": "its header's pixel spacing is 0", "RG3_UNCR.dcm": "no pixel spacing in its header"}


@pytest.mark.parametrize("name", REAL)
def test_real_radiographs_are_refused_for_their_spacing(name):
    path = get_testdata_file(name, download=False)
    found, reasons = films.inspect(film(path, barcode=""), must_be_named=True)
    assert reasons == [f"no source states that it is a {films.SERIES}", REAL[name]]
    assert found.spacing == (0, 0) and found.barcode == ""
    assert films.inspect(film(path), must_be_named=False)[1] == [REAL[name]]


@pytest.mark.parametrize(("name", "bits"), [("RG1_UNCR.dcm", 15), ("RG3_UNCR.dcm", 10)])
def test_real_radiographs_are_inverted(tmp_path, name, bits):
    dataset = pydicom.dcmread(get_testdata_file(name, download=False))
    assert dataset.PhotometricInterpretation == "MONOCHROME1" and dataset.BitsStored == bits
    stored = dataset.pixel_array
    if "PixelSpacing" in dataset:  # the zero that is refused, here too
        with pytest.raises(InputError, match="correct it"):
            picture(dataset.filename)
        del dataset.PixelSpacing
    dataset.save_as(tmp_path / "film.dcm")
    image = picture(tmp_path / "film.dcm")[..., 0]
    low, high = np.percentile(stored, [1, 95])  # the 99th and 5th once inverted
    expected = np.rint(255 * np.clip((high - stored) / (high - low), 0, 1))
    assert abs(image - expected).max() <= 1


RIGHT, LEFT = 3, 4  # the femurs


def mask(tmp_path, edit):
    label = np.zeros((20, 30), np.int16)
    label[5:9, 3:9], label[5:9, 20:26] = RIGHT, LEFT
    return oai_tree.write_mask(tmp_path / "a.nii.gz", edit(label))


def labels(path, shape):
    return films.check_labels(readers.read_mask(path), shape, path)


def test_labels(tmp_path):
    label = labels(mask(tmp_path, lambda label: label), (20, 30))
    assert label.dtype == np.uint8 and label[6, 4] == RIGHT and label[6, 22] == LEFT
    assert films.of_side(label, "right").sum() == films.of_side(label, "left").sum() == 24
    for one, other in ((RIGHT, "left"), (LEFT, "right")):
        only = labels(mask(tmp_path, lambda label, one=one: label * (label == one)), (20, 30))
        assert only.any() and not films.of_side(only, other).any()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda label: label[:, :-1], r"the mask has \(20, 29\) rows and columns, its film has \(20, 30\)"),
        (lambda label: label.T, r"the mask has \(30, 20\)"),
        (lambda label: label * 3, "label 12 is outside the scheme 0-8.*right patella, left patella"),
        (lambda label: label - 1, "label -1 is outside"),
        (lambda label: label * 0, "the mask is empty"),
        (lambda label: label[:, ::-1], "right knee is drawn at image right"),
        (lambda label: (label == RIGHT) * np.int16(LEFT), "right knee is drawn at image right"),
        (lambda label: (label == LEFT) * np.int16(RIGHT), "right knee is drawn at image right"),
    ],
)
def test_masks_that_do_not_fit(tmp_path, edit, message):
    path = mask(tmp_path, edit)
    with pytest.raises(InputError, match=message) as error:
        labels(path, (20, 30))
    assert str(error.value).startswith(str(path))


STATES = {"rotate-180": np.diag([0.3, 0.2, 1, 1]), "none": np.diag([-0.3, -0.2, 1, 1])}  # by affine


def pair(tmp_path, turn=None, **tags):
    """A film with its mask, whose header states that `turn` displays it, or nothing."""
    label = np.zeros((20, 30), np.uint8)
    label[5:9, 3:9], label[11:19, 20:26] = RIGHT, LEFT
    path = oai_tree.write_film(tmp_path / "001", label.astype(np.uint16) * 900, **tags)
    if turn is None:
        mask = oai_tree.write_mask(tmp_path / "a.nii.gz", label)
    else:
        mask = tmp_path / "a.nii.gz"
        image = nibabel.Nifti1Image(readers.ORIENTATIONS[turn].undo(label).T, STATES[turn])
        image.header.set_xyzt_units("mm")
        nibabel.save(image, mask)
    found, reasons = films.inspect(film(path, mask=mask), must_be_named=True)
    assert reasons == []
    return found, label


def is_aligned(arrays):
    return bool(((arrays.image[..., 0] > 0) == (arrays.label > 0)).all())


def test_a_mask_whose_header_turns_it_needs_a_word(tmp_path):
    found, label = pair(tmp_path, "rotate-180")
    with pytest.raises(InputError) as error:
        films.read(found, orientation.Flag())
    for word in ("a.nii.gz", "001", "--config.data.orientation=none", "--config.data.orientation=stored"):
        assert word in str(error.value)
    arrays = films.read(found, orientation.Flag("none"))
    np.testing.assert_array_equal(arrays.label, label)
    assert is_aligned(arrays)
    np.testing.assert_allclose(arrays.spacing, [0.3, 0.2])


@pytest.mark.parametrize("turn", ["none", "rotate-180"])
def test_headers_of_film_and_mask_are_followed_alike(tmp_path, turn):
    """The film's columns run to the left, its rows to the back: it is displayed as it is stored."""
    tags = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, 0]}
    found, label = pair(tmp_path, turn, **tags)
    arrays = films.read(found, orientation.Flag())
    np.testing.assert_array_equal(arrays.label, label)
    assert is_aligned(arrays)


def test_a_transposed_film_keeps_its_spacing_by_axis(tmp_path):
    tags = {"ImageOrientationPatient": [0, 1, 0, 1, 0, 0], "ImagePositionPatient": [0, 0, 0]}
    found, label = pair(tmp_path, **tags)
    arrays = films.read(found, orientation.Flag("stored"))
    np.testing.assert_array_equal(arrays.label, label.T)
    assert is_aligned(arrays)
    np.testing.assert_allclose(arrays.spacing, [0.2, 0.3])


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({}, None),
        ({"ImageLaterality": "B"}, None),
        ({"ImageLaterality": "R"}, "right knee alone"),
        ({"ImageLaterality": "B", "Laterality": "L"}, "contradict"),
        ({"FieldOfViewHorizontalFlip": "YES"}, "FieldOfViewHorizontalFlip"),
        ({"FieldOfViewHorizontalFlip": "YES", "PatientOrientation": ["L", "F"]}, None),
        ({"PatientOrientation": ["R", "F"]}, "flip-lr"),
    ],
)
def test_side_tags_are_notes(tmp_path, tags, words):
    notes = pair(tmp_path, **tags)[0].notes
    assert len(notes) == (words is not None) and all(words in note for note in notes)


KNEE = {"femur": 1, "tibia": 2, "fibula": 3, "patella": 4}


def column(mask):
    return np.nonzero(mask)[1].mean()


@pytest.mark.parametrize("k", range(3))
def test_the_patient_s_right_knee_is_at_image_left(k):
    picture, label = oai_tree.film(k)
    image = (picture // 16).astype(np.uint8)[..., None]
    _, drawn = oai_tree.knees()
    margin, (_, width) = oai_tree.MARGIN, oai_tree.KNEE
    right = films.cut_knee(image, label, "right", mirror=False)
    left = films.cut_knee(image, label, "left", mirror=False)
    # The phantoms' own masks, which know neither films nor sides.
    np.testing.assert_array_equal(right.label[:, margin : margin + width], drawn[k, 0])
    np.testing.assert_array_equal(left.label[:, -margin - width : -margin], drawn[k, 1])
    assert (right.label > 0).sum() == (drawn[k, 0] > 0).sum()
    np.testing.assert_array_equal(np.hstack([right.image, left.image]), image)
    # The fibula is lateral: at image left in a right knee, at image right in a left one.
    assert column(right.label == KNEE["fibula"]) < column(right.label == KNEE["tibia"])
    assert column(left.label == KNEE["fibula"]) > column(left.label == KNEE["tibia"])
    mirrored = films.cut_knee(image, label, "left", mirror=True)
    np.testing.assert_array_equal(mirrored.image[:, ::-1], left.image)
    np.testing.assert_array_equal(mirrored.label[:, ::-1], left.label)
    again = films.cut_knee(image, label, "right", mirror=True)
    np.testing.assert_array_equal(again.label, right.label)


def test_nothing_of_the_other_knee_stays():
    label = np.zeros((4, 20), np.uint8)
    label[0, 2:12], label[2, 9:18] = 3, 4  # the knees overlap in columns 9 to 11
    image = np.zeros((4, 20, 1), np.uint8)
    assert films.midline(image, label) == 11  # halfway between 12 and 9, rounded up
    right, left = (films.cut_knee(image, label, side, mirror=False).label for side in films.SIDES)
    assert right.shape == (4, 11) and left.shape == (4, 9)
    assert right[0].sum() == 9 and not right[2].any() and left[2].sum() == 7 and not left[0].any()


def test_every_structure_has_its_label():
    label = np.array([[1, 3, 5, 7, 2, 4, 6, 8]], np.uint8)
    image = np.zeros((1, 8, 1), np.uint8)
    for side in films.SIDES:
        np.testing.assert_array_equal(films.cut_knee(image, label, side, mirror=False).label, [[4, 1, 2, 3]])


@given(st.integers(40, 200), st.sampled_from(["right", "left"]), st.data())
def test_with_one_knee_drawn_the_cut_is_in_the_dark_between_the_limbs(width, side, data):
    dark = data.draw(st.integers(2 * width // 5 + 2, 3 * width // 5 - 3))
    image = np.full((5, width, 1), 200, np.uint8)
    image[:, dark - 2 : dark + 3] = 0
    label = np.zeros((5, width), np.uint8)
    if side == "right":
        label[:, : width // 5] = 3
    else:
        label[:, 4 * width // 5 :] = 4
    assert abs(films.midline(image, label) - dark) <= 2


@pytest.mark.parametrize(("value", "expected"), [(3, 18), (4, 2)])
def test_a_knee_across_the_middle_is_never_cut(value, expected):
    label = np.zeros((2, 20), np.uint8)
    label[:, 2:18] = value
    assert films.midline(np.zeros((2, 20, 1), np.uint8), label) == expected

import numpy as np
import pytest

from kneefair_jax.data import inspection

UNKNOWN = np.full(2, np.nan, np.float32)


def pair(*values):
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("film", "mask", "table", "count"),
    [
        (pair(0.3, 0.3), pair(0.3, 0.3), pair(0.3, 0.3), 0),
        (UNKNOWN, UNKNOWN, UNKNOWN, 0),
        (pair(0.3, 0.3), UNKNOWN, UNKNOWN, 0),
        (pair(0.3, 0.3), pair(0.36, 0.36), pair(0.25, 0.25), 0),  # magnification
        (pair(0.3, 0.3), pair(3, 3), UNKNOWN, 1),
        (pair(0.3, 0.3), pair(0.3, 0.5), UNKNOWN, 1),
        (pair(0.3, 0.3), pair(0.3, 0.3), pair(0.15, 0.15), 2),
        (UNKNOWN, pair(3, 3), pair(0.3, 0.3), 1),
    ],
)
def test_spacings_that_disagree(film, mask, table, count):
    assert len(inspection.spacing_notes(film, mask, table)) == count


def test_a_note_holds_both_spacings():
    (note,) = inspection.spacing_notes(pair(0.3, 0.25), pair(3, 2.5), UNKNOWN)
    assert "3 x 2.5 mm" in note and "0.3 x 0.25 mm" in note and "film" in note and "mask" in note


def test_equal_masks_have_one_digest_and_empty_masks_have_none():
    label = np.zeros((6, 8), np.uint8)
    assert inspection.of_mask(label).mask_sha256 == ""
    label[2:4] = 1
    digests = [
        inspection.of_mask(one).mask_sha256
        for one in (label, label[::-1].astype(np.int64), label.reshape(8, 6), np.roll(label, 1, 0))
    ]
    assert digests[0] == digests[1] and len(set(digests)) == 3


def test_it_is_written_and_read_back():
    one = inspection.of_mask(np.eye(4, dtype=np.uint8), "table", ["film: odd"])
    assert inspection.decode(inspection.encode(one)) == one
    assert one == ("table", ("film: odd",), False, one.mask_sha256, 0)
    assert inspection.encode(None) == "" and inspection.decode("") is None


def test_interpolation_is_looked_for_in_the_values_of_the_file_not_in_the_labels():
    values = np.zeros((32, 32), np.uint8)
    values[4:12], values[12:14], values[14:28], values[28:] = 1, 2, 3, 2  # a rim of 2 between 1 and 3
    labels = np.array([0, 2, 1, 3], np.uint8)[values]
    assert not inspection.of_mask(labels).interpolated
    assert inspection.of_mask(labels, values=values).interpolated
    assert inspection.of_mask(labels, values=values).mask_sha256 == inspection.of_mask(labels).mask_sha256


def test_void_pixels_are_counted_and_are_no_step_between_labels():
    values = np.zeros((8, 8), np.uint8)
    values[:4], values[4:6] = 1, 255
    label = np.where(values == 255, 0, values)
    one = inspection.of_mask(label, values=values, void=255)
    assert one.void_pixels == 16 and not one.interpolated
    assert inspection.decode(inspection.encode(one)) == one

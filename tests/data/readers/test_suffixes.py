import pytest

from kneefair_jax.data import readers


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

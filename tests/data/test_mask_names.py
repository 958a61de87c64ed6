"""The words that mark masks in the names of folders and files."""

from pathlib import PurePath

import pytest

from kneefair_jax.data import mask_names


@pytest.mark.parametrize(
    ("path", "film"),
    [
        ("a_mask.png", "a"),
        ("a-Labels.nii.gz", "a"),
        ("a_groundtruth.png", "a"),
        ("mask_01.png", "01"),
        ("p1/seg.dcm", "seg"),
        ("Masks/a.png", "a"),
    ],
)
def test_masks_and_the_names_of_their_films(path, film):
    assert mask_names.names_mask(PurePath(path)) and mask_names.film_stem(PurePath(path)) == film


@pytest.mark.parametrize("path", ["a.png", "segond.png", "unmasked.png", "labelled/a.png", "a_mask_b.png"])
def test_other_names(path):
    assert not mask_names.names_mask(PurePath(path))
    assert mask_names.film_stem(PurePath(path)) == mask_names.stem(PurePath(path))

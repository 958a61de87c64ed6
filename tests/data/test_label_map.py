"""The label map of a folder cohort: what values mean, what void becomes on the working grid, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kneefair_jax import anatomy
from kneefair_jax.data import label_map, readers
from kneefair_jax.errors import InputError


def parse(text, ignore=-1):
    return label_map.parse_setting(text, ignore, "data.")


def test_values_by_name_or_by_place():
    assert parse("femur,tibia").values == {"femur": 1, "tibia": 2}
    assert parse("knee").structures == anatomy.SCHEMES["knee"]
    assert parse(" tibia = 2, femur=255").values == {"tibia": 2, "femur": 255}
    mask = np.array([[0, 255], [2, 7]])
    labels = parse("tibia=2,femur=255", 7)
    np.testing.assert_array_equal(labels.to_labels(mask, "m"), [[0, 2], [1, anatomy.VOID]])
    assert labels.mask_values == {"tibia": (2,), "femur": (255,), "ignore": (7,)}


def test_settings_of_a_store_change_with_the_label_map_alone():
    assert parse("femur,tibia").settings == parse("femur=1,tibia=2").settings == {}
    assert parse("femur,tibia", 255).settings == {"ignore_label": 255}
    assert parse("femur=2,tibia=1").settings == {"values": [2, 1]}


@pytest.mark.parametrize(
    ("text", "ignore", "words"),
    [
        ("femur=1,tibia", -1, "structures='femur=1,tibia'"),
        ("femur=one", -1, "structures='femur=one'"),
        ("femur=0", -1, "femur=1,tibia=255"),
        ("knee=1", -1, "structures='knee=1'"),
        ("femur=3,tibia=3", -1, "value 3 is both 'femur' and 'tibia'"),
        ("femur,tibia", 2, "ignore_label=2 is the value of 'tibia'"),
        ("femur,tibia", 0, "ignore_label=0.*0 is background"),
        ("femur,tibia", 70000, "ignore_label=70000"),
        (",".join(f"s{i}" for i in range(255)), -1, "255 structures.*254"),
    ],
)
def test_a_label_map_that_cannot_be_used_is_refused(text, ignore, words):
    with pytest.raises(InputError, match=words):
        parse(text, ignore)


BONE = np.zeros((32, 32), np.uint8)
BONE[8:24, 8:24] = 1
BAND = np.array(BONE)
BAND[6:26, 6:26] = 255
BAND[8:24, 8:24] = 1
CORNER = np.array(BONE)
CORNER[:, 28:] = 9


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (BAND, ["label 255", "contours", "--config.data.ignore_label=255"]),
        (CORNER, ["label 9", "--config.data.ignore_label=9", "structures=femur=1,tibia=2,NAME=9"]),
        (BONE * 255, ["255", "--config.data.structures=femur=255", "--config.data.ignore_label=255"]),
        (BONE.astype(int) * -1, ["label -1"]),
        (np.arange(64, dtype=np.uint8).reshape(8, 8), ["61 labels", "interpolation"]),
    ],
)
def test_an_unknown_value_is_named_with_its_remedies(mask, words):
    with pytest.raises(InputError) as error:
        parse("femur,tibia").to_labels(mask, "masks/a.png")
    assert all(word in str(error.value) for word in ("masks/a.png", *words))


def test_the_remedies_work():
    np.testing.assert_array_equal(parse("femur=255").to_labels(BONE * 255, "m"), BONE)
    label = parse("femur,tibia", 9).to_labels(CORNER, "m")
    np.testing.assert_array_equal(label == anatomy.VOID, CORNER == 9)
    np.testing.assert_array_equal(label[:, :28], BONE[:, :28])


def test_void_on_the_working_grid_by_hand():
    labels = parse("femur,tibia", 255)
    label = np.array(
        [
            [255, 255, 1, 1, 0, 255],
            [255, 1, 1, 255, 0, 255],
        ],
        np.uint8,
    )
    # Three of four pixels void; three of four femur; half and half, where the lower label wins.
    assert labels.resize(label, (1, 3), "m").tolist() == [[255, 1, 0]]


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_void_is_resized_as_any_other_label(seed):
    label = np.random.default_rng(seed).integers(0, 4, (12, 10)).astype(np.uint8)
    expected = readers.resize_label(label, (5, 6), 4)
    void = np.where(label == 3, 255, label).astype(np.uint8)
    small = parse("femur,tibia", 255).resize(void, (5, 6), "m")
    np.testing.assert_array_equal(small, np.where(expected == 3, 255, expected))
    assert small.dtype == np.uint8


def test_a_mask_of_void_alone_is_refused():
    with pytest.raises(InputError, match=r"masks/a.png: .*void.*remove the row"):
        parse("femur", 255).resize(np.full((8, 8), 255, np.uint8), (4, 4), "masks/a.png")

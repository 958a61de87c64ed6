"""The label map of masks whose structures have no names."""

import re

import numpy as np
import pytest
from PIL import Image

from kneefair_jax.data import label_map, numbered_labels
from kneefair_jax.errors import InputError


@pytest.fixture
def masks(tmp_path):
    def write(*values_of_masks):
        paths = [tmp_path / f"{number}.png" for number in range(len(values_of_masks))]
        for path, values in zip(paths, values_of_masks, strict=True):
            Image.fromarray(np.array([[0, *values]], np.uint8)).save(path)
        return paths

    return write


def read(paths, ignore=-1):
    return numbered_labels.read(paths, ignore, "data.", "metadata.csv")


def flags_of(error):
    """Return the flags that a message states, as field -> value."""
    return dict(re.findall(r"--config\.data\.(\w+)=([^\s;]+)", str(error.value)))


def test_values_up_to_the_highest_are_structures(masks):
    assert read(masks([1], [3])).values == {"structure 1": 1, "structure 2": 2, "structure 3": 3}
    labels = read(masks([1, 255], [2]), ignore=255)
    assert labels.structures == ("structure 1", "structure 2") and labels.ignore == 255
    with pytest.raises(InputError, match="ignore_label=1 is the value of 'structure 1'"):
        label_map.numbered(["structure 1"], 1, "data.").checked()


@pytest.mark.parametrize(
    ("values", "void_first"), [((1, 2, 3, 4), True), ((1, 2, 4), False), ((), False), ((2,), False)]
)
def test_a_high_value_is_refused_with_file_counts_and_both_flags(masks, values, void_first):
    with pytest.raises(InputError) as error:
        read(masks(values, [*values, 255], [255]))
    text = str(error.value)
    assert "1.png" in text and "255 in 2" in text and all(f"{value} in 2" in text for value in values)
    flags = flags_of(error)
    assert flags["ignore_label"] == "255"
    labels = label_map.parse_setting(flags["structures"], -1, "data.")
    assert [*labels.values.values()] == [*values, 255]
    assert (text.index("ignore_label") < text.index("data.structures")) == void_first


def test_gray_scales_and_empty_masks_get_no_flag(masks):
    for paths in (masks(range(0, 250, 10)), masks([0], [0])):
        with pytest.raises(InputError) as error:
            read(paths)
        assert flags_of(error) == {}


def test_an_unreadable_mask_is_skipped_beside_others(masks):
    first, second = masks([1], [2])
    first.write_bytes(b"?")
    assert read([first, second]).structures == ("structure 1", "structure 2")
    with pytest.raises(InputError, match=r"0\.png"):
        read([first])

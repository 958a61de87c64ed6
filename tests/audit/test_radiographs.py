import numpy as np

from kneefair_jax.audit import radiographs
from kneefair_jax.audit.radiographs import FilmHeader
from kneefair_jax.data.readers import Mask, Orientation

TURNED = Orientation(flip_rows=True)


def test_notes_are_counted_by_their_text():
    headers = {
        "a": FilmHeader(("spacing 0.1 and 0.2 mm disagree",), None, None),
        "b": FilmHeader(("spacing 0.3 and 0.4 mm disagree", "padded"), TURNED, TURNED),
        "c": FilmHeader((), TURNED, None),
    }
    spacing, padded, orientation = radiographs.header_notes_of_films(headers)
    assert "0.1 and 0.2" in spacing and "2 of 3 cases: a, b" in spacing
    assert "padded" in padded and "1 of 3 cases: b" in padded
    assert "1 of the films" in orientation and "(c)" in orientation
    assert not radiographs.header_notes_of_films({})


def test_a_film_of_another_spacing_than_its_mask_is_noted():
    def notes(film, mask, turn=None):
        label_file = Mask(np.zeros((2, 2), np.uint8), np.array(mask, np.float32), turn)
        return radiographs._header(("odd",), None, np.array(film, np.float32), "", label_file).notes

    assert notes([0.2, 0.2], [0.2, 0.2]) == notes([np.nan, np.nan], [0.2, 0.2]) == ("odd",)
    assert "0.2 x 0.2 mm" in notes([0.2, 0.2], [0.21, 0.2])[1] and "5 %" in notes([0.2, 0.2], [0.21, 0.2])[1]
    # Where the headers leave the orientation open, rows may be columns.
    assert notes([0.2, 0.3], [0.3, 0.2], Orientation(transpose=True)) == ("odd",)

from kneefair_jax.audit import radiographs
from kneefair_jax.audit.radiographs import FilmHeader
from kneefair_jax.data.readers import Orientation

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
    assert "1 of the films" in orientation and "such as c" in orientation
    assert not radiographs.header_notes_of_films({})

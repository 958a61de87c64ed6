"""What `--mode=check` advises about masks that lie otherwise on their films."""

import pytest

from kneefair_jax.data.readers import ORIENTATIONS
from kneefair_jax.preflight import check


def advice(remaining, name="cohort", **settings):
    result = {"consistent": remaining, "turned": [{"case_id": "c1", "orientation": remaining}] * 12}
    (line,) = check._orientation(result, 12, name, settings)
    return line


@pytest.mark.parametrize("current", ORIENTATIONS)
@pytest.mark.parametrize("remaining", list(ORIENTATIONS)[1:])
def test_the_flag_advised_is_the_present_one_and_what_remains(current, remaining):
    line = advice(remaining, kind="folder", orientation=current)
    value = line.split("--config.data.orientation=")[1]
    assert ORIENTATIONS[value] == ORIENTATIONS[current].compose(ORIENTATIONS[remaining])


def test_the_flag_is_advised_where_a_name_can_be_set():
    assert "--config.data.orientation=flip-ud" in advice("flip-ud", kind="folder", orientation="")
    line = advice("flip-ud", "external", kind="folder", orientation="flip-lr")
    assert "--config.data.external_orientation=rotate-180" in line
    for settings in ({"kind": "oai"}, {}, {"kind": "folder", "orientation": "stored"}):
        line = advice("flip-ud", **settings)
        assert "flip-ud" in line and "correct" in line and "--config" not in line

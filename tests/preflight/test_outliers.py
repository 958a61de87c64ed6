import numpy as np
import pandas as pd
import pytest

from kneefair_jax.data.readers import ORIENTATIONS
from kneefair_jax.measurements import MEASUREMENTS
from kneefair_jax.preflight import faults, outliers
from tests.hostile import films
from tests.measurements.knees import WIDTH, knee

STRUCTURES = ("femur", "tibia")


def test_a_case_by_hand():
    image = np.zeros((4, 6, 1), np.uint8)
    image[:2] = 10
    label = np.zeros((4, 6), np.uint8)
    label[:3, :2] = 1
    case = outliers.of_case(image, label, np.array([0.5, 2.0], np.float32), STRUCTURES)
    measurements = {name for name in case if name.partition(",")[0] in MEASUREMENTS}
    assert len(measurements) == 8
    assert all(np.isnan(case.pop(name)) for name in measurements)  # 6 pixels are no bone
    assert case == pytest.approx(
        {
            "height of the picture, mm": 2.0,
            "width of the picture, mm": 12.0,
            "mean grey value": 6.0,
            "contrast (SD of grey values)": 6.0,
            "area of femur, mm2": 6.0,
            "area of tibia, mm2": 0.0,
        }
    )
    unknown = outliers.of_case(image, label, np.array([np.nan, np.nan], np.float32), STRUCTURES)
    assert unknown["area of femur, %"] == pytest.approx(25.0)
    assert np.isnan(unknown["height of the picture, mm"])


def test_widths_and_angles_of_a_knee():
    bones = knee(pixel=0.5, valgus=6.0)
    label = np.zeros(bones["femur"].shape, np.uint8)
    for value, name in enumerate(("femur", "tibia", "fibula"), start=1):
        label[bones[name]] = value
    image = np.zeros((*label.shape, 1), np.uint8)
    spacing = np.full(2, 0.5, np.float32)
    case = outliers.of_case(image, label, spacing, ("femur", "tibia", "fibula"))
    assert case["fta, degrees"] == pytest.approx(6.0, abs=0.3)
    assert case["bicondylar_width, mm"] == pytest.approx(WIDTH, abs=0.3)
    assert np.isnan(case["patella_width, mm"])
    both = outliers.of_case(image, label, spacing, ("left femur", "left tibia", "x"))
    assert both["left fta, degrees"] == pytest.approx(6.0, abs=0.3)
    unknown = outliers.of_case(image, label, np.full(2, np.nan, np.float32), ("femur", "tibia", "fibula"))
    assert not any("fta" in name or "width," in name for name in unknown if "picture" not in name)


def test_angles_are_compared_without_logarithm():
    degrees = pd.Series([-3.0, 0.0, 2.0, 1.0, -1.0, 30.0, -9.0], [f"c{row}" for row in range(7)])
    result = outliers.outliers(pd.DataFrame({"fta, degrees": degrees}))
    # The median is 0, and the median distance from it 2: farther than 5 * 1.4826 * 2 = 14.8 is 30 alone.
    assert [(case.case_id, case.value, case.median) for case in result] == [("c5", 30.0, 0.0)]


def table(**columns):
    rows = len(next(iter(columns.values())))
    return pd.DataFrame(columns, index=pd.Index([f"c{k}" for k in range(rows)], name="case_id"))


def test_outliers_by_hand():
    width = [140.0] * 9 + [176.0, 174.0, 70.0]  # alike: a change by more than 25 % counts
    found = outliers.outliers(table(width=width))
    assert [(outlier.case_id, outlier.value) for outlier in found] == [("c11", 70.0), ("c9", 176.0)]
    assert found[0].median == pytest.approx(140.0) and found[0].measure == "width"


def test_a_spread_of_its_own_sets_the_limit():
    rng = np.random.default_rng(0)
    area = np.exp(rng.normal(8, 0.2, 2000))
    assert outliers.outliers(table(area=area)) == []  # 5 of 0.2: farther than any of 2,000 normal draws
    area[[3, 9]] = np.exp([8 + 1.3, 8 - 1.1])
    assert [outlier.case_id for outlier in outliers.outliers(table(area=area))] == ["c3", "c9"]


def test_zeros_and_unknown_values_are_not_compared():
    assert outliers.outliers(table(area=[0.0, np.nan, 5.0, 5.0, 5.1])) == []
    assert outliers.outliers(table(area=[np.nan, np.nan])) == []


def test_absent_structures_are_named_whatever_the_unit():
    columns = {
        "area of right femur, mm2": [3.0, 0.0, np.nan],
        "area of right femur, %": [np.nan, np.nan, 0.0],
        "area of tibia, mm2": [1.0, 1.0, np.nan],
        "area of tibia, %": [np.nan, np.nan, 1.0],
    }
    assert outliers.absent(table(**columns)) == {"right femur": ["c1", "c2"]}


def ranks(turns):
    """Of phantom knees whose masks lie as the names say."""
    knees = [films.knee(n) for n in range(len(turns))]
    return {
        f"c{n}": outliers.edge_ranks(image[..., None], ORIENTATIONS[name].undo(label))
        for n, ((image, label), name) in enumerate(zip(knees, turns, strict=True))
    }


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_the_orientation_that_fits_is_named(name):
    result = outliers.misoriented(ranks([name] * 12))
    assert [one.orientation for one in result] == ([] if name == "none" else [name] * 12)
    assert all(0 <= one.edge_rank_as_read < one.edge_rank <= 1 for one in result)


def test_few_cases_and_two_sites_are_named():
    turns = ["none"] * 10 + ["flip-lr", "rotate-90"]
    result = outliers.misoriented(ranks(turns))
    assert [(one.case_id, one.orientation) for one in result] == [("c10", "flip-lr"), ("c11", "rotate-90")]
    assert len(outliers.misoriented(ranks(["none"] * 6 + ["flip-ud"] * 6))) == 6


def test_exposure_and_contrast_do_not_matter():
    image, label = films.knee(0)
    for film in (image // 2, 255 - image):
        strength = outliers.edge_ranks(film[..., None], label[::-1])
        assert max(strength, key=strength.get) == "flip-ud"


def test_masks_that_follow_no_edges_say_nothing():
    rng = np.random.default_rng(0)
    noise = {
        f"c{n}": outliers.edge_ranks(rng.integers(0, 255, (64, 64, 1)).astype(np.uint8), films.knee(n)[1])
        for n in range(24)
    }
    assert outliers.misoriented(noise) == []
    blank = np.full((64, 64, 1), 7, np.uint8)
    strength = outliers.edge_ranks(blank, films.knee(0)[1])
    assert np.ptp(list(strength.values())) < 1e-9
    assert outliers.edge_ranks(blank, np.zeros((64, 64), np.uint8)) == {}
    assert outliers.misoriented({}) == []


def test_an_orientation_is_a_cohort_s_where_it_fits_nearly_all():
    def cases(*names):
        return [outliers.Misoriented(str(i), name, 0.9, 0.5) for i, name in enumerate(names)]

    assert outliers.consistent(cases(*["flip-ud"] * 9), 10) == "flip-ud"
    assert outliers.consistent(cases(*["flip-ud"] * 8), 10) == ""
    assert outliers.consistent([], 10) == ""


def advice(remaining, name="cohort", **settings):
    result = {"consistent": remaining, "turned": [{"case_id": "c1", "orientation": remaining}] * 12}
    (line,) = faults._orientation_lines(result, 12, name, settings)
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


def test_structures_that_a_mask_does_not_show_have_no_area_and_are_not_absent():
    image, label = np.zeros((4, 6, 1), np.uint8), np.zeros((4, 6), np.uint8)
    label[0] = 1
    spacing = np.ones(2, np.float32)
    measured = outliers.of_case(image, label, spacing, STRUCTURES, has_label=np.array([True, False]))
    assert measured["area of femur, mm2"] == 6 and np.isnan(measured["area of tibia, mm2"])
    table = pd.DataFrame([measured, outliers.of_case(image, label, spacing, STRUCTURES)], index=["a", "b"])
    assert outliers.absent(table) == {"tibia": ["b"]}
    assert outliers.outliers(table) == []

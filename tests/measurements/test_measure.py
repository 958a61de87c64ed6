"""Measurements of a knee of simple shapes by hand, of phantoms by their drawing, and every refusal."""

import jax
import numpy as np
import pytest

from benchmarks.measurements import clip
from kneefair_jax import anatomy, measurements
from kneefair_jax.data.phantom import case
from kneefair_jax.measurements import MEASUREMENTS, Knee, bones, measure, measure_knee
from tests.measurements.knees import MIDDLE, PATELLA, PLATEAU, RADIUS, WIDTH, knee, values

SPACING = (0.2, 0.2)
LENGTHS = [name for name, definition in MEASUREMENTS.items() if definition.unit in ("mm", "mm2")]
SIDED = [name for name in MEASUREMENTS if "jsw" in name or name in ("fta", "aldfa", "ampta", "jlca")]
EPSILON = {"mm": 0.1, "mm2": 1.0, "degrees": 0.12, "ratio": 0.005}
SHARP = {"plateau_width"}  # the plateau ends in corners, which a contour rounds


def epsilon(name):
    """Return how far a measurement may be from that by hand."""
    return EPSILON[MEASUREMENTS[name].unit] * (2 if name in SHARP else 1)


def by_hand(medial=5.0, lateral=5.0, valgus=6.0):
    """Return the measurements of `knee`, from its shapes."""
    slope = (lateral - medial) / (2 * MIDDLE)
    tilt = np.rad2deg(np.arctan(slope))
    places = {"medial": np.arange(0.15, 0.301, 0.025), "lateral": np.arange(0.70, 0.901, 0.025)}
    result = {}
    for name, sign, height in (("medial", -1, medial), ("lateral", 1, lateral)):
        x = WIDTH * (places[name] - 0.5)
        condyle = -RADIUS + np.sqrt(RADIUS**2 - (x - sign * MIDDLE) ** 2)
        widths = 0.5 * (medial + lateral) + slope * x - condyle
        result[f"jsw_min_{name}"] = (height + RADIUS) * np.cos(np.arctan(slope)) - RADIUS
        result[f"jsw_mean_{name}"] = widths.mean()
        result[f"jsw_area_{name}"] = np.trapezoid(widths, x)
    return result | {
        "fta": valgus - tilt,
        "aldfa": 90 - valgus,
        "ampta": 90,
        "jlca": tilt,
        "bicondylar_width": WIDTH,
        "plateau_width": PLATEAU,
        "width_ratio": WIDTH / PLATEAU,
        "patella_width": PATELLA[0],
        "patella_height": PATELLA[1],
    }


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    "shape",
    [{}, {"medial": 3.0, "lateral": 8.0}, {"medial": 6.0, "lateral": 2.0, "valgus": -3.0}],
    ids=str,
)
@pytest.mark.parametrize("turn", [0.0, 12.0, -9.0])
def test_every_measurement_equals_that_by_hand(shape, turn, side):
    result = measure(knee(**shape, turn=turn, side=side), SPACING)
    assert [name for name, one in result.items() if one.reason] == []
    for name, expected in by_hand(**shape).items():
        assert result[name].value == pytest.approx(expected, abs=epsilon(name)), name


def test_angles_are_consistent():
    """The axes, the tangent and the plateau line enclose a closed figure."""
    taken = values(measure(knee(medial=3.0, lateral=8.0, valgus=4.0), SPACING))
    assert taken["fta"] == pytest.approx(
        (90 - taken["aldfa"]) + (taken["ampta"] - 90) - taken["jlca"], abs=1e-9
    )


def test_coarse_and_oblong_pixels_measure_the_same():
    fine = values(measure(knee(), SPACING))
    coarse = values(measure(knee(pixel=0.5), (0.5, 0.5)))
    oblong = {name: bone[::2] for name, bone in knee(pixel=0.2).items()}
    for name, value in values(measure(oblong, (0.4, 0.2))).items():
        # Every second row is at -0.1 mm of the middle of a pixel of 0.4 mm.
        assert value == pytest.approx(fine[name], abs=2.5 * epsilon(name)), name
        assert coarse[name] == pytest.approx(fine[name], abs=2 * epsilon(name)), name


def test_lengths_follow_the_spacing_and_angles_do_not():
    bones = knee()
    small, large = (values(measure(bones, (mm, mm))) for mm in (0.2, 0.3))
    for name, definition in MEASUREMENTS.items():
        factor = {"mm": 1.5, "mm2": 2.25}.get(definition.unit, 1.0)
        assert large[name] == pytest.approx(factor * small[name], rel=1e-9), name


def test_probabilities_are_measured_at_their_half():
    def soften(mask):
        from scipy import ndimage

        signed = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
        return np.clip(0.5 + signed / 8, 0, 1)

    bones = knee(pixel=0.4)
    probable = {name: soften(bone) for name, bone in bones.items()}
    hard, soft = (values(measure(one, (0.4, 0.4))) for one in (bones, probable))
    assert hard.keys() == soft.keys()
    for name in hard:
        assert soft[name] == pytest.approx(hard[name], abs=3 * epsilon(name)), name


def test_lines_have_the_lengths_of_the_measurements():
    result = measure(knee(turn=10), SPACING)
    for name in ("jsw_min_medial", "jsw_min_lateral", "bicondylar_width", "plateau_width", "patella_height"):
        (line,) = result[name].lines
        assert np.linalg.norm(line[1] - line[0]) == pytest.approx(result[name].value, abs=1e-6), name
    # On a left knee the lateral side is at the film's right.
    assert result["jsw_min_lateral"].lines[0, 0, 0] > result["jsw_min_medial"].lines[0, 0, 0]


def reasons(result):
    return {name: one.reason for name, one in result.items() if one.reason}


def test_lengths_need_a_spacing():
    result = measure(knee(), None)
    assert list(reasons(result)) == LENGTHS
    assert all(np.isnan(result[name].value) for name in LENGTHS)
    assert result["fta"].value == pytest.approx(6, abs=0.1)
    assert "square pixels" in result["fta"].note


def test_lengths_are_refused_with_the_callers_reason():
    result = measure(knee(), SPACING, refusal="the spacing is that of the detector")
    assert reasons(result) == dict.fromkeys(LENGTHS, "the spacing is that of the detector")


def test_the_side_comes_from_the_fibula_or_the_caller():
    bones = knee(medial=3.0, lateral=8.0)
    without = {name: bone for name, bone in bones.items() if name != "fibula"}
    assert list(reasons(measure(without, SPACING))) == SIDED
    stated = measure(without, SPACING, "left")
    assert values(stated) == values(measure(bones, SPACING))
    assert list(reasons(measure(bones, SPACING, "right"))) == SIDED
    assert "mirrored" in measure(bones, SPACING, "right")["fta"].reason


def test_a_fibula_behind_the_tibia_states_no_side():
    bones = knee()
    y, x = np.indices(bones["fibula"].shape) * 0.2
    bones["fibula"] = (np.abs(x - 75) < 6) & (y > 130)
    assert list(reasons(measure(bones, SPACING))) == SIDED
    assert not reasons(measure(bones, SPACING, "left"))


def test_mirrored_halves_are_refused():
    bones = knee(valgus=4.0, turn=3.0)
    half = {name: bone[:, : bone.shape[1] // 2] for name, bone in bones.items()}
    mirrored = {name: np.concatenate([one, one[:, ::-1]], axis=1) for name, one in half.items()}
    result = measure(mirrored, SPACING)
    assert list(reasons(result)) == list(MEASUREMENTS)
    assert "mirrored halves" in result["patella_width"].reason


@pytest.mark.parametrize(
    ("film", "lost"),
    [
        (np.s_[:, 200:], ["jsw_min_medial", "bicondylar_width", "plateau_width"]),
        (np.s_[:, :520], ["jsw_min_lateral", "bicondylar_width", "plateau_width"]),
        (np.s_[330:], ["fta", "aldfa", "patella_height"]),
        (np.s_[:600], ["fta", "ampta"]),
    ],
    ids=["medial", "lateral", "upper", "lower"],
)
def test_cut_bones_are_refused(film, lost):
    bones = {name: bone[film] for name, bone in knee().items()}
    refused = reasons(measure(bones, SPACING))
    assert set(lost) <= set(refused)
    assert all(refused.values())
    kept = values(measure(bones, SPACING))
    expected = by_hand()
    for name, value in kept.items():
        assert value == pytest.approx(expected[name], abs=epsilon(name)), name


def test_a_collimated_field_cuts_like_the_film():
    bones = knee()
    field = np.zeros_like(bones["femur"])
    field[310:600] = True
    refused = reasons(measure({name: bone & field for name, bone in bones.items()}, SPACING))
    assert {"fta", "aldfa", "ampta", "patella_height"} <= set(refused)
    assert "jsw_min_medial" not in refused


def test_short_shafts_get_a_note():
    bones = {name: bone[150:850] for name, bone in knee().items()}
    result = measure(bones, SPACING)
    assert "short shaft" in result["fta"].note
    assert result["fta"].value == pytest.approx(6, abs=0.1)
    assert measure(knee(size=(260.0, 150.0)), SPACING)["fta"].note == ""


@pytest.mark.parametrize("bone", ["femur", "tibia", "patella"])
def test_a_missing_bone_is_the_reason(bone):
    bones = knee()
    bones[bone] = np.zeros_like(bones[bone])
    refused = reasons(measure(bones, SPACING))
    lost = ["patella_width", "patella_height"] if bone == "patella" else list(MEASUREMENTS)
    assert list(refused) == lost
    assert all(f"no {bone}" in reason for reason in refused.values())


def test_a_bone_in_pieces_is_refused():
    bones = knee()
    bones["femur"][375:383] = False  # through the shaft
    assert "several pieces" in measure(bones, SPACING)["bicondylar_width"].reason


@pytest.mark.parametrize("way", ["upside down", "sideways"])
def test_a_film_that_is_not_upright_is_refused(way):
    turned = {
        name: bone[::-1, ::-1] if way == "upside down" else np.rot90(bone) for name, bone in knee().items()
    }
    refused = reasons(measure(turned, SPACING))
    assert list(refused) == list(MEASUREMENTS)
    assert "upright" in refused["fta"]


def test_bones_that_overlap_or_touch():
    overlapping = measure(knee(medial=-4.0, lateral=5.0), SPACING)
    assert "overlap" in overlapping["jsw_min_medial"].reason
    assert overlapping["jsw_min_lateral"].value == pytest.approx(
        by_hand(-4.0, 5.0)["jsw_min_lateral"], abs=0.1
    )
    touching = measure(knee(medial=-0.3, lateral=5.0), SPACING)
    assert touching["jsw_min_medial"].value == 0
    assert "touch" in touching["jsw_min_medial"].note
    assert touching["jsw_min_medial"].reason == ""


def test_whole_bones_of_each_scheme():
    bones = knee()
    overlaps = anatomy.SCHEMES["knee_overlaps"]
    label = np.zeros(bones["femur"].shape, np.uint8)
    for name in ("fibula", "tibia", "femur", "patella"):
        label[bones[name]] = 1 + overlaps.index(name)
    for both, (front, back) in anatomy.OVERLAPS.items():
        label[(label == 1 + overlaps.index(front)) & bones[back]] = 1 + overlaps.index(both)
    for name, bone in measurements.whole_bones(label, overlaps).items():
        assert np.array_equal(bone, bones[name]), name
    plain = anatomy.translation(overlaps, anatomy.SCHEMES["knee"])[label]
    result = measurements.whole_bones(plain, anatomy.SCHEMES["knee"])
    assert np.array_equal(result["femur"], bones["femur"] | bones["patella"])
    probabilities = np.eye(1 + len(overlaps), dtype=np.float32)[label]
    for name, bone in measurements.whole_bones(probabilities, overlaps).items():
        assert bone.dtype == np.float32
        assert np.array_equal(bone > 0.5, bones[name]), name
    sided = tuple(f"left {name}" for name in anatomy.SCHEMES["knee"])
    assert np.array_equal(measurements.whole_bones(plain, sided, "left")["tibia"], result["tibia"])
    assert not measurements.whole_bones(plain, sided, "right")
    assert list(measurements.whole_bones(np.minimum(plain, 2), ("tibia", "bone"))) == ["tibia"]


@pytest.mark.parametrize(
    "options",
    [
        {"spacing": (0.2, 0.0)},
        {"spacing": (0.2, float("nan"))},
        {"spacing": SPACING, "side": "medial"},
        {"bones": {"humerus": np.zeros((9, 9), bool)}, "spacing": SPACING},
        {"bones": {"femur": np.zeros((9, 9), bool), "tibia": np.zeros((9, 8), bool)}, "spacing": SPACING},
    ],
)
def test_bad_arguments_are_refused(options):
    with pytest.raises(ValueError, match="spacing|side|bone"):
        measure(**({"bones": knee()} | options))


@pytest.mark.slow
def test_masks_of_phantoms_measure_like_their_drawing():
    """Four knees at 0.35 mm; `benchmarks/measurements.py` has many at 0.2 mm."""
    size, fov = (512, 512), 180.0
    spacing = (fov / 512, fov / 512)
    differences = {name: [] for name in MEASUREMENTS}
    for number in range(4):
        key, side = jax.random.key(40 + number), number % 2
        film = case.draw_case(key, side, size=size, fov_mm=fov, overlaps=True)
        drawing = case.draw_contours(key, side, size=size, fov_mm=fov)
        bones = measurements.whole_bones(np.asarray(film.exact), anatomy.SCHEMES["knee_overlaps"])
        result = measure(bones, spacing)
        contours = {name: clip(np.asarray(getattr(drawing, name)), fov) for name in measurements.BONES}
        exact = measure_knee(Knee(contours))
        for name in MEASUREMENTS:
            if not result[name].reason and not exact[name].reason:
                differences[name].append(abs(result[name].value - exact[name].value))
    for name, errors in differences.items():
        assert len(errors) >= 2, name
        limit = {"mm": 0.15, "mm2": 1.0, "degrees": 0.4, "ratio": 0.005}[MEASUREMENTS[name].unit]
        assert np.median(errors) < limit, name


def test_round_bones_in_coarse_pixels_that_end_in_one_column_are_measured():
    """In pixels of 1.2 mm both bones end in the same column, along 7 pixels of a round condyle."""
    radius, width = 20, 70
    y, x = np.mgrid[:160, :120]
    femur = (np.hypot(y - 60, x - 45) < radius) | (np.hypot(y - 60, x - (25 + width - radius)) < radius)
    tibia = (np.abs(x - 60) < width / 2) & (y > 90) & (y < 130) & ((y < 100) | (np.abs(x - 60) < 15))
    assert bones._ends_in_one_column({"femur": femur, "tibia": tibia}) is False
    square = (np.abs(x - 60) < width / 2) & (y > 30) & (y < 80)
    assert bones._ends_in_one_column({"femur": square, "tibia": tibia | (square & (y > 200))}) is False
    assert bones._ends_in_one_column({"femur": square, "tibia": np.roll(square, 55, axis=0)}) is True


def test_a_field_that_cuts_both_bones_at_one_column_is_refused():
    """Each side loses 3 mm: widths, joint spaces and angles would all be wrong."""
    bones = knee(pixel=0.25)
    columns = np.flatnonzero(bones["femur"][300:].any(axis=0))
    field = np.zeros_like(bones["femur"])
    field[:, columns[0] + 14 : columns[-1] - 13] = True  # 3.5 mm; the tibia is 3 mm narrower on each side
    refused = reasons(measure({name: bone & field for name, bone in bones.items()}, (0.25, 0.25), "left"))
    assert list(refused) == list(MEASUREMENTS)
    assert "collimated" in refused["jsw_min_medial"]


def test_void_pixels_beside_a_bone_cut_it():
    bones = knee(pixel=0.25)
    y, x = np.indices(bones["femur"].shape) * 0.25
    void = (np.abs(x - 53) < 6) & (np.abs(y - 99) < 3)  # on the lowest part of the medial condyle
    shown = {name: bone & ~void for name, bone in bones.items()}
    assert "jsw_min_medial" in values(measure(shown, (0.25, 0.25)))  # wrong by the void pixels
    # The condylar tangent touches there, so that the knee has no frame.
    assert list(reasons(measure(shown, (0.25, 0.25), void=void))) == list(MEASUREMENTS)
    # Elsewhere, void pixels change nothing.
    far = np.zeros_like(void)
    far[:8, :8] = True
    assert values(measure(bones, (0.25, 0.25), void=far)) == values(measure(bones, (0.25, 0.25)))


def test_coarse_pixels_get_a_note():
    assert "coarse" in measure(knee(pixel=1.0), (1.0, 1.0))["jsw_min_medial"].note
    assert measure(knee(pixel=0.5), (0.5, 0.5))["jsw_min_medial"].note == ""

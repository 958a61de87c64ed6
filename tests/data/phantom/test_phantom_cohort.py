import functools
import json

import jax
import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict

from kneefair_jax.data.phantom import draw_case, draw_film, source
from kneefair_jax.data.phantom.case import CASE_SWITCHES
from kneefair_jax.errors import InputError

SIZE = (32, 40)
SHARES = {"sex": {"female": 0.5, "male": 0.5}, "race": {"B": 0.15, "A": 0.85}}


def config(**changes):
    base = {
        "patients": 20,
        "knees_per_patient": 2,
        "bilateral": False,
        "attributes": SHARES,
        "bias": {},
        "fov_mm": (140.0, 140.0),
        "randomisation": (0.0, 0.0),
        "masks": "annotated",
    }
    return {**base, **changes}


def examples(cohort, rows=None):
    return list(cohort.read(range(len(cohort.cases)) if rows is None else rows))


def test_a_cohort_without_attributes_has_all_patients():
    cases = source(config(patients=3, knees_per_patient=1, attributes={}), size=SIZE, seed=0).cases
    assert list(cases["case_id"]) == ["p00000-right", "p00001-left", "p00002-right"]


def test_representation_changes_training_alone():
    bias = {"race=B": {"representation": 1.0}}
    attributes = {"race": {"A": 0.5, "B": 0.5}}
    cases = source(
        config(patients=200, attributes=attributes, bias=bias), size=SIZE, seed=0, fractions=(0.5, 0.2, 0.3)
    ).cases
    share = cases.groupby("split")["race"].apply(lambda race: (race == "B").mean())
    assert share["validation"] == share["test"] == 0.5
    assert share["train"] == pytest.approx(0.05 / 1.05, abs=0.01)
    assert cases["split"].value_counts().to_dict() == {"train": 200, "test": 120, "validation": 80}
    assert (cases.groupby("patient_id")["split"].nunique() == 1).all()
    with pytest.raises(InputError, match=r"data\.folds=0"):
        source(config(bias=bias), size=SIZE, seed=0)


def test_a_comparison_over_strengths_of_representation_tests_the_same_patients():
    """An oracle, strength 0, that was tested on others would say nothing about what training can repair."""
    at = {}
    for strength in (0.0, 0.5, 0.9):
        bias = {"race=B": {"representation": strength, "contrast": 0.5}}
        settings = config(patients=200, attributes={"race": {"A": 0.5, "B": 0.5}}, bias=bias)
        cases = source(settings, size=SIZE, seed=0, fractions=(0.5, 0.2, 0.3)).cases
        at[strength] = cases.drop(columns="bias_representation")
    for cases in at.values():
        scored = at[0.0]["split"] != "train"
        pd.testing.assert_frame_equal(cases[scored], at[0.0][scored])
        assert (cases["split"] == at[0.0]["split"]).all() and (cases["case_id"] == at[0.0]["case_id"]).all()
    assert not (at[0.9]["race"] == at[0.0]["race"]).all()


def test_table():
    cohort = source(config(), size=SIZE, seed=0)
    cases = cohort.cases
    assert list(cases.columns[:5]) == ["case_id", "patient_id", "side", "sex", "race"]
    assert set(cases["kl"]) <= set("01234") and list(cases["kl"].cat.categories) == list("01234")
    assert len(cases) == 40 and cases["case_id"].is_unique and cases["patient_id"].nunique() == 20
    assert list(cases["race"].cat.categories) == ["B", "A"]
    assert cases["race"].value_counts()["B"] == 2 * 3  # 3 of 20 patients
    assert (cases.groupby("patient_id")[["sex", "race"]].nunique() == 1).all(axis=None)
    assert cohort.structures == ("femur", "tibia", "fibula", "patella")
    json.dumps(cohort.settings)


def test_one_knee_each_alternates_sides():
    cases = source(config(knees_per_patient=1), size=SIZE, seed=0).cases
    assert cases["side"].value_counts().to_dict() == {"right": 10, "left": 10}


@pytest.mark.slow
def test_examples_are_those_of_the_table():
    cohort = source(config(patients=9), size=SIZE, seed=0)  # 18 cases: a second chunk of two
    phantoms = examples(cohort)
    assert len(phantoms) == 18
    assert phantoms[0].image.shape == (*SIZE, 1) and phantoms[0].label.shape == SIZE
    np.testing.assert_allclose(phantoms[0].spacing, 140 / 32, rtol=1e-5)
    for side, example in zip(cohort.cases["side"], phantoms, strict=True):
        fibula, tibia = (np.argwhere(example.label == bone)[:, 1].mean() for bone in (3, 2))
        assert (fibula < tibia) == (side == "right")


def test_a_case_depends_on_seed_and_index_alone():
    few = examples(source(config(patients=3), size=SIZE, seed=5))
    extended = examples(source(config(patients=12), size=SIZE, seed=5), range(6))
    backwards = examples(source(config(patients=12), size=SIZE, seed=5), range(5, -1, -1))[::-1]
    for a, b, c in zip(few, extended, backwards, strict=True):
        for one, other in ((a, b), (a, c)):
            np.testing.assert_array_equal(one.image, other.image)
            np.testing.assert_array_equal(one.label, other.label)
    (other,) = examples(source(config(patients=3), size=SIZE, seed=6), [0])
    assert (other.image != few[0].image).any()


def test_groups_alone_change_nothing():
    plain = examples(source(config(), size=SIZE, seed=0))
    renamed = source(config(attributes={"age": {"old": 0.5, "young": 0.5}}), size=SIZE, seed=0)
    zero = source(config(bias={"race=B": dict.fromkeys(CASE_SWITCHES, 0.0)}), size=SIZE, seed=0)
    for cohort in (renamed, zero):
        for a, b in zip(plain, examples(cohort), strict=True):
            np.testing.assert_array_equal(a.image, b.image)


def test_bias_reaches_its_group_only_and_is_recorded():
    bias = {"race=B": {"morphology": 1.0}, "sex=male,race=A": {"noise": 0.5}}
    biased = source(ConfigDict(config(bias=bias)), size=SIZE, seed=0)
    # A ConfigDict sorts its keys, and the order of the quotas with them, so both cohorts use one.
    plain = source(ConfigDict(config()), size=SIZE, seed=0)
    of_b, male = plain.cases["race"] == "B", plain.cases["sex"] == "male"
    for changed, a, b in zip(of_b | male, examples(plain), examples(biased), strict=True):
        assert (a.image != b.image).any() == changed
    np.testing.assert_array_equal(biased.cases["bias_morphology"], of_b.astype(float))
    np.testing.assert_array_equal(biased.cases["bias_noise"], 0.5 * (male & ~of_b))
    assert not biased.cases[["bias_marker", "bias_representation"]].to_numpy().any()


def test_grades_are_those_of_the_pictures():
    """Grade 4 closes the joint: fewer background pixels between femur and tibia than at grade 0."""
    bias = {"sex=male": {"osteophytes": 1.0}}
    cohort = source(config(bias=bias), size=SIZE, seed=0)
    male = cohort.cases["sex"] == "male"
    assert set(cohort.cases["kl"][male]) == {"3", "4"}
    assert set(cohort.cases["kl"][~male]) - {"3", "4"}


def test_exact_masks_are_without_the_annotation_error():
    bias = {"race=B": {"annotation": 1.0}}
    annotated = source(config(bias=bias), size=SIZE, seed=0)
    exact = source(config(bias=bias, masks="exact"), size=SIZE, seed=0)
    for of_b, a, b in zip(annotated.cases["race"] == "B", examples(annotated), examples(exact), strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        assert ((a.label > 0).sum() > (b.label > 0).sum()) == of_b


def test_the_test_split_alone_may_be_exact():
    bias = {"race=A": {"annotation": 1.0}, "race=B": {"annotation": 1.0}}  # whoever is dealt which level
    mixed = source(config(bias=bias, masks="exact_test"), size=SIZE, seed=0, fractions=(0.5, 0.25, 0.25))
    annotated = source(config(bias=bias), size=SIZE, seed=0)
    exact = source(config(bias=bias, masks="exact"), size=SIZE, seed=0)
    splits = list(mixed.cases["split"])
    assert set(splits) == {"train", "validation", "test"}
    for split, got, a, b in zip(splits, *map(examples, (mixed, annotated, exact)), strict=True):
        np.testing.assert_array_equal(got.label, b.label if split == "test" else a.label)
        assert (a.label != b.label).any()
    with pytest.raises(InputError, match="exact_test"):
        source(config(masks="exact_test"), size=SIZE, seed=0)


def test_domain_randomization_makes_pictures_differ_more():
    clinical, wide = (
        examples(source(config(randomisation=(width, width)), size=SIZE, seed=0)) for width in (0.0, 1.0)
    )
    spread = lambda some: np.std([example.image.mean() for example in some])
    assert spread(wide) > 1.5 * spread(clinical)
    for example in wide:  # the knee stays in the picture
        assert np.ptp(example.image) > 20 and {1, 2} <= set(np.unique(example.label))


def test_varied_films_are_those_of_the_same_patients():
    """Traced, not drawn: their program takes long to compile."""
    plain, varied = (source(config(films=films), size=SIZE, seed=0) for films in ("plain", "varied"))
    pd.testing.assert_frame_equal(plain.cases, varied.cases)
    assert plain.settings == source(config(), size=SIZE, seed=0).settings
    assert varied.settings == plain.settings | {"films": "varied"}
    for draw, knees in ((draw_case, 1), (draw_film, 2)):
        film = jax.eval_shape(functools.partial(draw, size=SIZE, varied=True), jax.random.key(0))
        assert film.image.shape == film.label.shape == SIZE and film.grade.shape == (knees,)


@pytest.mark.slow
def test_varied_films():
    wide = {"patients": 24, "randomisation": (1.0, 1.0), "fov_mm": (90.0, 200.0)}
    plain, varied = (
        examples(source(config(**wide, films=films), size=(64, 64), seed=0)) for films in ("plain", "varied")
    )
    for a, b in zip(plain, varied, strict=True):
        assert b.image.shape == a.image.shape and b.image.dtype == np.uint8
        np.testing.assert_array_equal(a.spacing, b.spacing)
        assert (a.image != b.image).any() and np.ptp(b.image) > 20
        assert {1, 2} <= set(np.unique(b.label)) <= {0, 1, 2, 3, 4}
    # Crops and tibiae hide the fibula more often.
    share = [np.mean([(example.label == 3).mean() for example in some]) for some in (plain, varied)]
    assert share[1] < 0.8 * share[0]


def test_bilateral_cases():
    """Traced, not drawn: their program takes long to compile."""
    cohort = source(config(patients=3, bilateral=True, fov_mm=(330.0, 350.0)), size=(48, 48), seed=0)
    assert len(cohort.cases) == 3 and "side" not in cohort.cases
    assert cohort.structures[0] == "right patella" and len(cohort.structures) == 8
    film = jax.eval_shape(lambda key: draw_film(key, size=(48, 56), fov_mm=340.0), jax.random.key(0))
    assert film.image.shape == film.label.shape == (48, 56) and film.grade.shape == (2,)


@pytest.mark.slow
def test_bilateral_films():
    cohort = source(config(patients=3, bilateral=True, fov_mm=(330.0, 350.0)), size=(48, 48), seed=0)
    assert len(cohort.cases) == 3 and "side" not in cohort.cases
    assert cohort.structures[0] == "right patella" and len(cohort.structures) == 8
    for example in examples(cohort):
        assert example.label.max() == 8 and 330 / 48 <= example.spacing[0] <= 350 / 48


def test_fields_of_view_fill_their_range():
    cohort = source(config(patients=40, fov_mm=(100.0, 200.0)), size=SIZE, seed=0)
    heights = np.array([example.spacing[0] * 32 for example in examples(cohort)])
    assert 100 <= heights.min() < 108 and 185 < heights.max() <= 200


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patients": 0}, "patients = 0"),
        ({"knees_per_patient": 3}, "give 1 or 2"),
        ({"fov_mm": (0.0, 100.0)}, "fov_mm"),
        ({"fov_mm": (150.0, 100.0)}, "fov_mm"),
        ({"bilateral": True, "knees_per_patient": 1}, "knees_per_patient = 2"),
        ({"randomisation": (0.0, 1.5)}, "randomisation"),
        ({"masks": "true"}, "annotated"),
        ({"films": "modern"}, "'plain', 'varied'"),
        ({"attributes": {"sex": {"female": 0.5}}}, "'sex'"),
        ({"attributes": {"sex": {"female": 1.5, "male": -0.5}}}, "'sex'"),
        ({"bias": {"race=C": {"noise": 0.1}}}, "'race=C'"),
        ({"bias": {"race=B": {"nose": 0.1}}}, "'nose'"),
        ({"bias": {"race=B": {"noise": 1.1}}}, "from 0 to 1"),
        ({"bias": {"race=B": {"noise": float("nan")}}}, "from 0 to 1"),
    ],
)
def test_bad_settings_are_named(changes, words):
    with pytest.raises(InputError, match=words):
        source(config(**changes), size=SIZE, seed=0)


def test_a_missing_setting_is_named():
    with pytest.raises(InputError, match="'fov_mm'"):
        source({k: v for k, v in config().items() if k != "fov_mm"}, size=SIZE, seed=0)

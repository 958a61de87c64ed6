import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from kneefair_jax.data.phantom import source
from kneefair_jax.data.phantom.cohort import quotas
from kneefair_jax.errors import InputError

SIZE = (32, 40)
SHARES = {"sex": {"female": 0.5, "male": 0.5}, "race": {"B": 0.15, "A": 0.85}}


def config(**changes):
    base = {"patients": 20, "knees_per_patient": 2, "attributes": SHARES, "bias": {}, "fov_mm": 140.0}
    return {**base, **changes}


def everything(cohort):
    return list(cohort.read(range(len(cohort.cases))))


def test_quotas_by_hand():
    assert quotas(SHARES, 40) == {
        ("female", "B"): 3,
        ("female", "A"): 17,
        ("male", "B"): 3,
        ("male", "A"): 17,
    }
    # 0.75 and 4.25 twice: the two spare patients go to the remainders of 0.75.
    assert list(quotas(SHARES, 10).values()) == [1, 4, 1, 4]


@given(st.integers(1, 500), st.floats(0, 1))
def test_quotas_are_within_one_of_the_share(patients, share):
    shares = {"a": {"x": share, "y": 1 - share}, "b": {"u": 0.3, "v": 0.7}}
    counts = quotas(shares, patients)
    assert sum(counts.values()) == patients
    for (a, b), count in counts.items():
        assert abs(count - patients * shares["a"][a] * shares["b"][b]) < 1 + 1e-6


def test_table():
    cohort = source(config(), size=SIZE, seed=0)
    cases = cohort.cases
    assert list(cases.columns) == ["case_id", "patient_id", "side", "sex", "race"]
    assert len(cases) == 40 and cases["case_id"].is_unique and cases["patient_id"].nunique() == 20
    assert list(cases["race"].cat.categories) == ["B", "A"]
    assert cases["race"].value_counts()["B"] == 2 * 3  # 3 of 20 patients
    assert (cases.groupby("patient_id")[["sex", "race"]].nunique() == 1).all(axis=None)
    assert cohort.structures == ("femur", "tibia", "fibula", "patella")
    json.dumps(cohort.settings)


def test_one_knee_each_alternates_sides():
    cases = source(config(knees_per_patient=1), size=SIZE, seed=0).cases
    assert cases["side"].value_counts().to_dict() == {"right": 10, "left": 10}


def test_examples_are_those_of_the_table():
    cohort = source(config(patients=9), size=SIZE, seed=0)  # 18 cases: a second chunk of two
    examples = everything(cohort)
    assert len(examples) == 18
    assert examples[0].image.shape == (*SIZE, 1) and examples[0].label.shape == SIZE
    np.testing.assert_allclose(examples[0].spacing, [140 / 32, 140 / 40])
    for side, example in zip(cohort.cases["side"], examples, strict=True):
        fibula, tibia = (np.argwhere(example.label == bone)[:, 1].mean() for bone in (3, 2))
        assert (fibula < tibia) == (side == "right")


def test_a_case_depends_on_seed_and_index_alone():
    few = everything(source(config(patients=3), size=SIZE, seed=5))
    many = source(config(patients=12), size=SIZE, seed=5).read(range(6))
    for a, b in zip(few, many, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.label, b.label)
    other = next(source(config(patients=3), size=SIZE, seed=6).read([0]))
    assert (other.image != few[0].image).any()


def test_rows_are_read_in_any_order():
    cohort = source(config(patients=12), size=SIZE, seed=5)
    every = everything(cohort)
    for row, example in zip((20, 3, 3), cohort.read([20, 3, 3]), strict=True):
        np.testing.assert_array_equal(example.image, every[row].image)


def test_groups_alone_change_nothing():
    plain = everything(source(config(), size=SIZE, seed=0))
    renamed = source(config(attributes={"age": {"old": 0.5, "young": 0.5}}), size=SIZE, seed=0)
    zero = source(config(bias={"race=B": {"morphology": 0.0, "noise": 0}}), size=SIZE, seed=0)
    for cohort in (renamed, zero):
        for a, b in zip(plain, everything(cohort), strict=True):
            np.testing.assert_array_equal(a.image, b.image)


def test_unbiased_groups_have_equal_bones():
    cohort = source(
        config(patients=300, knees_per_patient=1, attributes={"sex": SHARES["sex"]}), size=(32, 32), seed=1
    )
    area = np.array([(example.label > 0).mean() for example in everything(cohort)])
    female = (cohort.cases["sex"] == "female").to_numpy()
    error = np.sqrt(area[female].var() / female.sum() + area[~female].var() / (~female).sum())
    assert abs(area[female].mean() - area[~female].mean()) < 3.5 * error


def test_bias_reaches_its_group_only():
    bias = {"race=B": {"morphology": 1.0}, "sex=male,race=A": {"noise": 0.5}}
    biased = source(ConfigDict(config(bias=bias)), size=SIZE, seed=0)
    # A ConfigDict sorts its keys, and the order of the quotas with them, so both cohorts use one.
    plain = source(ConfigDict(config()), size=SIZE, seed=0)
    touched = (plain.cases["race"] == "B") | (plain.cases["sex"] == "male")
    for changed, a, b in zip(touched, everything(plain), everything(biased), strict=True):
        assert (a.image != b.image).any() == changed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patients": 0}, "patients = 0"),
        ({"knees_per_patient": 3}, "give 1 or 2"),
        ({"fov_mm": 0.0}, "fov_mm"),
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

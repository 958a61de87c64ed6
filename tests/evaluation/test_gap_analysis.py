import numpy as np
import pandas as pd
import pytest

from kneefair_jax import groups
from kneefair_jax.data.cohort_loader import Cohort
from kneefair_jax.data.source import Source
from kneefair_jax.evaluation import gap_analysis

PATIENTS = 60


def cohort(sex):
    table = pd.DataFrame(
        {
            "case_id": [f"c{k}" for k in range(PATIENTS)],
            "patient_id": [f"p{k}" for k in range(PATIENTS)],
            "sex": groups.categorical(pd.Series(sex)),
            "split": "train",
        }
    )
    source = Source(table, ("a", "b"), {}, lambda rows: iter(()))
    return Cohort(source, table, ("sex",), ("a", "b"), (48, 40, 1), has_names=True)


def films(male, marker=0, wider=0):
    """A bright rectangle over another on noise; a man's film has a sign in the corner, or wider bones."""
    cases = []
    for k in range(PATIENTS):
        rng = np.random.default_rng(k)
        label = np.zeros((48, 40), np.uint8)
        left = rng.integers(10, 13)
        right = left + rng.integers(12, 15) + wider * male[k]
        label[12:24, left:right], label[24:38, left:right] = 1, 2
        image = 80.0 * (label > 0) + rng.normal(60, 15, label.shape)
        image[:5, :5] += marker * male[k]
        cases.append({"image": np.clip(image, 0, 255).astype(np.uint8)[..., None], "label": label})
    return cases


@pytest.fixture(scope="module")
def male():
    return np.random.default_rng(0).permutation(np.arange(PATIENTS) % 2)


@pytest.fixture(scope="module")
def people(male):
    return cohort(np.where(male, "male", "female"))


def test_a_marker_shows_in_the_image_alone(people, male):
    aucs = gap_analysis.attribute_aucs(people, films(male, marker=150), None, seed=0)["sex"]
    assert list(aucs) == ["image", "crop", "mask"]
    assert aucs["image"]["auc"] > 0.95 and aucs["image"]["interval"][0] > 0.8
    for name in ("crop", "mask"):
        assert aucs[name]["interval"][0] < 0.5 < aucs[name]["interval"][1]
    assert aucs["image"]["patients"] == PATIENTS and aucs["image"]["levels"] == ["sex=female", "sex=male"]


def test_mask_and_features_predict_what_differs_in_size(people, male):
    features = np.random.default_rng(1).normal(size=(PATIENTS, 5)) + 9 * male[:, None]
    aucs = gap_analysis.attribute_aucs(people, films(male, wider=6), features, seed=0)["sex"]
    assert aucs["mask"]["auc"] > 0.9 and aucs["features"]["auc"] > 0.99


def test_without_a_planted_cue_the_interval_holds_chance(people, male):
    aucs = gap_analysis.attribute_aucs(people, films(male), np.zeros((PATIENTS, 3)), seed=0)["sex"]
    for entry in aucs.values():
        assert entry["interval"][0] <= 0.5 <= entry["interval"][1]
    assert aucs["features"]["auc"] == 0.5


def test_thumbnails_by_hand():
    """64 x 64: each of 32 x 32 values is the mean of four pixels, in the crop and in the image."""
    image = np.arange(64 * 64, dtype=np.float64).reshape(64, 64) % 251
    label = np.zeros((64, 64), np.uint8)
    label[16:40, 8:30], label[40:48, 30:40] = 1, 2
    cases = [
        {"image": image.astype(np.uint8)[..., None], "label": label},
        {"image": image.astype(np.uint8)[..., None], "label": 0 * label},
    ]
    small = gap_analysis.thumbnails(cases, 2)
    mean = image.reshape(32, 2, 32, 2).mean((1, 3)).ravel()
    np.testing.assert_allclose(small["image"], [mean, mean], rtol=1e-5)
    np.testing.assert_allclose(small["crop"], [image[16:48, 8:40].ravel(), mean], rtol=1e-5)
    expected = [(label == s).reshape(32, 2, 32, 2).mean((1, 3)).ravel() for s in (1, 2)]
    np.testing.assert_allclose(small["mask"], [np.concatenate(expected), np.zeros(2048)], atol=1e-6)

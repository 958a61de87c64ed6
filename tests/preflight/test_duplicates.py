import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import quickstart
from kneefair_jax.data import cohort_loader
from kneefair_jax.preflight import duplicates


@pytest.fixture(scope="module", params=["shapes", pytest.param("phantoms", marks=pytest.mark.slow)])
def knees(request):
    """Two films of each of sixty patients: images u8[N, H, W, C] and their owners."""
    return {"shapes": shapes, "phantoms": phantoms}[request.param]()


def shapes():
    """A bright shaft on black, as of all films, with sixteen soft spots of its own on each."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[:64, :64]
    images = np.repeat(np.where(abs(columns - 32) < 12, 120.0, 10.0)[None], 120, axis=0)
    for image in images:
        for row, column in rng.uniform(8, 56, (16, 2)):
            image += rng.uniform(-60, 100) * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 72)
    return images.clip(0, 255).astype(np.uint8)[..., None], [f"p{n // 2}" for n in range(120)]


def phantoms():
    config = quickstart.get_config()
    config.data.size = (64, 64)
    config.data.phantom.patients = 60
    cohort = cohort_loader.load(config.data, 0)
    cases = cohort.source.read(range(len(cohort.cases)))
    return np.stack([case.image for case in cases]), cohort.cases["patient_id"].tolist()


def found(images, owners):
    thumbnails = np.stack([duplicates.thumbnail(image) for image in images])
    return [(pair.first, pair.second) for pair in duplicates.pairs(thumbnails, owners).pairs]


def noisy(image, rng):
    return image + rng.normal(0, 5, image.shape)


CHANGES = {
    "noise": noisy,
    "brightness": lambda image, rng: image + 15.0,
    "contrast": lambda image, rng: 0.85 * image + 10,
    "all of it": lambda image, rng: noisy(0.9 * image - 5, rng),
}


def test_distinct_patients_are_no_duplicates(knees):
    assert found(*knees) == []


@pytest.mark.parametrize("change", CHANGES)
def test_exactly_the_planted_copies_are_detected(knees, change):
    images, owners = knees
    rng = np.random.default_rng(0)
    copies = [3, 40, 77]
    planted = [np.clip(CHANGES[change](images[row].astype(float), rng), 0, 255) for row in copies]
    everything = np.concatenate([images, np.stack(planted).astype(np.uint8)])
    pairs = found(everything, [*owners, "x1", "x2", "x3"])
    assert sorted(pairs) == [(row, len(images) + k) for k, row in enumerate(copies)]


def test_films_of_one_patient_are_not_compared(knees):
    images, owners = knees
    assert found(np.concatenate([images, images[:1]]), [*owners, owners[0]]) == []


def test_two_equal_films_are_duplicates_and_blank_ones_are_not():
    image = np.random.default_rng(0).integers(0, 255, (20, 24, 1)).astype(np.uint8)
    assert found([image, image], ["a", "b"]) == [(0, 1)]
    blank = np.full_like(image, 9)
    assert found([blank, blank], ["a", "b"]) == []


@given(st.integers(1, 50), st.integers(0, 9), st.integers(0, 9))
def test_it_is_brute_force_in_blocks(block, one, other):
    rng = np.random.default_rng(one)
    rows = rng.normal(size=(30, 256)).astype(np.float32)
    rows[10 + other] = rows[one] + rng.normal(0, 0.1, 256)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    owners = [f"p{k}" for k in range(30)]
    likeness = np.corrcoef(rows - rows.mean(0))
    expected = [(i, j) for i in range(30) for j in range(i + 1, 30) if likeness[i, j] >= 0.9]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", block)
        pairs, count = duplicates.pairs(rows, owners)
    assert [(pair.first, pair.second) for pair in pairs] == expected == [(one, 10 + other)]
    assert count == 1
    assert pairs[0].likeness == pytest.approx(likeness[one, 10 + other], abs=0.01)


def test_a_cap_keeps_the_likeliest_and_counts_all(monkeypatch):
    rng = np.random.default_rng(0)
    film = rng.normal(size=256)
    rows = np.stack(
        [film + rng.normal(0, 0.02 * k, 256) for k in range(1, 13)] + list(rng.normal(size=(20, 256)))
    )
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    owners = [f"p{k}" for k in range(len(rows))]
    every = duplicates.pairs(rows, owners)
    assert every.total == len(every.pairs) > 50
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 9)
    monkeypatch.setattr(duplicates, "_BLOCK", 5)
    few = duplicates.pairs(rows, owners)
    assert few.total == every.total and few.pairs == every.pairs[:9]


def test_every_pair_of_blocks_is_compared_once(monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK", 10)
    rows, calls = np.zeros((45, 256), np.float32), []
    duplicates.pairs(rows, ["p"] * 45, advance=lambda: calls.append(1))
    assert len(calls) == duplicates.comparisons(45) == 15


def test_equal_films_are_one_and_belong_to_all_their_patients():
    digests, owners = ["a", "b", "a", "", "", "b"], ["p", "q", "r", "p", "q", "q"]
    rows, names = duplicates.distinct(digests, owners)
    assert rows == [0, 1, 3, 4] and names[1:] == ["q", "p", "q"] and names[0] not in owners


def test_a_digest_is_of_pixels_and_shape():
    image = np.arange(24, dtype=np.uint8).reshape(4, 6, 1)
    assert (
        duplicates.digest(image)
        == duplicates.digest(image.copy())
        != duplicates.digest(image.reshape(6, 4, 1))
    )
    assert duplicates.digest(np.full((4, 6, 1), 7, np.uint8)) == ""

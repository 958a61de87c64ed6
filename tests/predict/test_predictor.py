import json

import jax
import numpy as np
import pytest
from PIL import Image

from kneefair_jax import anatomy, predict
from kneefair_jax.data import readers
from kneefair_jax.errors import InputError
from kneefair_jax.predict import cleaning, predictor, quality
from kneefair_jax.predict import grid as placing
from tests.predict.networks import write

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, size, dtype=np.uint8) for size in ((20, 30), (40, 17), (16, 16))]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("weights") / "w.safetensors")


def test_masks_have_the_images_sizes_and_do_not_depend_on_the_batch(path):
    predictor = predict.load(path, batch_size=2)
    masks = predictor(IMAGES)
    assert [mask.shape for mask in masks] == [image.shape for image in IMAGES]
    assert all(mask.dtype == np.uint8 and mask.max() <= 3 for mask in masks)
    single = predictor.probabilities([IMAGES[1]])[0]
    np.testing.assert_allclose(predictor.probabilities(IMAGES)[1], single, atol=1e-5)
    np.testing.assert_allclose(single.sum(-1), 1, atol=1e-5)
    assert predictor([]) == []
    predictions = predictor.predict(IMAGES)
    np.testing.assert_array_equal(predictions[1].mask, masks[1])
    assert tuple(predictions[1].confidence) == predictor.structures and isinstance(
        predictions[1].warning, str
    )


def test_an_ensemble_is_the_mean_and_a_flip_is_the_mean_with_the_mirrored_image(tmp_path, path):
    # Left and right change names on a flip.
    sided = [
        write(tmp_path / f"{i}.safetensors", ("right femur", "left femur", "tibia"), seed=i) for i in (0, 1)
    ]
    one, other, both, flipped = (
        predict.load(*names, **more, batch_size=2)
        for names, more in ((sided[:1], {}), (sided[1:], {}), (sided, {}), (sided[:1], {"flip": True}))
    )
    square = [IMAGES[2]]
    mean = (one.probabilities(square) + other.probabilities(square)) / 2
    np.testing.assert_allclose(both.probabilities(square), mean, atol=1e-6)
    mirrored = one.probabilities([IMAGES[2][:, ::-1]])[:, :, ::-1][..., [0, 2, 1, 3]]
    mean = (one.probabilities(square) + mirrored) / 2
    np.testing.assert_allclose(flipped.probabilities(square), mean, atol=1e-5)
    with pytest.raises(InputError, match="an ensemble shares both"):
        predict.load(path, sided[0])


def test_the_whole_femur_is_the_sum_of_femur_and_patella(tmp_path, path):
    whole, parts = predict.load(path, whole_femur=True), predict.load(path)
    assert whole.structures == ("whole femur", "tibia")
    p = parts.probabilities(IMAGES[:1])[0]
    expected = np.stack([p[..., 0], p[..., 1] + p[..., 3], p[..., 2]], -1)
    np.testing.assert_allclose(whole.probabilities(IMAGES[:1])[0], expected, atol=1e-6)
    with pytest.raises(InputError, match="not femur and patella"):
        predict.load(write(tmp_path / "w.safetensors", ("femur",)), whole_femur=True)


def test_a_group_s_images_go_to_its_network(tmp_path):
    for seed, group in enumerate(("sex=f", "sex=m")):
        write(tmp_path / f"{seed}.safetensors", group=group, seed=seed)
    predictor, hers = predict.load(tmp_path), predict.load(tmp_path / "0.safetensors")
    np.testing.assert_array_equal(
        predictor.probabilities(IMAGES[:1], "sex=f"), hers.probabilities(IMAGES[:1], "sex=f")
    )
    with pytest.raises(InputError, match="give one of 'sex=f', 'sex=m' as group"):
        predictor(IMAGES)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.ones(3), "no image"),
        (np.ones((3, 4, 5)), "no image"),
        (np.full((20, 20), np.nan), "NaN, infinite"),
        (np.full((20, 20), 1e300), "beyond float32"),
        (np.array([["a"]]), "no image"),
        (IMAGES[0][:3, :3], "3 x 3 pixels; a radiograph has at least 16"),
        (np.ones((20, 20)), "all pixels are alike"),
        (np.broadcast_to(IMAGES[0][:1, :1], (8000, 8000)), "8000 x 8000 pixels, more than 50 million"),
    ],
)
def test_what_is_no_image(path, image, message):
    with pytest.raises(InputError, match=r"images\[1\]: .*" + message):
        predict.load(path)([IMAGES[0], image])


@pytest.mark.parametrize("images", [IMAGES[0], IMAGES[0][..., None], "knee.png"])
def test_one_image_is_no_list(path, images):
    with pytest.raises(InputError, match=r"a list of images, .*predictor\(\[image\]\)"):
        predict.load(path)(images)


@pytest.mark.parametrize("name", [None, ["phantom"]])
def test_what_is_no_name(name):
    with pytest.raises(InputError, match="is no name of a network"):
        predict.load(name)


def test_labels_are_those_of_the_interpolated_probabilities():
    p = np.asarray(jax.nn.softmax(3 * RNG.normal(size=(5, 6, 4)), axis=-1), np.float32)
    fine = np.stack([np.asarray(Image.fromarray(p[..., c]).resize((31, 17), 2)) for c in range(4)])
    np.testing.assert_array_equal(readers.labels_at(p, (17, 31)), fine.argmax(0))
    # Half a plane: the line is straight at any size.
    p = np.zeros((4, 4, 2), np.float32)
    p[:, :2, 0] = p[:, 2:, 1] = 1
    assert (readers.labels_at(p, (40, 40)) == np.repeat([0, 1], 20)).all()


def test_a_batch_is_no_larger_than_the_images(tmp_path, monkeypatch):
    sizes = []
    original = predictor._probabilities
    monkeypatch.setattr(
        predictor, "_probabilities", lambda *args: sizes.append(len(args[2])) or original(*args)
    )
    images = list(np.random.default_rng(0).integers(0, 255, (9, 20, 20), dtype=np.uint8))
    network = write(tmp_path / "a.safetensors")
    many = predict.load(network, batch_size=1_000_000)
    masks = many(images)
    assert sizes == [16]  # the next power of two
    few = predict.load(network)
    np.testing.assert_array_equal(few(images), masks)
    assert sizes == [16, 8, 8]
    with pytest.raises(InputError, match="batch-size"):
        predict.load(write(tmp_path / "b.safetensors", grid=(512, 512, 1)), batch_size=1_000_000)


TALL = np.random.default_rng(0).integers(0, 256, (32, 16), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "grid", "rows", "columns"),
    [
        ((20, 10), (16, 16), (0, 16), (4, 12)),
        ((10, 20), (16, 16), (4, 12), (0, 16)),
        ((7, 7), (16, 16), (0, 16), (0, 16)),
        ((3000, 2000), (128, 128), (0, 128), (21, 106)),  # 85.3 columns
        ((2000, 2000), (16, 32), (0, 16), (8, 24)),
        ((1, 10_000), (16, 16), (7, 8), (0, 16)),
    ],
)
def test_padding_keeps_the_aspect_ratio_and_centers(size, grid, rows, columns):
    assert placing.place_on_grid(size, grid, "pad") == (slice(*rows), slice(*columns))
    assert placing.place_on_grid(size, grid, "stretch") == (slice(0, grid[0]), slice(0, grid[1]))


def test_a_padded_film_is_segmented_as_a_film_with_black_borders(tmp_path):
    path = write(tmp_path / "w.safetensors", sure=20.0)
    stretched, padded = predictor.load(path, raw=True), predictor.load(path, fit="pad", raw=True)
    bordered = np.pad(readers.resize_image(TALL[..., None], (16, 8))[..., 0], ((0, 0), (4, 4)))
    probabilities = padded.probabilities([TALL])
    np.testing.assert_allclose(probabilities, stretched.probabilities([bordered]), atol=1e-6)
    assert abs(probabilities - stretched.probabilities([TALL])).max() > 0.01
    (mask,) = padded([TALL])
    np.testing.assert_array_equal(mask, readers.labels_at(probabilities[0, :, 4:12], TALL.shape))
    square = TALL[:16]
    np.testing.assert_array_equal(padded([square])[0], stretched([square])[0])


def test_masks_are_cleaned_and_confidence_and_warnings_are_of_the_mask_before(tmp_path):
    path = write(tmp_path / "w.safetensors", sure=20.0)
    cleaned, raw = predictor.load(path), predictor.load(path, raw=True)
    (probabilities,) = raw.probabilities([TALL])
    expected = readers.labels_at(cleaning.clean_labels(probabilities, cleaned.structures), TALL.shape)
    (after,), (before,) = cleaned.predict([TALL]), raw.predict([TALL])
    np.testing.assert_array_equal(after.mask, expected)
    np.testing.assert_array_equal(before.mask, readers.labels_at(probabilities, TALL.shape))
    assert (after.mask != before.mask).any()
    assert after.warnings == before.warnings and after.warnings
    np.testing.assert_equal(after.confidence, before.confidence)
    assert cleaned.digest() != raw.digest()


def test_the_confidence_is_of_the_film_without_its_border(tmp_path):
    path = write(tmp_path / "w.safetensors", sure=20.0)
    (prediction,) = predictor.load(path, fit="pad").predict([TALL])
    inside = predictor.load(path, fit="pad").probabilities([TALL])[0][:, 4:12]
    label, highest = inside.argmax(-1), inside.max(-1)
    for value, confidence in enumerate(prediction.confidence.values(), start=1):
        expected = highest[label == value].mean() if (label == value).any() else np.nan
        np.testing.assert_allclose(confidence, expected, rtol=1e-5)


def test_a_calibrated_network_predicts_its_dice_and_warns(tmp_path):
    structures = ("femur", "tibia", "patella")
    line = {"intercept": 0.5, "slope": 1.0, "low": -1.0, "high": 1.0, "limit": -5.0}
    total = {"names": ["femur", "patella"], "limit": -99.0, "suspect": -99.0}
    fields = {"structures": dict.fromkeys(structures, line), "total": total}
    path = write(tmp_path / "w.safetensors", structures, sure=20.0, quality=fields)
    network = predictor.load(path)
    (prediction,) = network.predict([TALL])
    soft = network.soft_dice(network.probabilities([TALL], merged=False)[0])
    expected = {name: quality.predicted_dice(value, quality.Line(**line)) for name, value in soft.items()}
    np.testing.assert_equal(dict(prediction.predicted_dice), expected)
    assert not any("predicted Dice" in warning for warning in prediction.warnings)
    # All are below such limits, and of four directions one fits best.
    fields = {
        "structures": dict.fromkeys(structures, line | {"limit": 99.0}),
        "total": total | {"suspect": 99.0},
    }
    write(path, structures, sure=20.0, quality=fields)
    films = [np.rot90(TALL[:16], turns) for turns in range(4)]
    warnings = [one.warnings for one in predictor.load(path).predict(films)]
    assert sum(any("counterclockwise" in text for text in of_film) for of_film in warnings) == 3
    assert all(any("predicted Dice" in text for text in of_film) for of_film in warnings)
    # No calibration of one network is applied to several.
    (both,) = predictor.load(path, write(tmp_path / "other.safetensors", structures, seed=1)).predict([TALL])
    assert not both.predicted_dice


def test_a_calibration_without_a_structure_that_it_names_is_refused(tmp_path):
    total = {"names": ["femur"], "limit": 0.0, "suspect": 0.0}
    path = write(tmp_path / "w.safetensors", quality={"structures": {}, "total": total})
    with pytest.raises(InputError, match="lacks 'femur'"):
        predictor.load(path)
    line = {"intercept": 0.0, "slope": 1.0, "low": -1.0, "high": 1.0, "limit": 0.0}
    write(path, quality={"structures": {"foo": line}, "total": total | {"names": ["foo"]}})
    with pytest.raises(InputError, match="'foo', which the network lacks"):
        predictor.load(path)


def test_what_options_merge_has_the_predicted_dice_of_the_same_classes(tmp_path):
    structures = anatomy.SCHEMES["knee_overlaps"]
    names = (*anatomy.SCHEMES["knee"], *anatomy.whole_bones(structures))
    lines = {
        name: {"intercept": float(place), "slope": 1.0, "low": -1.0, "high": 1.0, "limit": -99.0}
        for place, name in enumerate(names)
    }
    total = {"names": ["femur", "tibia", "patella"], "limit": -99.0, "suspect": -99.0}
    path = write(tmp_path / "w.safetensors", structures, quality={"structures": lines, "total": total})

    def predicted(**options):
        return predictor.load(path, **options).predict([TALL])[0].predicted_dice

    own = predicted(outlines=True)
    assert set(own) == set(names)
    np.testing.assert_equal(predicted(whole_femur=True)["whole femur"], own["whole femur"])
    fibula_in_front = predicted(in_front="fibula")
    np.testing.assert_equal(fibula_in_front["fibula"], own["whole fibula"])
    # Masks without the part behind the fibula were not calibrated.
    assert "tibia" not in fibula_in_front


def test_the_network_s_description_decides_unless_fit_is_given(tmp_path):
    old = write(tmp_path / "old.safetensors")
    new = write(tmp_path / "new.safetensors", seed=1, fit="pad")
    assert "fit" not in json.loads(old.with_suffix(".json").read_text())
    assert (predictor.load(old).fit, predictor.load(new).fit) == ("stretch", "pad")
    assert predictor.load(new, fit="stretch").fit == predictor.load(old, new, fit="stretch").fit == "stretch"
    with pytest.raises(InputError, match="differ in --fit"):
        predictor.load(old, new)
    with pytest.raises(InputError, match="give one of stretch, pad"):
        predictor.load(old, fit="crop")

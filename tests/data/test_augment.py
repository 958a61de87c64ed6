import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kneefair_jax import anatomy
from kneefair_jax.data.augment import Augmentation, augment

SIDES = ("right lung", "left lung", "heart")
KEY = jax.random.key(3)


def batch(size=6, height=20, width=16):
    rng = np.random.default_rng(0)
    image = rng.uniform(size=(size, height, width, 1)).astype(np.float32)
    label = rng.integers(0, 4, (size, height, width)).astype(np.int32)
    return image, label, np.arange(size, dtype=np.int32)


def run(image, label, position, **strength):
    table = jnp.asarray(anatomy.flip_table(SIDES))
    return augment(KEY, image, label, position, strength=Augmentation(**strength), flip_table=table)


def test_zero_strength_changes_nothing():
    image, label, position = batch()
    new_image, new_label = run(image, label, position)
    np.testing.assert_array_equal(new_image, image)
    np.testing.assert_array_equal(new_label, label)


def test_a_flip_swaps_the_labels():
    """The trap: a mirrored right lung is a left lung."""
    image, label, position = batch()
    new_image, new_label = run(image, label, position, flip=1.0)
    np.testing.assert_array_equal(new_image, image[:, :, ::-1])
    swapped = np.array([0, 2, 1, 3])[label[:, :, ::-1]]
    np.testing.assert_array_equal(new_label, swapped)
    assert (np.asarray(new_label) != label[:, :, ::-1]).any()


def test_about_half_are_flipped():
    image, label, position = batch(size=400, height=4, width=4)
    new_image, _ = run(image, label, position, flip=0.5)
    share = (np.asarray(new_image) != image).any((1, 2, 3)).mean()
    assert 0.4 < share < 0.6


def test_the_label_moves_with_the_image():
    """A disc painted into both stays one disc in both."""
    rows, columns = np.mgrid[:64, :64]
    disc = ((rows - 25) ** 2 + (columns - 38) ** 2 < 150).astype(np.int32)
    image, label = np.repeat(disc[None, ..., None], 8, 0).astype(np.float32), np.repeat(disc[None], 8, 0)
    new_image, new_label = run(
        image, label, np.arange(8, dtype=np.int32), rotation=30.0, scale=0.2, shift=0.1
    )
    drawn = np.asarray(new_image)[..., 0] > 0.5
    new_label = np.asarray(new_label) == 1
    overlap = (drawn & new_label).sum((1, 2)) / (drawn | new_label).sum((1, 2))
    assert (overlap > 0.93).all()
    moved = (new_label & (label == 1)).sum((1, 2)) / (new_label | (label == 1)).sum((1, 2))
    assert moved.min() < 0.9


def test_a_shift_alone_moves_by_whole_pixels_where_it_should():
    rows, columns = np.mgrid[:40, :40]
    label = ((np.abs(rows - 20) < 5) & (np.abs(columns - 20) < 5)).astype(np.int32)[None]
    image = label[..., None].astype(np.float32)
    _, new_label = run(image, label, np.zeros(1, np.int32), shift=0.1)
    before, after = (np.argwhere(x[0] == 1).mean(0) for x in (label, np.asarray(new_label)))
    assert (np.abs(after - before) <= 4.5).all() and np.abs(after - before).max() > 0.1
    assert abs((np.asarray(new_label) == 1).sum() - label.sum()) <= 20


def test_intensity_leaves_the_label_alone():
    image, label, position = batch()
    new_image, new_label = run(image, label, position, gamma=1.0, contrast=0.5, noise=0.1)
    np.testing.assert_array_equal(new_label, label)
    assert np.abs(np.asarray(new_image) - image).max() > 0.05
    assert np.isfinite(np.asarray(new_image)).all()


def test_a_draw_depends_on_the_position_in_the_global_batch_and_not_on_the_device():
    image, label, position = batch(size=8)
    strength = {"flip": 0.5, "rotation": 20.0, "noise": 0.1}
    whole, _ = run(image, label, position, **strength)
    parts = [run(image[i::2], label[i::2], position[i::2], **strength)[0] for i in range(2)]
    np.testing.assert_allclose(whole[0::2], parts[0], atol=1e-6)
    np.testing.assert_allclose(whole[1::2], parts[1], atol=1e-6)


@pytest.mark.parametrize("strength", [{"flip": 0.5}, {"rotation": 10.0, "gamma": 0.5, "noise": 0.1}])
def test_labels_stay_labels(strength):
    image, label, position = batch()
    _, new_label = jax.jit(lambda *a: run(*a, **strength))(image, label, position)
    assert set(np.unique(new_label)) <= {0, 1, 2, 3}
    assert new_label.dtype == jnp.int32

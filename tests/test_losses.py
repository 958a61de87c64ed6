"""Losses against values by hand, against optax and against PyTorch's definitions written in numpy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kneefair_jax import anatomy, losses


def random_case(seed, batch=3, size=5, classes=4):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(batch, size, size, classes)).astype(np.float32)
    label = rng.integers(0, classes, (batch, size, size)).astype(np.int32)
    return logits, label


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_each_example_has_a_value_of_its_own(name):
    loss = losses.LOSSES[name]
    logits, label = random_case(0)
    batch = loss(logits, label)
    chex.assert_shape(batch, (3,))
    one_by_one = jnp.concatenate([loss(logits[i : i + 1], label[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(batch, one_by_one, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_gradient_matches_finite_differences(name):
    logits, label = random_case(1, batch=1, size=3)
    with jax.enable_x64(True):
        jax.test_util.check_grads(
            lambda x: losses.LOSSES[name](x, label).sum(), (logits.astype(np.float64),), order=1, modes="rev"
        )


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_a_perfect_prediction_has_loss_zero_and_a_wrong_one_more(name):
    _, label = random_case(2)
    right = 50.0 * np.eye(4, dtype=np.float32)[label]
    wrong = 50.0 * np.eye(4, dtype=np.float32)[(label + 1) % 4]
    np.testing.assert_allclose(losses.LOSSES[name](right, label), 0, atol=1e-5)
    assert (losses.LOSSES[name](wrong, label) > 0.5).all()


def test_cross_entropy_equals_optax():
    logits, label = random_case(3)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, label).mean((1, 2))
    np.testing.assert_allclose(losses.cross_entropy(logits, label), expected, rtol=1e-5)


def test_focal_with_gamma_zero_is_cross_entropy_and_by_hand_otherwise():
    logits, label = random_case(4)
    np.testing.assert_allclose(
        losses.focal(logits, label, gamma=0.0), losses.cross_entropy(logits, label), rtol=1e-5
    )
    # One pixel, two classes, p(label) = 0.8: (1 - 0.8)^2 * -log 0.8.
    pixel = np.log(np.array([0.2, 0.8], np.float32)).reshape(1, 1, 1, 2)
    np.testing.assert_allclose(
        losses.focal(pixel, np.ones((1, 1, 1), np.int32)), [0.04 * -np.log(0.8)], rtol=1e-5
    )


def test_soft_dice_by_hand():
    # Two pixels, background and one structure; the structure is the first pixel, with p = .75 and .25.
    p = np.array([0.75, 0.25], np.float32)
    logits = np.log(np.stack([1 - p, p], -1)).reshape(1, 1, 2, 2)
    label = np.array([[[1, 0]]], np.int32)
    expected = 1 - (2 * 0.75 + 1) / (1.0 + 1.0 + 1)
    np.testing.assert_allclose(losses.soft_dice(logits, label), [expected], rtol=1e-6)


def test_tversky_weights_misses_by_beta_and_false_alarms_by_alpha():
    p = np.array([0.75, 0.25], np.float32)
    logits = np.log(np.stack([1 - p, p], -1)).reshape(1, 1, 2, 2)
    label = np.array([[[1, 0]]], np.int32)
    expected = 1 - (0.75 + 0.5) / (0.75 + 0.3 * 0.25 + 0.7 * 0.25 + 0.5)
    np.testing.assert_allclose(losses.tversky(logits, label), [expected], rtol=1e-6)


def test_dice_cross_entropy_is_the_sum():
    logits, label = random_case(5)
    np.testing.assert_allclose(
        losses.dice_cross_entropy(logits, label),
        losses.soft_dice(logits, label) + losses.cross_entropy(logits, label),
        rtol=1e-6,
    )


def test_a_structure_absent_from_both_has_loss_zero():
    label = np.zeros((1, 4, 4), np.int32)
    logits = np.zeros((1, 4, 4, 2), np.float32)
    logits[..., 0] = 50
    np.testing.assert_allclose(losses.soft_dice(logits, label), [0], atol=1e-6)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_region_losses_lie_between_zero_and_one(seed):
    logits, label = random_case(seed, batch=2, size=4)
    for loss in (losses.soft_dice, losses.tversky):
        value = loss(logits * 10, label)
        assert (value >= -1e-6).all() and (value <= 1 + 1e-6).all()


def test_no_loss_is_batch_dice():
    """Dice summed over the batch cannot be split by group."""
    logits, label = random_case(6, batch=2)
    label[1] = 0
    batchwise = losses.soft_dice(logits.reshape(1, 10, 5, 4), label.reshape(1, 10, 5))[0]
    assert abs(losses.soft_dice(logits, label).mean() - batchwise) > 1e-3


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_wrong_shapes_are_refused(name):
    logits, label = random_case(7)
    with pytest.raises((ValueError, TypeError)):
        losses.LOSSES[name](logits, label[..., None])
    with pytest.raises((ValueError, TypeError)):
        losses.LOSSES[name](logits, label[:1])


def void_case(seed, batch=2, size=4):
    """A random case with at least one valid pixel an example; labels are 255 in void."""
    logits, label = random_case(seed, batch, size)
    valid = np.random.default_rng(seed).uniform(size=label.shape) > 0.4
    valid[:, 0, 0] = True
    return logits, np.where(valid, label, 255).astype(np.int32), valid


def test_void_by_hand():
    # Three pixels, background and one structure: p = .75 in a pixel of it, .25 in background, .9 in void.
    p = np.array([0.75, 0.25, 0.9], np.float32)
    logits = np.log(np.stack([1 - p, p], -1)).reshape(1, 1, 3, 2)
    label, valid = np.array([[[1, 0, 255]]], np.int32), np.array([[[True, True, False]]])
    np.testing.assert_allclose(losses.cross_entropy(logits, label, valid), [-np.log(0.75)], rtol=1e-6)
    np.testing.assert_allclose(losses.focal(logits, label, valid), [-(0.25**2) * np.log(0.75)], rtol=1e-6)
    np.testing.assert_allclose(
        losses.soft_dice(logits, label, valid), [1 - (1.5 + 1) / (1 + 1 + 1)], rtol=1e-6
    )
    expected = 1 - (0.75 + 0.5) / (0.75 + 0.3 * 0.25 + 0.7 * 0.25 + 0.5)
    np.testing.assert_allclose(losses.tversky(logits, label, valid), [expected], rtol=1e-6)


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
@settings(max_examples=10)
@given(seed=st.integers(0, 1000), amount=st.floats(-1e4, 1e4, width=32), label_value=st.integers(0, 255))
def test_void_pixels_change_no_bit_of_a_loss(name, seed, amount, label_value):
    loss = losses.LOSSES[name]
    logits, label, valid = void_case(seed)
    changed = np.where(valid[..., None], logits, amount * np.arange(4, dtype=np.float32))
    expected = np.asarray(loss(logits, label, valid))
    np.testing.assert_array_equal(loss(changed, np.where(valid, label, label_value), valid), expected)
    # The rest is the loss of the valid pixels alone.
    for i in range(2):
        valid_only = loss(logits[i][valid[i]][None, None], label[i][valid[i]][None, None])
        np.testing.assert_allclose(expected[i], valid_only[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_the_gradient_in_void_pixels_is_exactly_zero(name):
    logits, label, valid = void_case(8, batch=1, size=3)

    def total(x):
        return losses.LOSSES[name](x, label, valid).sum()

    gradient = np.asarray(jax.grad(total)(logits))
    assert not valid.all() and not gradient[~valid].any() and gradient[valid].any(-1).all()
    with jax.enable_x64(True):
        jax.test_util.check_grads(total, (logits.astype(np.float64),), order=1, modes="rev")
        step = np.zeros(logits.shape)
        step[~valid] = 1e-3
        x = logits.astype(np.float64)
        assert total(x + step) == total(x - step)


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_an_example_without_valid_pixels_has_loss_zero(name):
    logits, label = random_case(9)
    valid = np.ones(label.shape, bool)
    valid[1] = False
    value, gradient = jax.value_and_grad(lambda x: losses.LOSSES[name](x, label, valid)[1])(logits)
    assert value == 0 and not np.asarray(gradient).any()
    np.testing.assert_allclose(
        losses.LOSSES[name](logits, label, valid)[::2], losses.LOSSES[name](logits, label)[::2], rtol=1e-6
    )


def test_a_mask_of_valid_pixels_of_another_shape_is_refused():
    logits, label = random_case(7)
    with pytest.raises(ValueError, match=r"valid must .*\(3, 5, 5\), \(1, 5, 5\)"):
        losses.cross_entropy(logits, label, np.ones((1, 5, 5), bool))


# Of the classes 1, 2 and 3: two regions that share the third.
SHARED = jnp.array([[False, True, False, True], [False, False, True, True]])


def test_dice_over_regions_by_hand():
    """Two pixels of the classes 1 and 3; the probabilities of both regions are sums of their classes'."""
    p = np.array([[0.1, 0.6, 0.1, 0.2], [0.2, 0.1, 0.3, 0.4]], np.float32)
    label = np.array([[[1, 3]]], np.int32)
    logits = np.log(p).reshape(1, 1, 2, 4)
    first = (2 * (0.8 + 0.5) + 1) / (0.8 + 0.5 + 2 + 1)  # p = .8 and .5, both pixels true
    second = (2 * 0.7 + 1) / (0.3 + 0.7 + 1 + 1)  # p = .3 and .7, the second pixel true
    expected = 1 - (first + second) / 2
    np.testing.assert_allclose(losses.soft_dice(logits, label, regions=SHARED), [expected], rtol=1e-6)
    loss = losses.with_regions(losses.dice_cross_entropy, SHARED)(logits, label)
    np.testing.assert_allclose(loss, [expected - (np.log(0.6) + np.log(0.4)) / 2], rtol=1e-6)


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_regions_of_one_class_each_change_nothing(name):
    logits, label = random_case(5)
    loss, single = losses.LOSSES[name], jnp.eye(4, dtype=bool)[1:]
    valid = np.random.default_rng(6).uniform(size=label.shape) > 0.3
    for mask in (None, valid):
        expected = loss(logits, label, mask)
        np.testing.assert_allclose(
            losses.with_regions(loss, single)(logits, label, mask), expected, rtol=1e-6
        )
    assert losses.with_regions(loss, None) is loss


def test_pixel_losses_have_no_regions():
    assert losses.with_regions(losses.focal, SHARED) is losses.focal


# Masks of the first structure of three: background may be any other class.
FIRST_ALONE = np.array([[1, 0, 1, 1], [0, 1, 0, 0], [1, 0, 1, 1], [1, 0, 1, 1]], bool)


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_sets_of_one_class_change_nothing(name):
    logits, label = random_case(5)
    sets = np.broadcast_to(np.eye(4, dtype=bool), (3, 4, 4))
    expected = losses.LOSSES[name](logits, label)
    np.testing.assert_allclose(losses.LOSSES[name](logits, label, sets=sets), expected, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_a_mask_of_one_structure_trains_that_structure_against_all_other_classes(name):
    """The loss of two classes: the structure, and the sum of all others' probabilities."""
    logits, label = random_case(6)
    label = np.where(label == 1, 1, 0)
    others = jax.nn.logsumexp(logits[..., [0, 2, 3]], axis=-1)
    merged = jnp.stack([others, logits[..., 1]], -1)
    expected = losses.LOSSES[name](merged, label)
    loss = losses.LOSSES[name](logits, label, sets=np.stack([FIRST_ALONE] * 3))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_no_gradient_tells_the_classes_of_a_set_apart(name):
    logits, label = random_case(7, batch=1)
    label = np.where(label == 1, 1, 0)
    gradient = jax.grad(lambda x: losses.LOSSES[name](x, label, sets=FIRST_ALONE[None]).sum())(logits)
    chex.assert_tree_all_finite(gradient)
    # The derivative by a logit of a set is proportional to its probability within the set.
    share = jax.nn.softmax(logits[..., [0, 2, 3]])
    np.testing.assert_allclose(
        gradient[..., [0, 2, 3]], gradient[..., [0, 2, 3]].sum(-1, keepdims=True) * share, atol=1e-6
    )


def test_regions_that_sets_leave_open_do_not_count():
    """Classes a, b and their overlap c; the whole a = a or c was annotated: the whole b is unknown."""
    sets = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]], bool)
    regions = np.array([[0, 1, 0, 1], [0, 0, 1, 1]], bool)
    for part in (sets, np.eye(4, dtype=bool), np.ones((4, 4), bool)):
        expected = anatomy.is_determined(part, regions)
        np.testing.assert_array_equal(losses.is_determined(part, regions), expected)
    logits, label = random_case(8)
    label = np.where(label == 1, 1, 0)
    loss = losses.soft_dice(logits, label, regions=regions, sets=np.stack([sets] * 3))
    np.testing.assert_allclose(loss, losses.soft_dice(logits, label, regions=regions[:1]), rtol=1e-5)
    all_open = np.ones((3, 4, 4), bool)
    np.testing.assert_array_equal(losses.soft_dice(logits, label, sets=all_open), 0)
    np.testing.assert_allclose(losses.cross_entropy(logits, label, sets=all_open), 0, atol=1e-6)


def test_examples_of_a_batch_have_their_own_sets():
    logits, label = random_case(9, batch=2)
    label = np.where(label == 1, 1, 0)
    sets = np.stack([FIRST_ALONE, np.eye(4, dtype=bool)])
    loss = losses.dice_cross_entropy(logits, label, sets=sets)
    for i, of_example in enumerate(sets):
        alone = losses.dice_cross_entropy(logits[i : i + 1], label[i : i + 1], sets=of_example[None])
        np.testing.assert_allclose(loss[i], alone[0], rtol=1e-5)

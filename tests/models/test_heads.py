"""The modules that use the group: their losses, the paths of the gradients, and that the logits stay the same."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kneefair_jax import models
from kneefair_jax.models import heads

FIELDS = {"name": "unet", "widths": (2,), "convolutions": 1, "norm": "group", "dtype": "float32"}
GROUP = jnp.array([0, 1, -1, 1])
KEYS = jax.random.split(jax.random.key(5), 4)
LEARNING = ("attribute_head", "adversarial")  # heads with an auxiliary loss


def rng_normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


IMAGE = rng_normal(4, 8, 8, 1)
FEATURES = rng_normal(4, 2, 3, 6)


def perturbed(tree, seed=1):
    """Add noise to initial parameters, so that biases are not 0 either."""
    leaves, structure = jax.tree.flatten(tree)
    rng = np.random.default_rng(seed)
    return structure.unflatten([leaf + 0.1 * rng.normal(size=leaf.shape) for leaf in leaves])


def network(head, strength=0.1):
    model = models.create(FIELDS, classes=3, parts=models.HEADS[head](2, strength))
    return model, {"params": perturbed(jax.jit(model.init)(jax.random.key(0), IMAGE)["params"])}


def test_group_cross_entropy_is_zero_where_the_group_is_unknown():
    logits = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0], [9.0, 0.0, 0.0]], np.float32)
    group = np.array([2, 0, -1])
    result = heads.group_cross_entropy(logits, group)
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(3), group]
    np.testing.assert_allclose(result, [*expected[:2], 0], rtol=1e-6)


def test_the_network_ascends_the_loss_that_its_discriminator_descends():
    """For a network of one matrix, the gradient is that of L_seg - strength CE; the discriminator's is that of CE."""
    strength, group = 0.3, jnp.array([0, 1, -1, 1])
    part = heads.Adversary(groups=2, strength=strength)
    inputs, matrix = rng_normal(4, 2, 3, 5), rng_normal(5, 6, seed=1)
    discriminator = perturbed(part.init(jax.random.key(0), FEATURES, None, False, None)["params"])

    def segmentation(matrix):
        return ((inputs @ matrix) ** 3).mean()

    def total(matrix, discriminator):
        features, updates = part.apply(
            {"params": discriminator}, inputs @ matrix, group, True, None, mutable="losses"
        )
        return (features**3).mean() + sum(jax.tree.leaves(updates["losses"])).sum()

    def classification(matrix, discriminator):
        second, first = discriminator["Dense_0"], discriminator["Dense_1"]
        hidden = jnp.maximum((inputs @ matrix).mean((1, 2)) @ first["kernel"] + first["bias"], 0)
        log_p = jax.nn.log_softmax(hidden @ second["kernel"] + second["bias"])
        return -(log_p[0, 0] + log_p[1, 1] + log_p[3, 1])

    expected = segmentation(matrix) + classification(matrix, discriminator)
    np.testing.assert_allclose(total(matrix, discriminator), expected, rtol=1e-5)
    result = jax.grad(total, (0, 1))(matrix, discriminator)
    reversed_gradient, descended = jax.grad(classification, (0, 1))(matrix, discriminator)
    np.testing.assert_allclose(
        result[0], jax.grad(segmentation)(matrix) - strength * reversed_gradient, atol=1e-5
    )
    assert abs(strength * reversed_gradient).max() > 1e-3
    chex.assert_trees_all_close(result[1], descended, atol=1e-5)


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.5, 1.0])
def test_the_ramp_is_the_formula_of_ganin_et_al(progress):
    expected = 2 / (1 + np.exp(-10 * progress)) - 1
    np.testing.assert_allclose(heads.ramp(progress), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(heads.ramp(progress), np.tanh(5 * progress), rtol=1e-6, atol=1e-7)


def test_a_ramp_scales_the_reversed_gradient_and_not_the_discriminator_s():
    part, ramp = heads.Adversary(groups=2, strength=0.3), heads.ramp(0.1)
    params = perturbed(part.init(jax.random.key(0), FEATURES, None, False, None)["params"])

    def loss(x, params, schedule):
        variables = {"params": params, "schedule": schedule}
        _, updates = part.apply(variables, x, GROUP, True, None, mutable="losses")
        return sum(jax.tree.leaves(updates["losses"])).sum()

    plain = jax.grad(loss, (0, 1))(FEATURES, params, {})
    ramped = jax.grad(loss, (0, 1))(FEATURES, params, {"ramp": ramp})
    np.testing.assert_allclose(ramped[0], ramp * plain[0], rtol=1e-5, atol=1e-9)
    assert abs(plain[0]).max() > 1e-4
    chex.assert_trees_all_close(ramped[1], plain[1])


def test_the_critic_s_gradient_reaches_the_network_through_the_predicted_mask():
    model, variables = network("attribute_head", strength=0.5)

    def auxiliary(params):
        _, updates = model.apply({"params": params}, IMAGE, train=True, group=GROUP, mutable="losses")
        return sum(jax.tree.leaves(updates["losses"]))

    def by_hand(params):
        plain, _ = network("none")
        logits = plain.apply({"params": {n: p for n, p in params.items() if n != "critic"}}, IMAGE)
        probability = jnp.exp(logits) / jnp.exp(logits).sum(-1, keepdims=True)
        group_logits = heads.GroupClassifier(2).apply(
            {"params": params["critic"]["GroupClassifier_0"]}, jnp.concatenate([IMAGE, probability], -1)
        )
        return 0.5 * heads.group_cross_entropy(group_logits, GROUP)

    @functools.partial(jax.jit, static_argnums=0)
    def with_gradient(function, params):
        losses, pull = jax.vjp(function, params)
        return losses, pull(jnp.ones(4))[0]

    losses, gradient = with_gradient(auxiliary, variables["params"])
    expected, other = with_gradient(by_hand, variables["params"])
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert losses[2] == 0 and losses.shape == (4,)
    chex.assert_trees_all_close(gradient, other, atol=1e-5)
    assert abs(gradient["encoder_0"]["Conv_0"]["kernel"]).max() > 1e-4


@pytest.mark.parametrize("head", LEARNING)
def test_outside_of_training_a_head_does_nothing(head):
    model, variables = network(head)
    plain, _ = network("none")
    shared = {"params": {n: p for n, p in variables["params"].items() if n not in ("bottleneck", "critic")}}
    logits, updates = model.apply(variables, IMAGE, group=GROUP, keys=KEYS, mutable="losses")
    np.testing.assert_array_equal(logits, plain.apply(shared, IMAGE))
    assert not jax.tree.leaves(updates)
    # Without groups it has no loss.
    _, updates = model.apply(variables, IMAGE, train=True, mutable="losses")
    assert not jax.tree.leaves(updates)


def test_a_head_has_a_loss_in_training_and_keeps_the_logits():
    plain, _ = network("none")
    for head in LEARNING:
        model, variables = network(head)
        shared = {n: p for n, p in variables["params"].items() if n not in ("bottleneck", "critic")}
        logits, updates = model.apply(variables, IMAGE, train=True, group=GROUP, mutable="losses")
        np.testing.assert_array_equal(logits, plain.apply({"params": shared}, IMAGE))
        (losses,) = jax.tree.leaves(updates)
        assert (losses[np.array([0, 1, 3])] > 0).all() and losses[2] == 0


def test_top_two_by_hand():
    gates = heads.top_two(jnp.array([[1.0, 4.0, 3.0, -2.0], [0.0, 0.0, 0.0, 0.0]]))
    e = np.exp(1)
    np.testing.assert_allclose(gates[0], [0, e / (1 + e), 1 / (1 + e), 0], rtol=1e-6)
    assert sorted(gates[1].tolist()) == [0, 0, 0.5, 0.5]  # a tie does not add a third expert
    np.testing.assert_array_equal(heads.top_two(jnp.array([[7.0]])), [[1.0]])


def experts(features=6, **fields):
    part = heads.GroupExperts(groups=2, experts=3, **fields)
    x = rng_normal(4, 2, 3, features)
    return part, perturbed(part.init(jax.random.key(0), x, None, False, None)["params"]), x


def test_experts_by_hand():
    """Top-2 gates of the group's router on the mean features; an unknown group has the mean of the routers."""
    part, params, x = experts()
    x, router, hidden = np.asarray(x), params["Dense_0"], params["Conv_0"]
    kernel, bias = np.asarray(router["kernel"]).reshape(6, 2, 3), np.asarray(router["bias"]).reshape(2, 3)
    expected = x.copy()
    for i, group in enumerate(GROUP.tolist()):
        mean = x[i].mean((0, 1))
        scores = np.stack([mean @ kernel[:, g] + bias[g] for g in range(2)])
        scores = scores[group] if group >= 0 else scores.mean(0)
        best = np.argsort(scores)[-2:]
        gates = np.exp(scores[best]) / np.exp(scores[best]).sum()
        for gate, expert in zip(gates, best, strict=True):
            channels = slice(3 * expert, 3 * expert + 3)
            up = np.maximum(x[i] @ hidden["kernel"][0, 0][:, channels] + hidden["bias"][channels], 0)
            expected[i] += gate * (up @ params["out"][expert])
    np.testing.assert_allclose(part.apply({"params": params}, x, GROUP, False, None), expected, atol=1e-5)
    # No group is the same as an unknown group.
    unknown = part.apply({"params": params}, x, jnp.full(4, -1), False, None)
    np.testing.assert_array_equal(part.apply({"params": params}, x, None, False, None), unknown)


def test_experts_are_residual_and_take_any_width():
    part, params, x = experts(features=5)
    silent = params | {"out": 0 * params["out"]}
    np.testing.assert_array_equal(part.apply({"params": silent}, x, GROUP, True, KEYS), x)
    assert abs(part.apply({"params": params}, x, GROUP, True, KEYS) - x).max() > 0.01


def test_another_group_s_router_has_no_effect():
    part, params, x = experts()
    router = params["Dense_0"]
    second_router = jnp.repeat(jnp.array([0.0, 1.0]), 3)  # routers lie side by side, three scores each
    changed = params | {
        "Dense_0": {"kernel": router["kernel"] + second_router, "bias": router["bias"] - 2 * second_router}
    }
    changed["Dense_0"]["bias"] = changed["Dense_0"]["bias"].at[3].add(9.0)
    before = part.apply({"params": params}, x, GROUP, False, None)
    after = part.apply({"params": changed}, x, GROUP, False, None)
    same = np.array([(a == b).all() for a, b in zip(before, after, strict=True)])
    assert same[0] and not same[[1, 3]].any()


def test_gate_noise_is_in_training_only_and_follows_the_example_s_key():
    """Gate noise must be off at test time."""
    part, params, x = experts(noise=3.0)

    def run(x, group, train, keys):
        return part.apply({"params": params}, x, group, train, keys)

    quiet = run(x, GROUP, False, None)
    np.testing.assert_array_equal(run(x, GROUP, False, KEYS), quiet)
    noisy = run(x, GROUP, True, KEYS)
    assert abs(noisy - quiet).max() > 0.01
    assert abs(noisy - run(x, GROUP, True, KEYS[::-1])).max() > 0.01
    order = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(run(x[order], GROUP[order], True, KEYS[order]), noisy[order], atol=1e-6)
    same_key = run(jnp.repeat(x[:1], 2, 0), GROUP[:1].repeat(2), True, KEYS[np.zeros(2, int)])
    np.testing.assert_allclose(same_key[0], same_key[1], atol=1e-6)


def test_the_network_passes_group_and_keys_to_its_experts():
    model, variables = network("moe")
    quiet = model.apply(variables, IMAGE, group=GROUP, keys=KEYS)
    np.testing.assert_array_equal(quiet, model.apply(variables, IMAGE, group=GROUP))
    assert (quiet != model.apply(variables, IMAGE, train=True, group=GROUP, keys=KEYS)).any()
    assert (quiet != model.apply(variables, IMAGE, group=1 - GROUP)).any()

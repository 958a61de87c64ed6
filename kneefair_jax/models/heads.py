"""Modules of a network that use the group: an attribute classifier, an adversary, and a mixture of experts.

A module with an auxiliary loss sows it, f32[B], into the collection "losses"; the training step adds its mean over the
examples of known group to the segmentation loss:

    logits, updates = model.apply(variables, image, train=True, group=group, mutable=["batch_stats", "losses"])
    auxiliary = sum(jax.tree.leaves(updates["losses"]))            # f32[B], 0 where the group is unknown

Outside of training the classifier and the adversary do nothing. The experts need the group at test time, too.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class GroupClassifier(nn.Module):
    """A classifier of the group: three strided convolutions, a mean over the image, and a linear layer.

    It has no normalization, because batch statistics would leak the groups of other examples.
    """

    groups: int
    features: int = 16

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """f32[B, H, W, C] -> logits f32[B, groups]."""
        for level in range(3):
            x = nn.relu(nn.Conv(self.features << level, (3, 3), strides=(2, 2))(x))
        return nn.Dense(self.groups)(x.mean((1, 2)))


class AttributeHead(nn.Module):
    """A critic: L_seg + strength CE(C([x, p]), a), a classifier on image and predicted mask, trained jointly.

    "Fair meta-learning for segmentation" of Puyol-Antón et al. (MICCAI 2021). p are the class probabilities, so the
    gradient reaches the network through them. We could not verify the paper's strength: sweep it.
    """

    groups: int
    strength: float = 0.1

    @nn.compact
    def __call__(self, image: jax.Array, logits: jax.Array, group: jax.Array | None, train: bool) -> None:
        """Image f32[B, H, W, C], logits f32[B, H, W, K], group i32[B]."""
        if train or self.is_initializing():
            x = jnp.concatenate([image.astype(logits.dtype), jax.nn.softmax(logits)], axis=-1)
            group_logits = GroupClassifier(self.groups)(x)
            if group is not None:
                self.sow("losses", "attribute", self.strength * group_cross_entropy(group_logits, group))


class Adversary(nn.Module):
    """A bottleneck that removes the group from the features by gradient reversal (Ganin and Lempitsky, ICML 2015).

    The discriminator D descends CE(D(f), a); through the reversal the network descends L_seg - strength CE(D(f), a).
    The features pass unchanged. The strength is constant, unless the caller gives the variable `ramp` of the collection
    "schedule" as its factor: the reference increases it over the training by `ramp` (`mitigation.head.ramp`).
    """

    groups: int
    strength: float = 0.1

    @nn.compact
    def __call__(
        self, x: jax.Array, group: jax.Array | None, train: bool, keys: jax.Array | None
    ) -> jax.Array:
        """Features f[B, H, W, C] -> the same."""
        del keys
        if train or self.is_initializing():
            strength = self.strength * self.get_variable("schedule", "ramp", 1.0)
            reversed_features = reverse_gradient(x.astype(jnp.float32), strength)
            group_logits = nn.Dense(self.groups)(nn.relu(nn.Dense(64)(reversed_features.mean((1, 2)))))
            if group is not None:
                self.sow("losses", "adversary", group_cross_entropy(group_logits, group))
        return x


class GroupExperts(nn.Module):
    """A residual top-2 mixture of experts with one router per group: x + sum_e gate_e(x, a) expert_e(x).

    Reference: dMoE (distribution-aware mixture of experts, ICML 2025); the form at a convolutional bottleneck is this
    project's. The
    router of the example's group turns its mean features into scores; in training, normal noise is added to them; the
    two highest are made to sum to 1 by a softmax. An example of unknown group has the mean of all routers.

    No loss balances the experts' load, as those of Shazeer et al. (ICLR 2017) do: some experts may get no example.

    The group is needed at test time: a model that uses it may be unlawful where sex or race must not decide.
    """

    groups: int
    experts: int = 4
    noise: float = 1.0

    @nn.compact
    def __call__(
        self, x: jax.Array, group: jax.Array | None, train: bool, keys: jax.Array | None
    ) -> jax.Array:
        """Features f[B, H, W, C] -> f[B, H, W, C]; `train` and `keys`, a key for each example, add noise."""
        batch, features = x.shape[0], x.shape[-1]
        half = max(features // 2, 1)
        if group is None:
            group = jnp.full(batch, -1)
        scores = nn.Dense(self.groups * self.experts, dtype=jnp.float32)(x.mean((1, 2)).astype(jnp.float32))
        scores = scores.reshape(batch, self.groups, self.experts)
        member = jax.nn.one_hot(group, self.groups) + (group < 0)[:, None] / self.groups
        scores = jnp.einsum("bg,bge->be", member, scores, precision="highest")
        if train and keys is not None:
            scores += self.noise * jax.vmap(lambda key: jax.random.normal(key, (self.experts,)))(keys)
        gates = top_two(scores).astype(x.dtype)
        # All experts see all examples: at a bottleneck that is cheap, and shapes stay fixed.
        hidden = nn.relu(nn.Conv(self.experts * half, (1, 1), dtype=x.dtype)(x))
        hidden = hidden.reshape(*x.shape[:3], self.experts, half)
        out = self.param(
            "out", nn.initializers.variance_scaling(0.1, "fan_in", "normal", in_axis=1, out_axis=2, batch_axis=0),
            (self.experts, half, features),
        )  # fmt: skip
        return x + jnp.einsum("bhwed,edf,be->bhwf", hidden, out.astype(x.dtype), gates)


def group_cross_entropy(logits: jax.Array, group: jax.Array) -> jax.Array:
    """Cross-entropy of group logits f32[B, G] and groups i32[B] -> f32[B]; 0 where the group is unknown (-1)."""
    return -(jax.nn.log_softmax(logits) * jax.nn.one_hot(group, logits.shape[-1])).sum(-1)


def top_two(scores: jax.Array) -> jax.Array:
    """Return the softmax over the two highest of f32[..., E], 0 for the rest; over all with fewer than two experts."""
    experts = scores.shape[-1]
    # By index, not by value: a tie must not add a third expert.
    is_top = jax.nn.one_hot(jax.lax.top_k(scores, min(2, experts))[1], experts).sum(-2)
    return jax.nn.softmax(jnp.where(is_top > 0, scores, -jnp.inf))


@jax.custom_vjp
def reverse_gradient(x: jax.Array, strength: float | jax.Array) -> jax.Array:
    """Return x; its gradient is multiplied by -strength."""
    del strength
    return x


def _forward(x: jax.Array, strength: float | jax.Array) -> tuple[jax.Array, float | jax.Array]:
    return x, strength


def _backward(strength: float | jax.Array, gradient: jax.Array) -> tuple[jax.Array, None]:
    return -strength * gradient, None


reverse_gradient.defvjp(_forward, _backward)


def ramp(progress: float | jax.Array) -> jax.Array:
    """Return 2 / (1 + exp(-10 p)) - 1, by which the strength of gradient reversal rises from 0 to nearly 1.

    The discriminator then learns before the features respond to it.

    Reference: Ganin et al., Domain-adversarial training of neural networks, JMLR 17, 2016.

    Args:
        progress: p in [0, 1], the share of the steps already taken.
    """
    return 2 / (1 + jnp.exp(-10 * jnp.asarray(progress, jnp.float32))) - 1


# Name -> the optional modules of the network, given the number of groups and the strength.
HEADS: dict[str, Callable[[int, float], dict[str, Any]]] = {
    "none": lambda groups, strength: {},
    "attribute_head": lambda groups, strength: {"critic": AttributeHead(groups, strength)},
    "adversarial": lambda groups, strength: {"bottleneck": Adversary(groups, strength)},
    "moe": lambda groups, strength: {"bottleneck": GroupExperts(groups)},
}

"""The whole variation of a batch, one example at a time."""

import jax

from kneefair_jax.data.augment import cover, geometry, intensity
from kneefair_jax.data.augment.strength import Augmentation


def augment(
    key: jax.Array,
    image: jax.Array,
    label: jax.Array,
    position: jax.Array,
    *,
    strength: Augmentation,
    flip_table: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Varies each example of a batch by its own random draw.

    Args:
        key: of this step.
        image: f32[B, H, W, C] in [0, 1].
        label: i32[B, H, W].
        position: i32[B], each example's position in the global batch.
        strength: of the variation; static.
        flip_table: i32[S + 1], the label that each label becomes on a flip (`anatomy.flip_table`).

    Returns:
        image f32[B, H, W, C] and label i32[B, H, W]; what a warp brings in from outside repeats the border in both: a
        shaft that leaves the picture goes on.
    """
    if strength == Augmentation():
        return image, label
    keys = jax.vmap(lambda p: jax.random.fold_in(key, p))(position)

    def one(key: jax.Array, image: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        # In the order of the world: the patient lies somehow, is exposed, lettered and cut out; then film is inverted.
        image, label = geometry.vary(jax.random.fold_in(key, 0), image, label, strength, flip_table)
        image = intensity.vary(jax.random.fold_in(key, 1), image, strength)
        image, label = cover.vary(jax.random.fold_in(key, 2), image, label, strength)
        return intensity.invert(jax.random.fold_in(key, 3), image, strength.invert), label

    return jax.vmap(one)(keys, image, label)

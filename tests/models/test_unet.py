import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kneefair_jax import models
from kneefair_jax.errors import InputError
from kneefair_jax.models import registry

TINY = {"name": "unet", "widths": (4, 8), "convolutions": 1, "norm": "batch", "dtype": "float32"}


def variables_of(model, shape=(1, 8, 8, 1)):
    return jax.jit(model.init)(jax.random.key(0), jnp.zeros(shape))


@settings(max_examples=20, deadline=None)
@given(height=st.integers(3, 21), width=st.integers(3, 21), channels=st.integers(1, 3))
def test_any_size_and_any_channels(height, width, channels):
    model = models.UNet(classes=3, widths=(2, 4, 8), convolutions=1, norm="group")
    image = jnp.ones((2, height, width, channels))
    logits, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
    chex.assert_shape(logits, (2, height, width, 3))
    chex.assert_type(logits, jnp.float32)


def test_padding_is_cropped():
    """A padded image gives the logits of the same image padded by hand."""
    model = models.UNet(classes=2, widths=(2, 4, 8), convolutions=1, norm="group")
    image = jax.random.normal(jax.random.key(1), (1, 8, 8, 1))
    variables = variables_of(model)
    edge = jnp.pad(image[:, :7, :6], ((0, 0), (0, 1), (0, 2), (0, 0)), mode="edge")
    np.testing.assert_allclose(
        model.apply(variables, image[:, :7, :6]), model.apply(variables, edge)[:, :7, :6], atol=1e-6
    )


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_norms_and_types(norm, dtype):
    model = models.create({**TINY, "norm": norm, "dtype": dtype}, classes=2)
    image = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
    variables = variables_of(model)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    logits, updates = model.apply(variables, image, train=True, mutable=["batch_stats"])
    chex.assert_type(logits, jnp.float32)
    chex.assert_tree_all_finite(logits)
    assert bool(updates.get("batch_stats")) == (norm == "batch")


def test_apply_is_pure_and_statistics_move_only_in_training():
    model = models.create(TINY, classes=2)
    image = jax.random.normal(jax.random.key(1), (2, 8, 8, 1)) + 3
    variables = variables_of(model)
    before = jax.tree.map(jnp.copy, variables)
    chex.assert_trees_all_equal(model.apply(variables, image), model.apply(variables, image))
    _, updates = model.apply(variables, image, train=True, mutable=["batch_stats"])
    chex.assert_trees_all_equal(before, variables)
    after = jax.tree.leaves(updates["batch_stats"])
    assert any((a != b).any() for a, b in zip(after, jax.tree.leaves(before["batch_stats"]), strict=True))


def test_logits_of_one_case_do_not_depend_on_the_batch():
    model = models.create(TINY, classes=2)
    image = jax.random.normal(jax.random.key(1), (3, 8, 8, 1))
    variables = variables_of(model)
    np.testing.assert_allclose(
        model.apply(variables, image)[:1], model.apply(variables, image[:1]), rtol=1e-5, atol=1e-6
    )


def test_the_depth_is_the_number_of_widths():
    model = models.UNet(classes=2, widths=(2, 4, 8, 16))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
    names = set(shapes["params"])
    assert {f"encoder_{i}" for i in range(4)} | {f"decoder_{i}" for i in range(3)} <= names


def test_count_by_hand():
    # One level: 3 x 3 x 1 x 4 kernel, scale and bias of the norm; head 4 x 2 + 2.
    model = models.UNet(classes=2, widths=(4,), convolutions=1)
    assert models.count(variables_of(model)["params"]) == 36 + 8 + 10


def test_unknown_names_are_refused():
    with pytest.raises(
        InputError, match=r"model.name='vnet': give one of resnet18_unet, resnet34_unet, unet"
    ):
        models.create({**TINY, "name": "vnet"}, classes=2)
    with pytest.raises(InputError, match=r"config.model.depht: .* widths, convolutions, norm, dtype"):
        models.create({**TINY, "depht": 3}, classes=2)
    with pytest.raises(InputError, match=r"weights='a.safetensors': unet .* resnet18_unet, resnet34_unet"):
        models.create({**TINY, "weights": "a.safetensors"}, classes=2)
    with pytest.raises(InputError, match="model.norm"):
        variables_of(models.create({**TINY, "norm": "layer"}, classes=2))


def test_memory_estimates_by_hand():
    """One level, one convolution of 2 channels, 2 classes: conv, norm, block, head and network, f32 of 8 x 8 x 2."""
    model = models.create({"name": "unet", "widths": (2,), "convolutions": 1, "norm": "group"}, classes=2)
    activation = 8 * 8 * 2 * 4
    assert registry.inference_bytes(model, (8, 8, 1)) == 5 * activation
    # Convolution, GroupNorm and the module around it, block, deepest, head, network.
    assert registry.training_bytes(model, (8, 8, 1)) == 7 * activation * 9 // 10
    assert registry.training_bytes(model, (16, 16, 1)) == 4 * 7 * activation * 9 // 10

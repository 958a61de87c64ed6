import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kneefair_jax import models
from kneefair_jax.models import blocks


def test_mean_zero_variance_one_for_each_image():
    image = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 1)).astype(np.uint8)
    result = np.asarray(models.standardize(image))
    np.testing.assert_allclose(result.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(result.std((1, 2, 3)), 1, atol=0.02)


def test_u8_and_unit_floats_agree_and_exposure_does_not_matter():
    image = np.random.default_rng(0).integers(0, 100, (1, 8, 8, 1)).astype(np.uint8)
    scaled = image.astype(np.float32) / 255
    np.testing.assert_allclose(models.standardize(image), models.standardize(scaled), atol=1e-5)
    np.testing.assert_allclose(models.standardize(image), models.standardize(2 * scaled + 0.1), atol=0.02)


def test_a_blank_image_is_finite():
    assert np.isfinite(np.asarray(models.standardize(np.full((1, 4, 4, 1), 7, np.uint8)))).all()


def test_downsample_equals_max_pool_and_its_gradient_where_nothing_ties():
    x = jax.random.normal(jax.random.key(0), (2, 6, 8, 3))
    pool = lambda x: nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
    np.testing.assert_array_equal(blocks.downsample(x), pool(x))
    weight = jax.random.normal(jax.random.key(1), (2, 3, 4, 3))
    gradient = lambda f: jax.grad(lambda x: (f(x) * weight).sum())(x)
    np.testing.assert_allclose(gradient(blocks.downsample), gradient(pool), rtol=1e-6)


def test_a_tie_s_gradient_goes_to_the_first():
    x = jnp.ones((1, 2, 2, 1))
    gradient = jax.grad(lambda x: 3 * blocks.downsample(x).sum())(x)
    np.testing.assert_array_equal(gradient[0, ..., 0], [[3, 0], [0, 0]])


def test_pooling_of_recomputed_inputs_keeps_its_gradient():
    """If the recomputed input is rounded differently, no input equals the maximum; the gradient was then 0 / 0."""
    x = jax.random.normal(jax.random.key(0), (8, 16, 16, 1))
    model = models.UNet(classes=3, widths=(2, 4))
    variables = model.init(jax.random.key(1), x)
    params = jax.tree.map(
        lambda p: p + 0.02 * jax.random.normal(jax.random.key(2), p.shape), variables["params"]
    )

    def loss(params):
        logits, updates = model.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
        return ((logits - 1) ** 2).mean(), updates

    gradient = jax.grad(loss, has_aux=True)
    compiled = jax.jit(gradient).lower(params).compile({"xla_backend_optimization_level": 0})
    chex.assert_trees_all_close(compiled(params)[0], gradient(params)[0], rtol=1e-3, atol=1e-5)


def test_no_select_and_scatter_and_no_transposed_convolution():
    """Both are slow on CPU and TPU."""
    block = blocks.Upsample(4, jnp.float32)
    x = jnp.ones((1, 4, 4, 2))
    variables = block.init(jax.random.key(0), x)

    def f(v, x):
        return block.apply(v, blocks.downsample(x)).sum()

    text = jax.jit(jax.grad(f, argnums=(0, 1))).lower(variables, x).as_text()
    assert "select_and_scatter" not in text
    assert "convolution" not in text


def test_upsample_is_a_transposed_convolution_of_two_by_two():
    block = blocks.Upsample(3, jnp.float32)
    x = jax.random.normal(jax.random.key(0), (2, 4, 5, 6))
    variables = block.init(jax.random.key(1), x)
    kernel = variables["params"]["Dense_0"]["kernel"].reshape(6, 2, 2, 3)
    kernel = kernel.transpose(1, 2, 0, 3)
    expected = jax.lax.conv_transpose(
        x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), transpose_kernel=False
    )
    flipped = jax.lax.conv_transpose(
        x, kernel[::-1, ::-1], (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    result = np.asarray(block.apply(variables, x))
    assert min(np.abs(result - expected).max(), np.abs(result - flipped).max()) < 1e-5


def test_statistics_of_bfloat16_are_taken_in_float32():
    """The mean of 1 and the next bfloat16 is not a bfloat16."""
    x = jnp.array([1.0, 1.0078125], jnp.bfloat16).reshape(2, 1, 1, 1)
    layer = blocks.Normalization("batch")
    variables = layer.init(jax.random.key(0), x, True)
    _, updates = layer.apply(variables, x, True, mutable=["batch_stats"])
    mean = updates["batch_stats"]["BatchNorm_0"]["mean"]
    assert mean.dtype == jnp.float32
    np.testing.assert_allclose(mean, [(1 - blocks.BATCH_NORM_MOMENTUM) * 1.00390625], rtol=1e-6)


@pytest.mark.parametrize("name", ["resnet18_unet", "unet"])
def test_rematerialized_networks_have_the_same_variables_and_store_less(name):
    image = jnp.ones((1, 32, 32, 1))
    fields = {"name": name, "widths": (2, 2, 2, 2, 2), "convolutions": 1}
    stored, recomputed = (models.create(fields | {"remat": remat}, classes=3) for remat in (False, True))
    variables, same = (jax.eval_shape(m.init, jax.random.key(0), image) for m in (stored, recomputed))
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, same)
    for model, count in ((stored, 0), (recomputed, 13 if name != "unet" else 9)):
        apply = functools.partial(model.apply, train=True, mutable=["batch_stats"])
        jaxpr = jax.make_jaxpr(apply)(variables, image)
        assert sum(equation.primitive.name.startswith("remat") for equation in jaxpr.eqns) == count


def test_the_gradient_of_a_rematerialized_block_is_the_same():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 2))
    results = {}
    for remat in (False, True):
        block = blocks.rematerialize(blocks.ConvBlock, remat)(3, 2, "batch", jnp.float32, name="b")
        variables = block.init(jax.random.key(0), x, True)

        def loss(params, block=block, variables=variables):
            y, updates = block.apply(variables | {"params": params}, x, True, mutable=["batch_stats"])
            return (y**2).sum(), updates

        results[remat] = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    chex.assert_trees_all_close(results[False], results[True], rtol=1e-5, atol=1e-6)

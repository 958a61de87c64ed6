import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kneefair_jax import models
from kneefair_jax.models import blocks


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


def test_pooling_what_the_compiler_computes_twice_keeps_its_gradient():
    """Rounded otherwise the second time, no input equals the maximum; that gradient was 0 / 0."""
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
    """What is slow on CPU and TPU must not come back unseen."""
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
    """1 and the bfloat16 after it: their mean is no bfloat16."""
    x = jnp.array([1.0, 1.0078125], jnp.bfloat16).reshape(2, 1, 1, 1)
    layer = blocks.Normalisation("batch")
    variables = layer.init(jax.random.key(0), x, True)
    _, moved = layer.apply(variables, x, True, mutable=["batch_stats"])
    mean = moved["batch_stats"]["BatchNorm_0"]["mean"]
    assert mean.dtype == jnp.float32
    np.testing.assert_allclose(mean, [(1 - blocks.BATCH_NORM_MOMENTUM) * 1.00390625], rtol=1e-6)


@pytest.mark.parametrize("name", ["resnet18_unet", "unet"])
def test_rematerialised_networks_have_the_same_variables_and_keep_less(name):
    image = jnp.ones((1, 32, 32, 1))
    fields = {"name": name, "widths": (2, 2, 2, 2, 2), "convolutions": 1}
    kept, again = (models.create(fields | {"remat": remat}, classes=3) for remat in (False, True))
    variables, same = (jax.eval_shape(m.init, jax.random.key(0), image) for m in (kept, again))
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, same)
    for model, count in ((kept, 0), (again, 13 if name != "unet" else 9)):
        apply = functools.partial(model.apply, train=True, mutable=["batch_stats"])
        made = jax.make_jaxpr(apply)(variables, image)
        assert sum(equation.primitive.name.startswith("remat") for equation in made.eqns) == count


def test_the_gradient_of_a_rematerialised_block_is_the_same():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 2))
    results = {}
    for remat in (False, True):
        block = blocks.rematerialised(blocks.ConvBlock, remat)(3, 2, "batch", jnp.float32, name="b")
        variables = block.init(jax.random.key(0), x, True)

        def loss(params, block=block, variables=variables):
            y, moved = block.apply(variables | {"params": params}, x, True, mutable=["batch_stats"])
            return (y**2).sum(), moved

        results[remat] = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    chex.assert_trees_all_close(results[False], results[True], rtol=1e-5, atol=1e-6)

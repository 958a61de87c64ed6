import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kneefair_jax.models import blocks


def test_downsample_equals_max_pool_and_its_gradient_where_nothing_ties():
    x = jax.random.normal(jax.random.key(0), (2, 6, 8, 3))
    pool = lambda x: nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
    np.testing.assert_array_equal(blocks.downsample(x), pool(x))
    weight = jax.random.normal(jax.random.key(1), (2, 3, 4, 3))
    gradient = lambda f: jax.grad(lambda x: (f(x) * weight).sum())(x)
    np.testing.assert_allclose(gradient(blocks.downsample), gradient(pool), rtol=1e-6)


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

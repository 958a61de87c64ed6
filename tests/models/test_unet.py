import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kneefair_jax import models
from kneefair_jax.errors import InputError
from kneefair_jax.models import registry, unet

TINY = {"name": "unet", "widths": (4, 8), "convolutions": 1, "norm": "batch", "dtype": "float32"}


def variables_of(model, shape=(1, 8, 8, 1)):
    return jax.jit(model.init)(jax.random.key(0), jnp.zeros(shape))


@settings(max_examples=20)
@given(
    height=st.integers(3, 21),
    width=st.integers(3, 21),
    channels=st.integers(1, 3),
    stem=st.sampled_from(list(models.STEMS)),
)
def test_any_size_and_any_channels(height, width, channels, stem):
    model = models.UNet(classes=3, widths=(2, 4, 8), convolutions=1, norm="group", stem=stem)
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


def test_patches_by_hand():
    # Pixels 0 to 15 row by row; the first patch of 2 x 2 is 0, 1, 4, 5.
    image = jnp.arange(16).reshape(1, 4, 4, 1)
    expected = [[[0, 1, 4, 5], [2, 3, 6, 7]], [[8, 9, 12, 13], [10, 11, 14, 15]]]
    np.testing.assert_array_equal(unet.patches(image, 2)[0], expected)
    np.testing.assert_array_equal(unet.patches(image, 1), image)


def test_patches_keep_channels_of_a_pixel_together():
    image = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
    result = unet.patches(image, 2).reshape(2, 2, 3, 2, 2, 3)
    for row, column in np.ndindex(4, 6):
        np.testing.assert_array_equal(
            result[:, row // 2, column // 2, row % 2, column % 2], image[:, row, column]
        )


def test_the_network_of_patches_works_at_half_the_resolution_and_returns_to_the_whole():
    model = models.UNet(classes=3, widths=(4, 8), convolutions=1, stem="patch2")
    image = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
    variables = variables_of(model)
    logits, outputs = model.apply(variables, image, capture_intermediates=True, mutable=["intermediates"])
    outputs = outputs["intermediates"]
    chex.assert_shape(outputs["encoder_0"]["__call__"][0], (2, 4, 4, 4))
    chex.assert_shape(outputs["decoder_0"]["__call__"][0], (2, 4, 4, 4))
    chex.assert_shape(outputs["up_stem"]["__call__"][0], (2, 8, 8, 4))
    chex.assert_shape(logits, (2, 8, 8, 3))
    # Pixels of one patch have logits of their own.
    assert np.ptp(np.asarray(logits[0, :2, :2, 0])) > 1e-4


def test_unknown_names_are_refused():
    with pytest.raises(
        InputError, match=r"model.name='vnet': give one of resnet18_unet, resnet34_unet, unet"
    ):
        models.create({**TINY, "name": "vnet"}, classes=2)
    with pytest.raises(InputError, match=r"config.model.depht: .* widths, convolutions, norm, dtype"):
        models.create({**TINY, "depht": 3}, classes=2)
    with pytest.raises(InputError, match=r"weights='a.safetensors': unet .* resnet18_unet, resnet34_unet"):
        models.create({**TINY, "weights": "a.safetensors"}, classes=2)
    with pytest.raises(InputError, match=r"model.stem='patch3': give one of patch2, pixel"):
        variables_of(models.create({**TINY, "stem": "patch3"}, classes=2))
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
    np.testing.assert_array_equal(unet.downsample(x), pool(x))
    weight = jax.random.normal(jax.random.key(1), (2, 3, 4, 3))
    gradient = lambda f: jax.grad(lambda x: (f(x) * weight).sum())(x)
    np.testing.assert_allclose(gradient(unet.downsample), gradient(pool), rtol=1e-6)


def test_a_tie_s_gradient_goes_to_the_first():
    x = jnp.ones((1, 2, 2, 1))
    gradient = jax.grad(lambda x: 3 * unet.downsample(x).sum())(x)
    np.testing.assert_array_equal(gradient[0, ..., 0], [[3, 0], [0, 0]])


@pytest.mark.slow
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
    block = unet.Upsample(4, jnp.float32)
    x = jnp.ones((1, 4, 4, 2))
    variables = block.init(jax.random.key(0), x)

    def f(v, x):
        return block.apply(v, unet.downsample(x)).sum()

    text = jax.jit(jax.grad(f, argnums=(0, 1))).lower(variables, x).as_text()
    assert "select_and_scatter" not in text
    assert "convolution" not in text


def test_upsample_is_a_transposed_convolution_of_two_by_two():
    block = unet.Upsample(3, jnp.float32)
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
    layer = unet.Normalization("batch")
    variables = layer.init(jax.random.key(0), x, True)
    _, updates = layer.apply(variables, x, True, mutable=["batch_stats"])
    mean = updates["batch_stats"]["BatchNorm_0"]["mean"]
    assert mean.dtype == jnp.float32
    np.testing.assert_allclose(mean, [(1 - unet.BATCH_NORM_MOMENTUM) * 1.00390625], rtol=1e-6)


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
        block = unet.rematerialize(unet.ConvBlock, remat)(3, 2, "batch", jnp.float32, name="b")
        variables = block.init(jax.random.key(0), x, True)

        def loss(params, block=block, variables=variables):
            y, updates = block.apply(variables | {"params": params}, x, True, mutable=["batch_stats"])
            return (y**2).sum(), updates

        results[remat] = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    chex.assert_trees_all_close(results[False], results[True], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("train", [True, False])
def test_batch_normalization_is_that_of_flax(train, dtype):
    """Values, gradients and running statistics, from the same variables."""
    x = (2 * jax.random.normal(jax.random.key(0), (3, 4, 5, 6)) + 1).astype(dtype)
    variables = {
        "params": {"scale": jnp.linspace(0.5, 2, 6), "bias": jnp.linspace(-1, 1, 6)},
        "batch_stats": {"mean": jnp.linspace(0, 1, 6), "var": jnp.linspace(1, 2, 6)},
    }
    flax_layer = nn.BatchNorm(use_running_average=not train, momentum=unet.BATCH_NORM_MOMENTUM, dtype=dtype)

    def outputs(layer, *arguments):
        def loss(params, x):
            y, updates = layer.apply({**variables, "params": params}, x, *arguments, mutable=["batch_stats"])
            return jnp.sum(jnp.sin(y.astype(jnp.float32))), (y, updates["batch_stats"])

        gradients, (y, statistics) = jax.grad(loss, argnums=(0, 1), has_aux=True)(variables["params"], x)
        assert y.dtype == dtype
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), (gradients, y, statistics))

    tolerance = 1e-5 if dtype == jnp.float32 else 0.05
    chex.assert_trees_all_close(
        outputs(unet.BatchNorm(), train), outputs(flax_layer), atol=tolerance, rtol=tolerance
    )
    init = jax.tree.map(jnp.shape, unet.BatchNorm().init(jax.random.key(0), x, train))
    assert init == jax.tree.map(jnp.shape, flax_layer.init(jax.random.key(0), x))

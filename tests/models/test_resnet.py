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
from kneefair_jax.models import resnet

CONFIG = {"widths": (16, 32, 64, 128, 256), "convolutions": 2, "norm": "batch", "dtype": "float32"}
SMALL = resnet.ResNetUNet(classes=3, blocks=(1, 1, 1, 1), widths=(2, 4, 4, 4, 8), convolutions=1)


def shapes(model, shape=(1, 32, 32, 1)):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))


@pytest.fixture(scope="module")
def variables():
    """Variables drawn by numpy, because compiling `init` takes longer than all other tests here."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        return rng.normal(0, np.sqrt(2 / np.prod(leaf.shape[:-1])), leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes(SMALL))


# Without its classifier, torchvision's resnet18 has 11,689,512 - 513,000 and resnet34 21,797,672 - 513,000
# parameters; segmentation_models_pytorch's Unet of one class has 14,328,209 and 24,436,369.
@pytest.mark.parametrize(
    ("name", "encoder", "network"),
    [("resnet18_unet", 11_176_512, 14_328_209), ("resnet34_unet", 21_284_672, 24_436_369)],
)
def test_as_many_parameters_as_published(name, encoder, network):
    model = models.create({"name": name, **CONFIG, "weights": "a.safetensors"}, classes=1)
    color = shapes(model, (1, 32, 32, 3))["params"]
    assert models.count(color["encoder"]) == encoder
    assert models.count(color) == network
    assert models.count(shapes(model)["params"]["encoder"]) == encoder - 2 * 49 * 64


@settings(max_examples=10)
@given(height=st.integers(1, 70), width=st.integers(1, 70), channels=st.integers(1, 3))
def test_any_size_and_any_channels(height, width, channels):
    image = jnp.ones((2, height, width, channels))
    logits, _ = jax.eval_shape(SMALL.init_with_output, jax.random.key(0), image)
    chex.assert_shape(logits, (2, height, width, 3))
    chex.assert_type(logits, jnp.float32)


def test_the_encoder_halves_five_times_and_rounds_up():
    encoder = resnet.ResNetEncoder(resnet.RESNET34)
    features, _ = jax.eval_shape(encoder.init_with_output, jax.random.key(0), jnp.zeros((1, 97, 66, 1)))
    expected = [(1, 49, 33, 64), (1, 25, 17, 64), (1, 13, 9, 128), (1, 7, 5, 256), (1, 4, 3, 512)]
    assert [map_.shape for map_ in features] == expected


def test_kernels_have_he_s_initialization_by_fan_out():
    block = resnet.BasicBlock(128, 2, jnp.float32)
    params = jax.jit(block.init, static_argnums=2)(jax.random.key(0), jnp.zeros((1, 2, 2, 64)), True)[
        "params"
    ]
    assert np.std(params["conv1"]["kernel"]) == pytest.approx(np.sqrt(2 / (9 * 128)), rel=0.02)
    assert np.std(params["downsample_0"]["kernel"]) == pytest.approx(np.sqrt(2 / 128), rel=0.02)


def test_padding_is_cropped(variables):
    image = jax.random.normal(jax.random.key(1), (1, 30, 27, 1))
    edge = jnp.pad(image, ((0, 0), (0, 2), (0, 5), (0, 0)), mode="edge")
    apply = jax.jit(SMALL.apply)
    np.testing.assert_allclose(apply(variables, image), apply(variables, edge)[:, :30, :27], atol=1e-5)


@pytest.fixture(scope="module")
def stepped(variables):
    """Gradients and new statistics on two shards, whose images differ in contrast; shared by two tests."""
    model = SMALL.clone(axis_name="data")

    def loss(params, image):
        inputs = {**variables, "params": params}
        logits, updates = model.apply(inputs, image, train=True, mutable=["batch_stats"])
        return jnp.square(logits - 1).mean(), updates["batch_stats"]

    image = jax.random.normal(jax.random.key(1), (2, 2, 32, 32, 1)) * jnp.array([1, 2]).reshape(2, 1, 1, 1, 1)
    step = jax.vmap(jax.grad(loss, has_aux=True), in_axes=(None, 0), axis_name="data")
    return jax.jit(step)(variables["params"], image)


@pytest.mark.slow
def test_every_parameter_has_a_gradient(stepped):
    for path, leaf in jax.tree_util.tree_leaves_with_path(stepped[0]):
        assert np.isfinite(leaf).all() and np.any(leaf), jax.tree_util.keystr(path)


def test_every_statistic_is_pooled_over_the_axis_and_moves(stepped, variables):
    old = jax.tree.leaves(variables["batch_stats"])
    new = jax.tree_util.tree_leaves_with_path(stepped[1])
    for (path, (first, second)), before in zip(new, old, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, err_msg=jax.tree_util.keystr(path))
        assert (first != before).all()


def test_computes_in_bfloat16_and_keeps_float32():
    model = models.create({"name": "resnet18_unet", **CONFIG, "dtype": "bfloat16"}, classes=2)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((1, 32, 32, 1)))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    chex.assert_type(logits, jnp.float32)
    encoder = resnet.ResNetEncoder(dtype=jnp.bfloat16)
    features, _ = jax.eval_shape(encoder.init_with_output, jax.random.key(0), jnp.zeros((1, 32, 32, 1)))
    chex.assert_type(features, jnp.bfloat16)


def test_max_pool_and_its_gradient_equal_flax_s_without_ties():
    x = jax.random.uniform(jax.random.key(0), (2, 7, 10, 3))
    weight = jax.random.normal(jax.random.key(1), (2, 4, 5, 3))

    def pool(x):
        return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))

    np.testing.assert_array_equal(resnet.max_pool(x), pool(x))
    gradient, expected = (jax.grad(lambda x, f=f: (f(x) * weight).sum())(x) for f in (resnet.max_pool, pool))
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_enlarge():
    x = jnp.arange(4.0).reshape(1, 2, 2, 1)
    expected = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    np.testing.assert_array_equal(resnet.enlarge(x)[0, :, :, 0], expected)


class Shift(nn.Module):
    """A bottleneck that adds a learned shift, by group."""

    @nn.compact
    def __call__(self, x, group, train, keys):
        assert x.shape[1:] == (1, 2, 512) and keys == "keys" and train
        return x + self.param("shift", nn.initializers.ones, (2,))[group][:, None, None, None]


class Critic(nn.Module):
    """Sows the shapes of its inputs."""

    @nn.compact
    def __call__(self, image, logits, group, train):
        self.sow("seen", "shapes", (image.shape, logits.shape, group.shape, train))


def test_a_bottleneck_and_a_critic_get_the_groups():
    model = SMALL.clone(bottleneck=Shift(), critic=Critic())
    group = jnp.array([0, 1])
    image = jnp.zeros((2, 30, 40, 1))
    sown = []

    def init():
        variables = model.init(jax.random.key(0), image, True, group, "keys")
        sown.append(variables.pop("seen"))
        return variables

    variables = jax.eval_shape(init)
    assert variables["params"]["bottleneck"]["shift"].shape == (2,)
    assert sown[0]["critic"]["shapes"] == (((2, 30, 40, 1), (2, 30, 40, 3), (2,), True),)


def test_invalid_fields_of_a_resnet_are_refused():
    with pytest.raises(InputError, match=r"config.model.widths=\(8, 16\): give five"):
        shapes(models.create({"name": "resnet18_unet", **CONFIG, "widths": [8, 16]}, classes=2))
    with pytest.raises(InputError, match=r"config.model.norm='group': give batch"):
        shapes(models.create({"name": "resnet34_unet", **CONFIG, "norm": "group"}, classes=2))
    with pytest.raises(InputError, match=r"config.model.stem='patch2': give pixel"):
        shapes(models.create({"name": "resnet18_unet", **CONFIG, "stem": "patch2"}, classes=2))

import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from kneefair_jax import models
from kneefair_jax.errors import InputError
from kneefair_jax.weights import warm_start

BLOCKS = (1, 1, 1, 1)
MODEL = models.ResNetUNet(classes=2, blocks=BLOCKS, widths=(2, 2, 2, 2, 2), convolutions=1)


def state_dict(blocks=BLOCKS):
    """A state dict with torchvision's names and shapes, with statistics far from 0 and 1."""
    rng = np.random.default_rng(0)
    tensors = {}

    def conv(name, *shape):
        scale = np.sqrt(2 / np.prod(shape[1:]))
        tensors[f"{name}.weight"] = rng.normal(0, scale, shape).astype(np.float32)

    def norm(name, size):
        for leaf, low, high in (
            ("weight", 0.5, 1.5),
            ("bias", -0.3, 0.3),
            ("running_mean", -0.5, 0.5),
            ("running_var", 0.5, 2),
        ):
            tensors[f"{name}.{leaf}"] = rng.uniform(low, high, size).astype(np.float32)
        tensors[f"{name}.num_batches_tracked"] = np.array(7)

    conv("conv1", 64, 3, 7, 7)
    norm("bn1", 64)
    inputs = 64
    for stage, count in enumerate(blocks):
        outputs = 64 * 2**stage
        for number in range(count):
            name = f"layer{stage + 1}.{number}"
            conv(f"{name}.conv1", outputs, inputs, 3, 3)
            norm(f"{name}.bn1", outputs)
            conv(f"{name}.conv2", outputs, outputs, 3, 3)
            norm(f"{name}.bn2", outputs)
            if inputs != outputs:
                conv(f"{name}.downsample.0", outputs, inputs, 1, 1)
                norm(f"{name}.downsample.1", outputs)
            inputs = outputs
    tensors["fc.weight"], tensors["fc.bias"] = np.zeros((1000, 512), np.float32), np.zeros(1000, np.float32)
    return tensors


TENSORS = state_dict()


def reference(tensors, x):
    """Compute the five feature maps of f64[B, 3, H, W] in NumPy."""

    def conv(name, x, stride):
        kernel = tensors[f"{name}.weight"].astype(np.float64)
        size = kernel.shape[-1]
        padding = (size // 2, size // 2)
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(x, ((0, 0), (0, 0), padding, padding)), (size, size), (2, 3)
        )[:, :, ::stride, ::stride]
        return np.einsum("bihwkl,oikl->bohw", windows, kernel, optimize=True)

    def norm(name, x):
        weight, bias, mean, var = (
            tensors[f"{name}.{leaf}"].astype(np.float64)[:, None, None]
            for leaf in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(var + 1e-5) * weight + bias

    x = np.maximum(norm("bn1", conv("conv1", x, 2)), 0)
    features = [x]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    x = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2].max((-1, -2))
    for stage in range(1, 5):
        name, stride = f"layer{stage}.0", 1 if stage == 1 else 2
        y = np.maximum(norm(f"{name}.bn1", conv(f"{name}.conv1", x, stride)), 0)
        y = norm(f"{name}.bn2", conv(f"{name}.conv2", y, 1))
        if stage > 1:
            x = norm(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, stride))
        x = np.maximum(x + y, 0)
        features.append(x)
    return features


def shapes(channels=1):
    return jax.eval_shape(MODEL.init, jax.random.key(0), jnp.zeros((1, 32, 32, channels)))


def save(path, tensors):
    save_file(tensors, path)
    return path


def encoder(variables):
    return {kind: tree["encoder"] for kind, tree in variables.items()}


@pytest.mark.parametrize("channels", [1, 3])
def test_features_equal_numpy_s(tmp_path, channels):
    image = np.random.default_rng(1).normal(size=(2, channels, 33, 64)).astype(np.float32)
    expected = reference(TENSORS, np.broadcast_to(image, (2, 3, 33, 64)).astype(np.float64))
    variables = warm_start.load_imagenet(save(tmp_path / "weights.safetensors", TENSORS), shapes(channels))
    features = jax.jit(models.ResNetEncoder(BLOCKS).apply)(encoder(variables), image.transpose(0, 2, 3, 1))
    for array, reference_array in zip(features, expected, strict=True):
        np.testing.assert_allclose(
            np.asarray(array).transpose(0, 3, 1, 2),
            reference_array,
            atol=1e-4 * reference_array.std(),
            rtol=1e-4,
        )


def test_every_array_of_the_encoder_is_replaced_and_the_decoder_stays(tmp_path):
    before = jax.tree.map(lambda leaf: jax.device_put(np.full(leaf.shape, 9, np.float32)), shapes())
    variables = warm_start.load_imagenet(save(tmp_path / "weights.safetensors", TENSORS), before)
    assert jax.tree.structure(variables) == jax.tree.structure(before)
    for kind, tree in variables.items():
        assert not any(9 in np.asarray(leaf) for leaf in jax.tree.leaves(tree["encoder"]))
        rest = {name: subtree for name, subtree in tree.items() if name != "encoder"}
        assert rest and all((np.asarray(leaf) == 9).all() for leaf in jax.tree.leaves(rest)), kind
    layer = variables["params"]["encoder"]["layer2_0"]
    np.testing.assert_array_equal(
        layer["conv1"]["kernel"][2, 0, 5, 7], TENSORS["layer2.0.conv1.weight"][7, 5, 2, 0]
    )
    np.testing.assert_array_equal(
        layer["downsample_1"]["BatchNorm_0"]["bias"], TENSORS["layer2.0.downsample.1.bias"]
    )


def test_arrays_keep_their_sharding(tmp_path):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    before = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, device=replicated), shapes())
    after = warm_start.load_imagenet(save(tmp_path / "weights.safetensors", TENSORS), before)
    assert all(leaf.sharding == replicated for leaf in jax.tree.leaves(after))


@pytest.mark.parametrize("form", ["smp", "f16", "bf16", "no classifier"])
def test_other_formats_of_the_same_weights(tmp_path, form):
    types = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}
    tensors = {
        name: value.astype(types.get(form, value.dtype))
        for name, value in TENSORS.items()
        if not name.startswith("fc.")
    }
    if form == "smp":
        tensors = {f"encoder.{name}": value for name, value in tensors.items()}
        tensors["decoder.blocks.0.conv1.0.weight"] = np.zeros((2, 2, 3, 3), np.float32)
    expected = warm_start.load_imagenet(save(tmp_path / "weights.safetensors", TENSORS), shapes())
    result = warm_start.load_imagenet(save(tmp_path / "other.safetensors", tensors), shapes())
    for kind in expected:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-2),
            result[kind]["encoder"],
            expected[kind]["encoder"],
        )


def assert_refused(path, message):
    with pytest.raises(InputError, match=re.escape(str(path)) + message):
        warm_start.load_imagenet(path, shapes())


def test_files_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    assert_refused(path, "': there is no such file")
    path.write_bytes(b"PK\x03\x04 as torch.save writes it")
    assert_refused(path, " cannot be read .*save_file")
    assert_refused(tmp_path, " is a folder")
    missing = {name: value for name, value in TENSORS.items() if name != "layer3.0.bn2.running_var"}
    assert_refused(
        save(path, missing), r": there is no tensor layer3\.0\.bn2\.running_var; resnet18_unet takes"
    )
    wide = TENSORS | {"layer1.0.conv2.weight": np.zeros((64, 128, 3, 3), np.float32)}
    assert_refused(
        save(path, wide), r": the tensor layer1\.0\.conv2\.weight of shape \(64, 128, 3, 3\) does not fit"
    )


def test_weights_of_a_deeper_network_are_refused(tmp_path):
    path = save(tmp_path / "deep.safetensors", state_dict((1, 1, 1, 2)))
    assert_refused(path, r": the network has no place for the tensor layer4\.1\.bn1\.bias; .* resnet34_unet")

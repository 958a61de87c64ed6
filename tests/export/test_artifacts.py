"""Artifacts compute what `predict` computes, in a process without this package."""

import datetime
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export as jax_export
from onnx import helper
from PIL import Image
from scipy import ndimage

from kneefair_jax import models, weights
from kneefair_jax.data import readers
from kneefair_jax.errors import InputError
from kneefair_jax.export import artifacts, network_files, onnx_format, onnx_networks, segmentation
from kneefair_jax.export.__main__ import main
from kneefair_jax.export.onnx_graph import Graph
from kneefair_jax.predict import grid as grids
from kneefair_jax.predict import predictor
from tests.export.test_network_files import run_folder, save
from tests.predict import networks

ROOT = Path(__file__).parents[2]
SIZES = ((40, 40), (57, 91), (300, 170))


def radiograph(size, seed=0):
    """Smooth structures and noise, f64[H, W] in [0, 1]."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random(size), min(size) / 12)
    return np.clip((smooth - smooth.min()) / np.ptp(smooth) + rng.normal(0, 0.02, size), 0, 1)


def in_types(image):
    """The image in 8 bits, in a part of 16 bits, and as float."""
    return (
        np.rint(image * 255).astype(np.uint8),
        np.rint(image * 3000 + 500).astype(np.uint16),
        (image * 7 - 2).astype(np.float32),
    )


def reader(path, kind):
    """A function of an image that gives probabilities and mask of an artifact."""
    if kind == "jax":
        call = jax_export.deserialize(bytearray(path.read_bytes())).call
    else:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

        def call(image, is_eight_bit):
            return session.run(None, {"image": image, "is_eight_bit": np.asarray(is_eight_bit)})

    def run(image):
        both = call(image[None].astype(np.float32), np.bool_(image.dtype == np.uint8))
        return tuple(np.asarray(part)[0] for part in both)

    return run


def randomized(variables, seed=0):
    """Variables whose scales, biases and running statistics are not those of the start."""
    rng = np.random.default_rng(seed)

    def change(path, leaf):
        if "kernel" in jax.tree_util.keystr(path):
            return np.asarray(leaf)
        return np.asarray(leaf) + rng.uniform(0.1, 0.5, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(change, variables)


def write_network(path, fields, grid, structures=("femur", "tibia"), **description):
    model = models.create(fields, classes=len(structures) + 1)
    variables = randomized(model.init(jax.random.key(1), jnp.zeros((1, *grid))))
    about = {"network": fields, "structures": structures, "grid": grid, "input": network_files.INPUT}
    weights.save_network(path, variables, about | description)
    return path


def numpy_unet():
    spec = importlib.util.spec_from_file_location("numpy_unet", ROOT / "examples" / "numpy_unet.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NETWORKS = {
    "group": ({"name": "unet", "widths": [4, 8, 16], "norm": "group"}, (16, 24, 1)),
    "batch": ({"name": "unet", "widths": [3, 5], "norm": "batch", "convolutions": 1}, (16, 16, 1)),
    "patch2": ({"name": "unet", "widths": [4, 8], "norm": "group", "stem": "patch2"}, (18, 22, 1)),
    "three channels": ({"name": "unet", "widths": [4, 8], "norm": "batch"}, (16, 16, 3)),
}
RESNET = ({"name": "resnet18_unet", "widths": [4, 4, 8, 8, 8]}, (40, 70, 3))


@pytest.mark.parametrize("case", NETWORKS)
def test_unet_equals_numpy(case, tmp_path):
    path = write_network(tmp_path / "a.safetensors", *NETWORKS[case])
    (parts,) = segmentation.by_group([weights.load_by_group(path)])
    film = np.random.default_rng(0).integers(0, 256, parts.grid, dtype=np.uint8)
    expected = numpy_unet().probabilities(path, film)
    ours = segmentation.mean_probabilities(parts.networks, film[None])[0]
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    np.testing.assert_allclose(onnx_probabilities(parts, film), expected, atol=1e-5)


@pytest.mark.slow
def test_resnet_equals_jax(tmp_path):
    path = write_network(tmp_path / "a.safetensors", *RESNET)
    (parts,) = segmentation.by_group([weights.load_by_group(path)])
    film = np.random.default_rng(0).integers(0, 256, parts.grid, dtype=np.uint8)
    expected = segmentation.mean_probabilities(parts.networks, film[None])[0]
    assert np.ptp(expected, axis=(0, 1)).max() > 0.05
    np.testing.assert_allclose(onnx_probabilities(parts, film), expected, atol=2e-5)


def onnx_probabilities(parts, film):
    """The probabilities of a film u8[h, w, c] on the working grid."""
    graph = Graph()
    standardized = np.asarray(models.standardize(film[None]))
    image = graph.input("image", np.float32)
    logits = onnx_networks.logits(graph, parts.networks[0], image, half=False)
    value = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, None)
    model = graph.model([value], {"out": (graph.node("Softmax", logits, axis=1), ["n", "c", "h", "w"])})
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (result,) = session.run(None, {"image": standardized.transpose(0, 3, 1, 2)})
    return result[0].transpose(1, 2, 0)


@pytest.fixture(scope="module")
def onnx_grid():
    """Functions of an image that give its pixels on a working grid of 32 x 24, by fit."""
    sessions = {}
    for fit in weights.FITS:
        graph = Graph()
        image, is_eight_bit = graph.input("image", np.float32), graph.input("is_eight_bit", np.bool_)
        pixels, _, _ = onnx_format.working_grid(image, is_eight_bit, (32, 24), fit)
        inputs = [
            helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["b", "h", "w"]),
            helper.make_tensor_value_info("is_eight_bit", onnx.TensorProto.BOOL, []),
        ]
        model = graph.model(inputs, {"pixels": (pixels, ["b", 32, 24])})
        sessions[fit] = onnxruntime.InferenceSession(model.SerializeToString())

    def run(image, fit):
        inputs = {"image": image[None].astype(np.float32), "is_eight_bit": np.array(image.dtype == np.uint8)}
        return sessions[fit].run(None, inputs)[0][0]

    return run


def pillow_grid(image, fit):
    picture = readers.to_uint8(image[..., None])
    placement = grids.place_on_grid(image.shape, (32, 24), fit)
    return grids.resize_to_grid(picture, (32, 24), placement)[..., 0]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 200), st.integers(1, 200), st.sampled_from([0, 1, 2]), st.sampled_from(weights.FITS),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_onnx_pixels_equal_those_of_pillow(onnx_grid, height, width, kind, fit, seed):
    image = in_types(np.random.default_rng(seed).random((height, width)))[kind]
    np.testing.assert_array_equal(onnx_grid(image, fit), pillow_grid(image, fit))


def test_onnx_pixels_of_few_values(onnx_grid):
    for image in (
        np.full((20, 30), 1234, np.uint16),
        np.where(np.arange(600).reshape(20, 30) == 7, 9, 1234).astype(np.uint16),
        np.zeros((20, 30), np.float32),
    ):
        np.testing.assert_array_equal(onnx_grid(image, "pad"), pillow_grid(image, "pad"))


@pytest.mark.parametrize("fit", weights.FITS)
def test_jax_pixels_equal_those_of_pillow(fit):
    for size in ((32, 24), (61, 19), (90, 133)):
        for image in in_types(np.random.default_rng(0).random(size)):
            with jax.enable_x64(True):
                image_f32 = jnp.asarray(image[None], jnp.float32)
                is_eight_bit = jnp.asarray(image.dtype == np.uint8)
                pixels, _, _ = segmentation.working_grid(image_f32, is_eight_bit, (32, 24), fit)
            np.testing.assert_array_equal(pixels[0], pillow_grid(image, fit))


@pytest.mark.parametrize("kind", artifacts.FORMATS)
@pytest.mark.parametrize("fit", weights.FITS)
def test_artifacts_equal_predict(kind, fit, tmp_path):
    structures = ("femur", "tibia", "fibula", "patella", "femur and patella", "tibia and fibula")
    path = networks.write(tmp_path / "a.safetensors", structures, grid=(32, 32, 1), sure=8.0, fit=fit)
    (file,) = artifacts.export([path], tmp_path / "out", "a", kind, in_front="fibula")
    run = reader(file, kind)
    expected = predictor.load(path, raw=True, in_front="fibula")
    found = set()
    for seed, size in enumerate(SIZES):
        for image in in_types(radiograph(size, seed)):
            probabilities, mask = run(image)
            np.testing.assert_allclose(probabilities, expected.probabilities([image])[0], atol=5e-5)
            (mask_of_predict,) = expected([image])
            assert (mask != mask_of_predict).mean() <= 1e-4
            found |= set(np.unique(mask))
    assert len(found) > 1
    about = json.loads((tmp_path / "out" / f"{file.name}.json").read_text())
    assert about["structures"] == list(expected.structures) and about["fit"] == fit
    if kind == "jax":
        created, expires = (datetime.date.fromisoformat(about[key]) for key in ("created", "expires"))
        assert (expires - created).days == artifacts.JAX_DAYS
    else:
        properties = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
        assert json.loads(properties["structures"]) == list(expected.structures)


@pytest.mark.parametrize("kind", artifacts.FORMATS)
def test_several_networks_are_averaged(kind, tmp_path):
    paths = [networks.write(tmp_path / f"{seed}.safetensors", seed=seed) for seed in range(3)]
    (file,) = artifacts.export(paths, tmp_path / "out", "mean", kind)
    batch = [radiograph((20, 30), seed).astype(np.float32) for seed in range(2)]
    expected = predictor.load(*paths, raw=True).probabilities(batch)
    for image, probabilities in zip(batch, expected, strict=True):
        np.testing.assert_allclose(reader(file, kind)(image)[0], probabilities, atol=1e-5)


@pytest.mark.parametrize("kind", artifacts.FORMATS)
def test_half_stores_half_the_bytes(kind, tmp_path):
    path = write_network(tmp_path / "a.safetensors", *NETWORKS["group"])
    sizes = {}
    for half in (False, True):
        (file,) = artifacts.export([path], tmp_path / str(half), "a", kind, half=half)
        sizes[half] = file.stat().st_size
    parameters = models.count(weights.load(path).variables["params"])
    assert sizes[False] - sizes[True] == pytest.approx(2 * parameters, rel=0.3)
    rounded = tmp_path / "rounded.safetensors"
    network = weights.load(path)
    weights.save_network(rounded, network.variables, network.about, half=True)
    image = radiograph((20, 30)).astype(np.float32)
    (expected,) = predictor.load(rounded, raw=True).probabilities([image])
    np.testing.assert_allclose(reader(file, kind)(image)[0], expected, atol=1e-5)


def test_weights_beyond_float16_are_refused(tmp_path):
    path = networks.write(tmp_path / "a.safetensors", sure=1e6)
    with pytest.raises(InputError):
        artifacts.export([path], tmp_path / "out", "a", "onnx", half=True)
    assert not list((tmp_path / "out").glob("*.onnx"))


def test_folded_weights_beyond_float16_are_refused(tmp_path):
    path = write_network(tmp_path / "a.safetensors", *NETWORKS["batch"])
    network = weights.load(path)
    small = jax.tree_util.tree_map_with_path(
        lambda p, leaf: leaf * 0 + 1e-12 if "'var'" in jax.tree_util.keystr(p) else leaf * 2e3,
        network.variables,
    )
    weights.save_network(path, small, network.about)
    artifacts.export([path], tmp_path / "jax", "a", "jax", half=True)
    with pytest.raises(InputError):
        artifacts.export([path], tmp_path / "onnx", "a", "onnx", half=True)


@pytest.mark.parametrize("kind", artifacts.FORMATS)
def test_pixels_that_no_film_has(kind, tmp_path):
    path = networks.write(tmp_path / "a.safetensors", sure=8.0)
    (file,) = artifacts.export([path], tmp_path / "out", "a", kind)
    if kind == "jax":
        call = jax_export.deserialize(bytearray(file.read_bytes())).call
    else:
        session = onnxruntime.InferenceSession(file)

        def call(image, is_eight_bit):
            return session.run(None, {"image": image, "is_eight_bit": np.asarray(is_eight_bit)})

    image = np.rint(radiograph((30, 40)) * 255).astype(np.float32)[None]
    bright = image.copy()
    bright[0, :3] = 3000
    clipped = np.minimum(bright, 255)
    np.testing.assert_allclose(call(bright, np.True_)[0], call(clipped, np.True_)[0], atol=1e-6)
    for value in (np.nan, np.inf):
        bad = image.copy()
        bad[0, 5, 5] = value
        assert np.isnan(call(bad, np.False_)[0]).all()
    flat = call(np.full((1, 1, 1), 7, np.float32), np.False_)
    assert np.isfinite(flat[0]).all() and flat[1].shape == (1, 1, 1)


def test_an_artifact_leaves_weights_of_a_similar_name(tmp_path):
    path = networks.write(tmp_path / "a.safetensors")
    out = tmp_path / "out"
    network_files.copy(path, out, "a-onnx")
    artifacts.export([path], out, "a", "onnx", overwrite=True)
    assert (out / "a-onnx.safetensors").is_file() and (out / "a.onnx").is_file()


def test_networks_of_groups_are_files_of_their_own(tmp_path):
    for number, group in enumerate(("sex=f", "sex=m")):
        networks.write(tmp_path / f"g_{number}.safetensors", group=group, seed=number)
    files = artifacts.export([tmp_path], tmp_path / "out", "g", "onnx")
    assert [file.name for file in files] == ["g_0.onnx", "g_1.onnx"]
    image = radiograph((20, 30)).astype(np.float32)
    both = predictor.load(tmp_path, raw=True)
    for file, group in zip(files, both.groups, strict=True):
        assert json.loads(artifacts.description(file).read_text())["group"] == group
        (expected,) = both.probabilities([image], group)
        np.testing.assert_allclose(reader(file, "onnx")(image)[0], expected, atol=1e-5)


@pytest.mark.parametrize("kind", artifacts.FORMATS)
def test_readers_need_no_package(kind, tmp_path):
    path = networks.write(tmp_path / "a.safetensors", sure=8.0)
    (file,) = artifacts.export([path], tmp_path, "a", kind)
    (image, _, _) = in_types(radiograph((50, 40)))
    Image.fromarray(image).save(tmp_path / "film.png")
    script = ROOT / "examples" / f"segment_{kind}.py"
    code = (
        "import runpy, sys; sys.modules['kneefair_jax'] = None; "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    arguments = [str(script), str(file), str(tmp_path / "film.png"), str(tmp_path / "mask.png")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, cwd=tmp_path)
    (expected,) = predictor.load(path, raw=True)([image])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "mask.png")), expected)
    lines = [line for line in script.read_text().split('"""')[2].splitlines() if line.strip()]
    assert len(lines) <= 15


def test_a_run_becomes_an_artifact(tmp_path, capsys):
    run = run_folder(tmp_path / "run", "single", 7)
    save(run, 0, "sex=f")
    assert main([str(run), "--format", "onnx"]) == 0
    assert (run / "export" / "model.onnx").is_file() and (run / "export" / "model.safetensors").is_file()
    image = radiograph((20, 30)).astype(np.float32)
    (expected,) = predictor.load(run, raw=True).probabilities([image])
    np.testing.assert_allclose(reader(run / "export" / "model.onnx", "onnx")(image)[0], expected, atol=1e-5)
    assert main([str(run), "--format", "onnx"]) != 0
    assert main([str(run), "--format", "onnx", "--overwrite"]) == 0
    capsys.readouterr()


def test_a_network_is_copied_as_weights(tmp_path, capsys):
    path = networks.write(tmp_path / "a.safetensors", group="sex=f")
    assert main([str(path), "--out", str(tmp_path / "out"), "--name", "b", "--half"]) == 0
    copied = weights.load(tmp_path / "out" / "b.safetensors")
    original = weights.load(path)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6),
        copied.variables,
        original.variables,
    )
    assert copied.about == original.about
    capsys.readouterr()


@pytest.mark.parametrize(
    "arguments",
    [
        ["phantom"],
        ["phantom", "phantom-v1", "--out", "OUT"],
        ["phantom", "--format", "onnx", "--out", "OUT", "--license", "mit"],
        ["phantom", "--out", "OUT", "--in-front", "tibia"],
        ["phantom", "phantom-v1", "--format", "onnx", "--out", "OUT"],
        ["absent", "--format", "jax", "--out", "OUT"],
        ["phantom", "--format", "jax", "--out", "OUT", "--name", "a/b"],
    ],
)
def test_unusable_options_are_refused(arguments, tmp_path, capsys):
    assert main([text.replace("OUT", str(tmp_path / "out")) for text in arguments]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not list(tmp_path.glob("out/phantom*"))

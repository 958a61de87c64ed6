import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kneefair_jax import anatomy, metrics, models, predict, weights
from kneefair_jax.data.phantom.case import draw_case
from kneefair_jax.errors import InputError

NETWORK = {"name": "unet", "widths": [2], "norm": "batch"}
ABOUT = {"network": NETWORK, "structures": ["a"], "grid": [8, 8, 1]}


def variables(seed=0):
    return models.create(NETWORK, classes=2).init(jax.random.key(seed), jnp.zeros((1, 8, 8, 1)))


def test_the_first_phantom_network_ships_with_its_card():
    network = weights.load("phantom-v1")
    assert (weights.FOLDER / "phantom-v1.safetensors").stat().st_size < 8e6
    assert models.count(network.variables["params"]) == network.about["parameters"] == 1_943_077
    assert network.about["dice"]["tibia"]["all"]["mean"] > 0.98 and network.about["step"] == 9000
    card = (weights.FOLDER / "phantom-v1.md").read_text()
    femur = network.about["dice"]["femur"]["all"]["mean"]
    assert 'license: "apache-2.0"' in card and f"| all | 480 | {femur:.3f} [" in card


def test_the_phantom_network_ships_with_its_card():
    network = weights.load("phantom")
    assert (weights.FOLDER / "phantom.safetensors").stat().st_size < 16e6
    assert models.count(network.variables["params"]) == network.about["parameters"] == 7_764_103
    assert tuple(network.about["structures"]) == anatomy.SCHEMES["knee_overlaps"]
    card = (weights.FOLDER / "phantom.md").read_text()
    results = Path(__file__).parents[2] / "benchmarks/results"
    projected = json.loads((results / "real_bones.json").read_text())["dice"]
    for bone in ("whole femur", "tibia", "whole patella"):
        assert f"value: {projected[bone]['mean']:.4f}" in card
    for entry in json.loads((results / "phantom_scores.json").read_text())["scores"]:
        cells = [
            f"{entry[bone]['mean']:.3f} ({entry[bone]['percentile_5']:.3f})"
            for bone in anatomy.whole_bones(anatomy.SCHEMES["knee_overlaps"])
        ]
        assert f"| {entry['set']} | {' | '.join(cells)} |" in card


@pytest.mark.slow
@pytest.mark.parametrize("name", ["phantom-v1", "phantom"])
def test_a_phantom_network_segments_clinical_phantoms(name):
    keys = jax.random.split(jax.random.key(2026), 8)
    films = jax.jit(jax.vmap(lambda key, knee: draw_case(key, knee, size=(128, 128))))(
        keys, jnp.arange(8) % 2
    )
    masks = np.stack(predict.load(name, whole_femur=True)(list(np.asarray(films.image))))
    truth = jnp.array([0, 1, 2, 3, 1])[films.label]
    dice = np.asarray(metrics.dice(metrics.overlap(jnp.asarray(masks, jnp.int32), truth, structures=3)))
    assert (dice > [0.98, 0.98, 0.95]).all()


@pytest.mark.slow
def test_the_phantom_network_segments_whole_bones():
    keys = jax.random.split(jax.random.key(2026), 4)
    films = jax.jit(jax.vmap(lambda key, knee: draw_case(key, knee, size=(256, 256), overlaps=True)))(
        keys, jnp.arange(4) % 2
    )
    network = predict.load("phantom", outlines=True)
    bones = anatomy.whole_bones(anatomy.SCHEMES["knee_overlaps"])
    members = anatomy.membership(anatomy.SCHEMES["knee_overlaps"], bones)
    for prediction, label in zip(
        network.predict(list(np.asarray(films.image))), np.asarray(films.label), strict=True
    ):
        for bone, member in zip(bones, np.asarray(members), strict=True):
            truth, mask = member[label] > 0, prediction.outlines[bone].mask
            assert 2 * (truth & mask).sum() / (truth.sum() + mask.sum()) > 0.95, bone


@pytest.mark.parametrize(("half", "tolerance"), [(False, 0), (True, 2**-11)])
def test_a_saved_network_loads(tmp_path, half, tolerance):
    weights.save_network(tmp_path / "w.safetensors", variables(), ABOUT, half=half)
    network = weights.load(tmp_path / "w.safetensors")
    assert network.about == ABOUT and not list(tmp_path.glob(".*"))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=1e-7 if half else 0),
        network.variables,
        variables(),
    )


def test_numbers_beyond_float16_are_not_written(tmp_path):
    large = jax.tree.map(lambda leaf: leaf + 1e6, variables())
    with pytest.raises(InputError, match="not finite as float16"):
        weights.save_network(tmp_path / "w.safetensors", large, ABOUT, half=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"structures": ["a"], "grid": [8, 8, 1]}, r"w\.json: network is missing"),
        ([], "named fields"),
        (ABOUT | {"structures": ["a", "b"]}, r"params/head/bias is \(2,\).*has \(3,\)"),
        (ABOUT | {"network": NETWORK | {"widths": [2, 4]}}, "is absent, but the network"),
    ],
)
def test_files_that_do_not_match_are_refused(tmp_path, about, message):
    weights.save_network(tmp_path / "w.safetensors", variables(), ABOUT)
    (tmp_path / "w.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=message):
        weights.load(tmp_path / "w.safetensors")


def test_missing_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="or one of phantom"):
        weights.load("nothing")
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="cannot be read"):
        weights.load(tmp_path / "w.safetensors")


def test_a_pipe_in_place_of_the_description_does_not_hang(tmp_path):
    path = tmp_path / "w.safetensors"
    weights.save_network(path, variables(), ABOUT)
    path.with_suffix(".json").unlink()
    os.mkfifo(path.with_suffix(".json"))
    with pytest.raises(InputError, match=r"w\.json .*a pipe, not a file"):
        weights.load(path)

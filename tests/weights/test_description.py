"""Invalid descriptions of a network are refused in one line that names the file."""

import json

import jax
import numpy as np
import pytest

from benchmarks.hostile_inputs import run_folders
from kneefair_jax import models, weights
from kneefair_jax.errors import InputError
from kneefair_jax.predict import __main__ as predict
from kneefair_jax.weights import network
from tests.predict.networks import NETWORK


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "w.safetensors"
    shapes = weights.variable_shapes(models.create(NETWORK, classes=4), (16, 16, 1))["params"]
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)
    about = {"network": NETWORK, "structures": ["femur", "tibia", "patella"], "grid": [16, 16, 1]}
    weights.save_network(path, {"params": params}, about)
    return path


@pytest.mark.parametrize("name", run_folders.DESCRIPTIONS)
def test_a_hostile_description_is_refused_in_one_line(saved, name):
    original = saved.with_suffix(".json").read_text()
    saved.with_suffix(".json").write_text(run_folders.DESCRIPTIONS[name])
    try:
        with pytest.raises(InputError, match=r"w\.json") as error:
            weights.load(saved)
    finally:
        saved.with_suffix(".json").write_text(original)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_the_command_prints_one_line(saved, tmp_path, capsys):
    about = json.loads(saved.with_suffix(".json").read_text())
    copy = tmp_path / "w.safetensors"
    copy.write_bytes(saved.read_bytes())
    copy.with_suffix(".json").write_text(json.dumps(about | {"grid": [12_000, 12_000, 1]}))
    argv = ["--checkpoint", str(copy), "--images", str(tmp_path), "--out", str(tmp_path / "out")]
    assert predict.main(argv) != 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "w.json" in err and "12000" in err and not (tmp_path / "out").exists()


def test_shapes_are_checked_before_tensors_are_read(saved, tmp_path, monkeypatch):
    copy = tmp_path / "w.safetensors"
    copy.with_suffix(".json").write_text(saved.with_suffix(".json").read_text())
    monkeypatch.setattr(network, "read_tensors", lambda *_: pytest.fail("read"))
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**7], "data_offsets": [0, 4 * 10**7]}}).encode()
    with copy.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 4 * 10**7)
    with pytest.raises(InputError, match=r"tensor a is \(10000000,\)"):
        weights.load(copy)
    with copy.open("r+b") as file:
        file.truncate(network.MOST_BYTES + 1)
    with pytest.raises(InputError, match="larger than 512 MiB"):
        weights.load(copy)

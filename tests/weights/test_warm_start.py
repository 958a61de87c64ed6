"""What a run takes from a trained network, what it draws anew, and what it is refused."""

from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import finetune
from kneefair_jax import anatomy, models, weights
from kneefair_jax.errors import InputError
from kneefair_jax.runs import modes
from kneefair_jax.runtime import run_directory
from kneefair_jax.training import setup, state
from kneefair_jax.training.checkpoint import Checkpoints
from kneefair_jax.weights import warm_start
from tests import films

NETWORK = {"name": "unet", "widths": (2, 4), "convolutions": 2, "norm": "group"}
SQUARE = ("square", "bone")


def trained(path, structures=SQUARE, group=None):
    """A network's two files, of random numbers."""
    rng, shapes = np.random.default_rng(7), drawn(NETWORK, structures)["params"]
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), shapes)
    about = {"network": NETWORK, "structures": structures, "grid": (8, 8, 1), "group": group}
    weights.save_network(path, {"params": params}, about)
    return params


def drawn(config, structures, value=9.0):
    """The variables of a run before it has a start, all of one number."""
    model = models.create(config, classes=len(structures) + 1)
    shapes = weights.expected(model, (16, 16, 1))
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, value, leaf.dtype), shapes)


def test_the_phantoms_network_starts_a_run_of_its_shape():
    config = finetune.get_config()
    network = warm_start.find("phantom", config.model, channels=1)
    same = warm_start.applied(network, network.about["structures"], drawn(config.model, range(4)))
    jax.tree.map(np.testing.assert_array_equal, same["params"], network.variables["params"])
    structures = ("cyst", "tibia", "whole femur")
    other = warm_start.applied(network, structures, drawn(config.model, structures))["params"]
    there = dict(network.variables["params"])
    for name, leaf in there.pop("head").items():
        expected = np.full((*leaf.shape[:-1], 4), 9.0, np.float32)
        # Background, tibia, femur of (background, femur, tibia, fibula, patella).
        expected[..., [0, 2, 3]] = leaf[..., [0, 2, 1]]
        np.testing.assert_array_equal(other["head"][name], expected)
    jax.tree.map(np.testing.assert_array_equal, {k: v for k, v in other.items() if k != "head"}, there)
    assert warm_start.told("phantom", network, structures).endswith("the last layer is drawn anew for cyst")


def test_of_structures_that_the_network_does_not_know_the_whole_last_layer_is_drawn(tmp_path):
    path = tmp_path / "w.safetensors"
    params = trained(path)
    network = warm_start.find(str(path), NETWORK, 1)
    before = drawn(NETWORK, ("a", "b", "c"))
    # As of a head that only training uses.
    before["params"]["critic"] = {"kernel": jnp.arange(3.0)}
    after = warm_start.applied(network, ("a", "b", "c"), before)["params"]
    for part in ("head", "critic"):
        jax.tree.map(np.testing.assert_array_equal, after[part], before["params"][part])
    jax.tree.map(np.testing.assert_array_equal, after["encoder_1"], params["encoder_1"])
    assert after.keys() == {*params, "critic"}
    assert "anew for a, b, c" in warm_start.told("w", network, ("a", "b", "c"))
    assert warm_start.told("w", network, SQUARE) == "starts from w"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "batch"}, "model.norm is 'batch'; give --config.model.norm=\"group\""),
        ({"widths": (2, 4, 8)}, r'model.widths is \(2, 4, 8\); give --config.model.widths="\(2, 4\)"'),
        ({"convolutions": 1, "widths": (4,)}, "model.widths is .*, model.convolutions is 1; give"),
        ({"name": "resnet18_unet"}, 'give --config.model.name="unet"'),
        ({"weights": "r.safetensors"}, "two starts; set one to ''"),
    ],
)
def test_another_network_is_refused_by_its_fields(tmp_path, changes, message):
    path = tmp_path / "w.safetensors"
    trained(path)
    with pytest.raises(InputError, match=message):
        warm_start.find(str(path), NETWORK | changes, 1)


def test_what_is_no_single_network_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    trained(path)
    with pytest.raises(InputError, match=r'data.channels is 3; give --config.data.channels="1"'):
        warm_start.find(str(path), NETWORK, 3)
    with pytest.raises(InputError, match="or one of phantom"):
        warm_start.find("phantoms", NETWORK, 1)
    with pytest.raises(InputError, match="make them with python -m kneefair_jax.export"):
        (tmp_path / "run").mkdir()
        warm_start.find(str(tmp_path / "run"), NETWORK, 1)
    for group in ("sex=f", "sex=m"):
        trained(tmp_path / f"run/export/{group[-1]}.safetensors", group=group)
    with pytest.raises(InputError, match="name one .safetensors file"):
        warm_start.find(str(tmp_path / "run"), NETWORK, 1)


class Start(NamedTuple):
    """What `setup.started` reads of an experiment and changes."""

    state: state.TrainState


def test_the_state_before_the_first_step_has_the_named_parameters(tmp_path, capsys):
    path = tmp_path / "w.safetensors"
    params = trained(path)
    config = ConfigDict({"init_from": str(path), "model": NETWORK | {"norm": "batch", "remat": False}})
    config.update({"train": {"batch_size": 2, "accumulation": 1}, "data": {"size": (16, 16)}})
    cohort = SimpleNamespace(structures=("disc", "square"), grid=(16, 16, 1))
    with pytest.raises(InputError, match=r"model\.norm"):
        setup.check_network(config, cohort)
    config.model.norm = "group"
    setup.check_network(config, cohort)
    drawn_params = drawn(NETWORK, cohort.structures)["params"]
    started = setup.started(config, cohort, Start(state.TrainState(0, 0, drawn_params, {}, (), ())))
    assert f"starts from {path}; the last layer is drawn anew for disc\n" in capsys.readouterr().out
    after = dict(started.state.params)
    head, stored_head = after.pop("head"), params.pop("head")
    jax.tree.map(np.testing.assert_array_equal, after, params)
    # Background, disc, square; in the file it is background, square, bone.
    np.testing.assert_array_equal(head["kernel"][:, [0, 2]], stored_head["kernel"][:, [0, 1]])
    assert (head["kernel"][:, 1] == 9).all()

    # A trained run no longer needs the file, and a new run does.
    path.unlink()
    setup.check_network(config, cohort, start=False)
    with pytest.raises(InputError, match="give a .safetensors file that there is"):
        setup.check_network(config, cohort)


@pytest.mark.slow
def test_a_run_starts_there_once(tmp_path, capsys):
    path = tmp_path / "w.safetensors"
    params = trained(path)
    config = finetune.get_config()
    config.init_from = str(path)
    config.data.update({"root": str(films.folder(tmp_path / "films")), "structures": "disc,square"})
    config.data.update({"size": (16, 16), "attributes": ("sex",)})
    config.model.widths = NETWORK["widths"]
    config.optimizer.learning_rate = 0.0  # what it starts with is what it ends with
    config.train.update({"steps": 2, "eval_every": 2, "batch_size": 8})
    config.report.bootstrap_draws = 40
    config.augment = dict.fromkeys(config.augment, 0.0)  # less to compile

    config.model.norm = "batch"
    with pytest.raises(InputError, match="model.norm"):
        modes.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()

    config.model.norm = "group"
    modes.train(config, tmp_path / "run")
    assert f"starts from {path}; the last layer is drawn anew for disc\n" in capsys.readouterr().out
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda leaf: jax.device_put(leaf, here), params)
    checkpoints = Checkpoints(tmp_path / "run/checkpoints")
    ended = checkpoints.variables(2, state.TrainState(0, 0, like, {}, (), ()))["params"]
    checkpoints.close()
    head, its = ended.pop("head"), params.pop("head")
    jax.tree.map(np.testing.assert_array_equal, ended, params)
    # Background, disc, square; there it was background, square, bone.
    np.testing.assert_array_equal(head["kernel"][:, [0, 2]], its["kernel"][:, [0, 1]])
    assert (head["kernel"][:, 1] != its["kernel"][:, 2]).any()

    # One whose only checkpoint is damaged starts there again.
    largest = max((tmp_path / "run/checkpoints/2").rglob("*"), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    modes.train(config, tmp_path / "run")
    said = capsys.readouterr().out
    assert "training starts again" in said and f"starts from {path};" in said
    checkpoints = Checkpoints(tmp_path / "run/checkpoints")
    again = checkpoints.variables(2, state.TrainState(0, 0, like | {"head": head}, {}, (), ()))["params"]
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, again, ended | {"head": head})

    # A run that started elsewhere cannot say later that it started there.
    config.init_from = "phantom"
    with pytest.raises(InputError, match="init_from"):
        modes.train(config, tmp_path / "run")
    config.init_from = str(path)

    # Whoever goes on needs the file no more, and whoever starts does.
    path.unlink()
    modes.train(config, tmp_path / "run")
    said = capsys.readouterr().out
    assert "continuing from step 2" in said and "starts from" not in said
    assert run_directory.has_checkpoint(tmp_path / "run")
    with pytest.raises(InputError, match="give a .safetensors file that there is"):
        modes.train(config, tmp_path / "another")


def test_classes_of_another_scheme_start_from_the_bone_in_front():
    knee, overlaps = anatomy.SCHEMES["knee"], anatomy.SCHEMES["knee_overlaps"]
    assert warm_start.shared_channels(knee, overlaps) == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 4, 6: 2}
    assert warm_start.shared_channels(overlaps, knee) == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}
    assert warm_start.shared_channels(overlaps, ("whole fibula", "hip")) == {0: 0, 1: 3}
    assert warm_start.shared_channels(knee, ("hip",)) == {}

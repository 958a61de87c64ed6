"""Initialization of a run from a trained network: shared and new parameters, and refused networks."""

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
from kneefair_jax.training import config_checks, setup, state
from kneefair_jax.training.checkpoint import Checkpoints
from kneefair_jax.weights import warm_start
from tests import films

pytestmark = pytest.mark.usefixtures("terminal_log")

NETWORK = {"name": "unet", "widths": (2, 4), "convolutions": 2, "norm": "group"}
SQUARE = ("square", "bone")


def save_trained(path, structures=SQUARE, group=None):
    """Save a network with random parameters, and return them."""
    rng, shapes = np.random.default_rng(7), initial_variables(NETWORK, structures)["params"]
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), shapes)
    about = {"network": NETWORK, "structures": structures, "grid": (8, 8, 1), "group": group}
    weights.save_network(path, {"params": params}, about)
    return params


def initial_variables(config, structures, value=9.0):
    """The initial variables of a run, all of one value."""
    model = models.create(config, classes=len(structures) + 1)
    shapes = weights.variable_shapes(model, (16, 16, 1))
    return jax.tree.map(lambda leaf: jnp.full(leaf.shape, value, leaf.dtype), shapes)


def test_the_phantom_network_initializes_a_run_of_its_shape():
    config = finetune.get_config()
    network = warm_start.find("phantom-v1", config.model, channels=1)
    variables = warm_start.init_from_pretrained(
        network, network.about["structures"], initial_variables(config.model, range(4))
    )
    jax.tree.map(np.testing.assert_array_equal, variables["params"], network.variables["params"])
    structures = ("cyst", "tibia", "whole femur")
    params = warm_start.init_from_pretrained(
        network, structures, initial_variables(config.model, structures)
    )["params"]
    pretrained = dict(network.variables["params"])
    for name, leaf in pretrained.pop("head").items():
        expected = np.full((*leaf.shape[:-1], 4), 9.0, np.float32)
        # Background, tibia, femur of (background, femur, tibia, fibula, patella).
        expected[..., [0, 2, 3]] = leaf[..., [0, 2, 1]]
        np.testing.assert_array_equal(params["head"][name], expected)
    jax.tree.map(np.testing.assert_array_equal, {k: v for k, v in params.items() if k != "head"}, pretrained)
    assert warm_start.describe("phantom-v1", network, structures).endswith(
        "the last layer starts at random for cyst"
    )


def test_without_shared_structures_the_last_layer_keeps_its_initial_values(tmp_path):
    path = tmp_path / "w.safetensors"
    params = save_trained(path)
    network = warm_start.find(str(path), NETWORK, 1)
    before = initial_variables(NETWORK, ("a", "b", "c"))
    # Like a head that only training uses.
    before["params"]["critic"] = {"kernel": jnp.arange(3.0)}
    after = warm_start.init_from_pretrained(network, ("a", "b", "c"), before)["params"]
    for module in ("head", "critic"):
        jax.tree.map(np.testing.assert_array_equal, after[module], before["params"][module])
    jax.tree.map(np.testing.assert_array_equal, after["encoder_1"], params["encoder_1"])
    assert after.keys() == {*params, "critic"}
    assert "at random for a, b, c" in warm_start.describe("w", network, ("a", "b", "c"))
    assert warm_start.describe("w", network, SQUARE) == "starts from w"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "batch"}, "model.norm is 'batch'; give --config.model.norm=\"group\""),
        ({"stem": "patch2"}, "model.stem is 'patch2'; give --config.model.stem=\"pixel\""),
        ({"widths": (2, 4, 8)}, r'model.widths is \(2, 4, 8\); give --config.model.widths="\(2, 4\)"'),
        ({"convolutions": 1, "widths": (4,)}, "model.widths is .*, model.convolutions is 1; give"),
        ({"name": "resnet18_unet"}, 'give --config.model.name="unet"'),
        ({"weights": "r.safetensors"}, "both initialize the network; set one to ''"),
    ],
)
def test_another_network_is_refused_by_its_fields(tmp_path, changes, message):
    path = tmp_path / "w.safetensors"
    save_trained(path)
    with pytest.raises(InputError, match=message):
        warm_start.find(str(path), NETWORK | changes, 1)


def test_invalid_names_of_a_network_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_trained(path)
    with pytest.raises(InputError, match=r'data.channels is 3; give --config.data.channels="1"'):
        warm_start.find(str(path), NETWORK, 3)
    with pytest.raises(InputError, match="or one of phantom"):
        warm_start.find("phantoms", NETWORK, 1)
    with pytest.raises(InputError, match="create them with: kneefair export"):
        (tmp_path / "run").mkdir()
        warm_start.find(str(tmp_path / "run"), NETWORK, 1)
    for group in ("sex=f", "sex=m"):
        save_trained(tmp_path / f"run/export/{group[-1]}.safetensors", group=group)
    with pytest.raises(InputError, match="name one of its .safetensors files"):
        warm_start.find(str(tmp_path / "run"), NETWORK, 1)


class Start(NamedTuple):
    """The field of an experiment that `setup.with_initial_weights` replaces."""

    state: state.TrainState


def test_the_state_before_the_first_step_has_the_named_parameters(tmp_path, capsys):
    path = tmp_path / "w.safetensors"
    params = save_trained(path)
    config = ConfigDict({"init_from": str(path), "model": NETWORK | {"norm": "batch", "remat": False}})
    config.update({"train": {"batch_size": 2, "accumulation": 1}, "data": {"size": (16, 16)}})
    cohort = SimpleNamespace(structures=("disc", "square"), grid=(16, 16, 1))
    with pytest.raises(InputError, match=r"model\.norm"):
        config_checks.validate_network(config, cohort)
    config.model.norm = "group"
    config_checks.validate_network(config, cohort)
    initial = initial_variables(NETWORK, cohort.structures)["params"]
    experiment = setup.with_initial_weights(
        config, cohort, Start(state.TrainState(0, 0, initial, {}, (), ()))
    )
    assert f"starts from {path}; the last layer starts at random for disc\n" in capsys.readouterr().out
    after = dict(experiment.state.params)
    head, stored_head = after.pop("head"), params.pop("head")
    jax.tree.map(np.testing.assert_array_equal, after, params)
    # Background, disc, square; in the file it is background, square, bone.
    np.testing.assert_array_equal(head["kernel"][:, [0, 2]], stored_head["kernel"][:, [0, 1]])
    assert (head["kernel"][:, 1] == 9).all()

    # A trained run does not need the file; a new run does.
    path.unlink()
    config_checks.validate_network(config, cohort, initial_weights=False)
    with pytest.raises(InputError, match="give an existing .safetensors file"):
        config_checks.validate_network(config, cohort)


@pytest.mark.slow
def test_a_run_initializes_once(tmp_path, capsys):
    path = tmp_path / "w.safetensors"
    params = save_trained(path)
    config = finetune.get_config()
    config.init_from = str(path)
    config.data.update({"root": str(films.folder(tmp_path / "films")), "structures": "disc,square"})
    config.data.update({"size": (16, 16), "attributes": ("sex",)})
    config.model.widths = NETWORK["widths"]
    config.optimizer.learning_rate = 0.0  # the parameters do not change
    config.train.update({"steps": 2, "eval_every": 2, "batch_size": 8})
    config.report.bootstrap_draws = 40
    config.augment = dict.fromkeys(config.augment, 0.0)  # less to compile

    config.model.norm = "batch"
    with pytest.raises(InputError, match="model.norm"):
        modes.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()

    config.model.norm = "group"
    modes.train(config, tmp_path / "run")
    assert f"starts from {path}; the last layer starts at random for disc\n" in capsys.readouterr().out
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda leaf: jax.device_put(leaf, device), params)
    checkpoints = Checkpoints(tmp_path / "run/checkpoints")
    final = checkpoints.variables(2, state.TrainState(0, 0, like, {}, (), ()))["params"]
    checkpoints.close()
    head, stored_head = final.pop("head"), params.pop("head")
    jax.tree.map(np.testing.assert_array_equal, final, params)
    # Background, disc, square; in the file it is background, square, bone.
    np.testing.assert_array_equal(head["kernel"][:, [0, 2]], stored_head["kernel"][:, [0, 1]])
    assert (head["kernel"][:, 1] != stored_head["kernel"][:, 2]).any()

    # A run whose only checkpoint is damaged initializes from the file again.
    largest = max((tmp_path / "run/checkpoints/2").rglob("*"), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    modes.train(config, tmp_path / "run")
    output = capsys.readouterr().out
    assert "training starts again" in output and f"starts from {path};" in output
    checkpoints = Checkpoints(tmp_path / "run/checkpoints")
    restarted = checkpoints.variables(2, state.TrainState(0, 0, like | {"head": head}, {}, (), ()))["params"]
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, restarted, final | {"head": head})

    # A trained run refuses another init_from.
    config.init_from = "phantom"
    with pytest.raises(InputError, match="init_from"):
        modes.train(config, tmp_path / "run")
    config.init_from = str(path)

    # A resumed run does not need the file; a new run does.
    path.unlink()
    modes.train(config, tmp_path / "run")
    output = capsys.readouterr().out
    assert "continuing from step 2" in output and "starts from" not in output
    assert run_directory.has_checkpoint(tmp_path / "run")
    with pytest.raises(InputError, match="give an existing .safetensors file"):
        modes.train(config, tmp_path / "another")


def test_classes_of_another_scheme_start_from_the_bone_in_front():
    knee, overlaps = anatomy.SCHEMES["knee"], anatomy.SCHEMES["knee_overlaps"]
    assert warm_start.shared_channels(knee, overlaps) == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 4, 6: 2}
    assert warm_start.shared_channels(overlaps, knee) == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}
    assert warm_start.shared_channels(overlaps, ("whole fibula", "hip")) == {0: 0, 1: 3}
    assert warm_start.shared_channels(knee, ("hip",)) == {}

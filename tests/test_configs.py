"""Every shipped config is locked, has no unread key, and runs."""

import importlib
import json
from pathlib import Path

import jax
import ml_collections
import numpy as np
import pytest

from configs import mitigations
from kneefair_jax import models, weights
from kneefair_jax.runs import modes
from kneefair_jax.runtime import run_directory
from tests import films, oai_tree

ROOT = Path(__file__).parents[1]
PARTS = {"default", "mitigations", "paper.recipe"}  # of other configs
NAMES = sorted(
    {
        ".".join(path.relative_to(ROOT / "configs").with_suffix("").parts)
        for path in (ROOT / "configs").rglob("*.py")
    }
    - PARTS
)

# What a source reads from disk.
TREES = {
    "folder": films.folder,
    "oai": lambda root: oai_tree.tree(root, 24),
    "siddiqui": lambda root: oai_tree.study(root, 24),
}


def shrunk(name, root):
    """The shipped config with small sizes and no other change."""
    config = importlib.import_module(f"configs.{name}").get_config()
    if config.model.name != "unet":
        # A ResNet takes long to compile; its shapes are worked out instead, and tests/models trains one.
        model = models.create(config.model, classes=9)
        image = jax.ShapeDtypeStruct((1, *config.data.size, 1), "float32")
        assert jax.eval_shape(model.init, jax.random.key(0), image)["params"]
        config.model.name = "unet"
    # The sizes at which other tests draw phantoms, one knee or two: all of them compile one program.
    config.data.size = (16, 16)
    if "phantom" in config.data:
        config.data.size = (48, 48) if config.data.phantom.bilateral else (32, 40)
    config.model.widths = (2, 4)
    if config.init_from:
        config.init_from = str(start(root.with_name("start.safetensors"), config.model))
    config.train.update({"steps": 2, "eval_every": 1, "log_every": 1, "batch_size": 8})
    config.report.bootstrap_draws = 40
    if config.data.source in TREES:
        config.data.root = str(TREES[config.data.source](root))
    if config.data.source == "oai":
        config.data.masks = f"{config.data.root}/masks"
    if "phantom" in config.data:
        config.data.phantom.patients = 40 if config.mitigation.groups == ("sex",) else 120
        if min(config.data.fractions) < 0.1:
            config.data.fractions = (0.7, 0.15, 0.15)
    if "external" in config.data:
        config.data.external = str(films.folder(root.with_name("external"), patient="q"))
    if config.data.source == "phantom" and "external" in config.data:
        config.data.external_structures = "whole femur,tibia"
    if "study" in config:
        methods = ("erm", "undersampled" if "paper" in name else "group_dro")
        config.study.update({"methods": methods, "seeds": (0,), "sweep_methods": ("erm",)})
        config.study.sweep = config.study.sweep[::2]  # what lies between takes runs of its own
        config.data.attributes = config.mitigation.groups
        config.study.bootstrap_draws = 40
    config.lock()
    return config


def start(path, fields):
    """Save a network of these fields, for `init_from`."""
    shapes = weights.variable_shapes(models.create(fields, classes=2), (8, 8, 1))
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, np.float32), shapes["params"])
    about = {"network": {**fields, "weights": ""}, "structures": ["bone"], "grid": [8, 8, 1]}
    weights.save_network(path, {"params": params}, about)
    return path


# A folder is fast; tests/runs has fast runs of the OAI's tree, and fast studies.
SLOW = {
    "finetune",
    "oai",
    "paper.oai",
    "paper.phantoms",
    "phantom_to_real",
    "phantom_weights",
    "quickstart",
    "siddiqui",
    "smoke",
    "study",
    "study_folder",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in NAMES]
)
def test_it_runs_two_steps_and_every_key_is_read(name, tmp_path, monkeypatch):
    config = shrunk(name, tmp_path / "films")
    leaves = set(run_directory.flatten(config.to_dict()))
    paths = record_reads(monkeypatch)
    run = tmp_path / "run"
    if "study" in config:
        modes.MODES["study"](config, run)
        assert (run / "report" / "index.html").stat().st_size > 10_000
        run = run / "runs" / config.study.methods[-1] / "seed_0"
    else:
        modes.train(config, run)
    report = json.loads((run / "report" / "report.json").read_text())
    assert report["run"]["step"] in (1, 2)
    groups = report["scores"]["dice"]["groups"]
    assert {name.split("=")[0] for name in groups} == set(config.data.attributes)
    assert (run / "report" / "index.html").stat().st_size > 10_000
    unread = {
        leaf for leaf in leaves if not any(path == leaf or leaf.startswith(path + ".") for path in paths)
    }
    # `fold` counts only with folds, `check` only in its mode; test_modes and test_check read them.
    assert unread <= {"data.fold", "check.against"}


def record_reads(monkeypatch):
    """Record the path of every leaf that is read; writing the config does not count."""
    paths: set[str] = set()
    cls = ml_collections.ConfigDict
    real_item, real_attribute = cls.__getitem__, cls.__getattr__
    places: dict[int, str] = {}

    def note(self, key, value):
        place = places.get(id(self), "")
        if isinstance(value, cls):
            places[id(value)] = f"{place}{key}."
        else:
            paths.add(f"{place}{key}")
        return value

    monkeypatch.setattr(cls, "__getitem__", lambda self, key: note(self, key, real_item(self, key)))
    monkeypatch.setattr(cls, "__getattr__", lambda self, key: note(self, key, real_attribute(self, key)))
    return paths


def test_the_methods_keep_their_order_by_which_shards_divide_a_study():
    """Another objective has its place between `error_bound` and `attribute_head`."""
    samplers = ["erm", "undersampled", "proportional", "equal_share", "oversampled"]
    objectives = ["reweighted", "group_balanced", "group_dro", "cvar_dro", "within_group_cvar"]
    objectives += ["gap_penalty", "vrex", "error_bound"]
    heads_and_stages = ["attribute_head", "adversarial", "moe", "group_specific", "fine_tuned", "distilled"]
    heads_and_stages += ["jtt", "last_layer", "sam"]
    assert list(mitigations.METHODS)[:13] == samplers + objectives
    assert list(mitigations.METHODS)[-9:] == heads_and_stages
    names = ["zeta", "vrex", "erm", "alpha", "group_dro", "reweighted"]
    expected = ["erm", "reweighted", "group_dro", "vrex", "alpha", "zeta"]
    assert mitigations.order_objectives(names) == expected


@pytest.mark.parametrize("name", [*sorted(PARTS), *NAMES])
def test_the_docstring_says_what_it_is(name):
    assert importlib.import_module(f"configs.{name}").__doc__.strip()


@pytest.mark.parametrize("name", NAMES)
def test_a_typo_is_an_error(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    config.lock()
    with pytest.raises(AttributeError, match="Did you mean"):
        config.train.stepz = 3

"""A finished run's selected checkpoint -> weights that `predict` takes, and a model card."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from kneefair_jax import models, weights
from kneefair_jax.errors import InputError
from kneefair_jax.export import model_card
from kneefair_jax.runtime import atomic, output_folder, run_directory
from kneefair_jax.training.checkpoint import Checkpoints
from kneefair_jax.training.state import TrainState

FOLDER = "export"  # of a run
NAME = "model"
GROUP_SPECIFIC = "group_specific"
# Heads that do nothing outside of training.
TRAINED_ALONE = ("none", "attribute_head", "adversarial")


def export(
    run: Path, out: Path, name: str = NAME, *, half: bool = False, license_id: str | None = None
) -> list[Path]:
    """Writes the network of a run, or, of a group-specific one, each group's, and one model card.

    Args:
        run: the run's folder, evaluated.
        out: where `{name}.safetensors` and `{name}.json` go, or `{name}_0`, `{name}_1`, ... of the
            groups, and `{name}.md`.
        name: of the files.
        half: float16.
        license_id: of the weights, for the card.

    Returns:
        The `.safetensors` files.

    Raises:
        InputError: the run is not finished, or its network needs what only training has.
    """
    output_folder.require_plain(run, run_directory.WRITTEN)
    output_folder.require_writable(out, "--out")
    output_folder.require_plain(out, (f"{name}*",))
    config, report, environment = (
        _json(run, name) for name in ("config.json", "report/report.json", "environment.json")
    )
    if config["mitigation"]["head"] not in TRAINED_ALONE:
        raise InputError(
            f"{run}: its network has the head {config['mitigation']['head']!r}, which needs the group of every image; "
            f"only networks with {', '.join(TRAINED_ALONE)} are exported"
        )
    structures = report["cohort"]["structures"]
    fields = {key: value for key, value in config["model"].items() if key != "weights"}
    grid = (*report["run"]["grid"], config["data"].get("channels", 1))
    model = models.create(fields, classes=len(structures) + 1)
    about = {
        "network": fields,
        "structures": structures,
        "grid": grid,
        "dice": _by_structure(report),
        "dice_external": _by_structure(report["external"]) if "external" in report else None,
        "run": {
            **{key: report["run"][key] for key in ("config", "fingerprint", "steps_in_all", "times")},
            **{key: environment[key] for key in ("command", "commit", "device", "started", "versions")},
        },
    }
    chosen = report["run"]["step"]
    members: dict[str, tuple[Path, int, str | None]] = {}
    if config["mitigation"]["schedule"] != GROUP_SPECIFIC:
        members[f"{name}{weights.SUFFIX}"] = (run, chosen, None)
    else:
        folders = sorted((run / "stages").glob("group_*"), key=lambda path: int(path.name.partition("_")[2]))
        for number, folder in enumerate(folders):
            group = _group_of(folder)
            members[f"{name}_{number}{weights.SUFFIX}"] = (folder, chosen[group], group)
    with output_folder.exclusive_lock(out, "--out", wait=True), atomic.staged(out) as stage:
        for file, (folder, step, its_group) in members.items():
            variables = _restored(folder, step, weights.expected(model, grid))
            its_own = about | {
                "group": its_group,
                "step": step,
                "parameters": models.count(variables["params"]),
            }
            weights.save_network(stage / file, variables, its_own, half=half)
        text = model_card.card(
            name, config, report, environment, parameters=its_own["parameters"], license_id=license_id
        )
        atomic.write_text(stage / f"{name}.md", text)
    return [out / file for file in members]


def _json(run: Path, name: str) -> dict[str, Any]:
    try:
        return json.loads((run / name).read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{run / name} cannot be read ({error}); give the folder of a finished run, or finish it with "
            "launch.py --mode=evaluate"
        ) from error


def _by_structure(scored: dict[str, Any]) -> dict[str, Any]:
    """Dice on test cases, overall and by group: mean, interval, patients and cases."""
    kept = ("mean", "interval", "patients", "cases")

    def means(entry: dict[str, Any]) -> dict[str, Any]:
        entries = {"all": entry["overall"], **entry["groups"]}
        return {group: {key: value[key] for key in kept} for group, value in entries.items()}

    return {name: means(entry) for name, entry in scored["scores"]["dice"]["structures"].items()}


def _group_of(folder: Path) -> str:
    """Whose model a stage's folder holds: it was validated on that group alone."""
    checkpoints = Checkpoints(folder / "checkpoints")
    (group,) = checkpoints.records()[0]["groups"]
    checkpoints.close()
    return group


def _restored(folder: Path, step: int, shapes: dict[str, Any]) -> dict[str, Any]:
    """The variables of the bare network; parts that only training uses stay where they are."""
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    placed = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), shapes)
    checkpoints = Checkpoints(folder / "checkpoints")
    like = TrainState(jnp.uint32(0), jnp.int32(0), placed["params"], placed["batch_stats"], (), ())
    variables = checkpoints.variables(step, like)
    checkpoints.close()
    return {name: tree for name, tree in variables.items() if traverse_util.flatten_dict(tree)}

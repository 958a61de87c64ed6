"""A finished run's selected checkpoint -> weights that `predict` takes, and a model card."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from kneefair_jax import models, weights
from kneefair_jax.errors import InputError
from kneefair_jax.export import model_card
from kneefair_jax.runtime import atomic, checked_files, output_folder, run_directory, run_files
from kneefair_jax.runtime.schema import Anything, Omittable, Table, Text, find_fault
from kneefair_jax.training.checkpoint import Checkpoints
from kneefair_jax.training.state import TrainState
from kneefair_jax.weights.network import CHANNELS, FITS, NETWORK

FOLDER = "export"  # of a run
NAME = "model"
GROUP_SPECIFIC = "group_specific"
# Heads that do nothing outside of training.
TRAINED_ALONE = ("none", "attribute_head", "adversarial")
_LONGEST_NAME = 100  # characters
_TEXT = Text(100_000, printable=False)
_METHOD = Table({"name": _TEXT}, Anything())
# What of these files is read; fields of other versions may be missing.
_CONFIG = Table(
    {
        "mitigation": Table({"head": _METHOD, "schedule": _METHOD}, Anything()),
        "model": NETWORK,
        "data": Table({"channels": Omittable(CHANNELS), "source": Omittable(_TEXT)}, Anything()),
    },
    Anything(),
)
_ENVIRONMENT = Table({**run_files.ENVIRONMENT.fields, "started": _TEXT}, Anything())


def export(
    run: Path,
    out: Path,
    name: str = NAME,
    *,
    half: bool = False,
    fit: str = FITS[0],
    license_id: str | None = None,
) -> list[Path]:
    """Writes the network of a run, or, of a group-specific one, each group's, and one model card.

    Args:
        run: the run's folder, evaluated.
        out: where `{name}.safetensors` and `{name}.json` go, or `{name}_0`, `{name}_1`, ... of the
            groups, and `{name}.md`.
        name: of the files.
        half: float16.
        fit: how `predict` brings films to the working grid, of `weights.FITS`.
        license_id: of the weights, for the card.

    Returns:
        The `.safetensors` files.

    Raises:
        InputError: the run is not finished, or its network needs what only training has.
    """
    if (
        name in ("", ".", "..")
        or name != Path(name).name
        or not name.isprintable()
        or len(name) > _LONGEST_NAME
    ):
        raise InputError(
            f"--name {name!r}: give a file name without a folder, of 1 to {_LONGEST_NAME} characters"
        )
    output_folder.require_regular_files(run, run_directory.OUTPUTS)
    output_folder.require_writable(out, "--out")
    output_folder.require_regular_files(out, (f"{name}*",))
    remedy = "give the folder of a finished run"
    run_files.read_config(run / "config.json", remedy)  # refuses the layout of an earlier version
    config = checked_files.read_json(run / "config.json", _CONFIG, remedy)
    report = run_files.read_report(run / "report" / "report.json", run_files.EXPORTED)
    environment = checked_files.read_json(run / "environment.json", _ENVIRONMENT, remedy)
    if (head := config["mitigation"]["head"]["name"]) not in TRAINED_ALONE:
        raise InputError(
            f"{run}: its network has the head {head!r}, which needs the group of every image; "
            f"only networks with {', '.join(TRAINED_ALONE)} are exported"
        )
    scored = report["cohort"]["structures"]
    structures = report["run"].get("classes", scored)
    fields = {key: value for key, value in config["model"].items() if key != "weights"}
    _require_scored(run, report, scored)
    grid = (*report["run"]["grid"], config["data"].get("channels", 1))
    model = models.create(fields, classes=len(structures) + 1)
    about = {
        "network": fields,
        "structures": structures,
        "grid": grid,
        "fit": fit,
        "dice": _by_structure(report),
        "dice_external": _by_structure(report["external"]) if "external" in report else None,
        "run": {
            **{key: report["run"].get(key) for key in ("config", "fingerprint", "steps_in_all", "times")},
            **{key: environment[key] for key in ("command", "commit", "device", "started", "versions")},
        },
    }
    members = _members(
        run, name, report["run"]["step"], config["mitigation"]["schedule"]["name"] == GROUP_SPECIFIC
    )
    with output_folder.exclusive_lock(out, "--out", wait=True), atomic.staging_folder(out) as stage:
        for file, (folder, step, its_group) in members.items():
            variables = _restored(folder, step, weights.variable_shapes(model, grid))
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


def _require_scored(run: Path, report: dict[str, Any], structures: list[str]) -> None:
    for scored in filter(None, (report, report.get("external"))):
        there = scored["scores"]["dice"]["structures"]
        if lacking := [one for one in scored.get("structures") or structures if one not in there]:
            raise InputError(
                f"{run / 'report' / 'report.json'}: the structure {lacking[0]!r} has no score; finish the run with "
                "launch.py --mode=evaluate"
            )
        if len({frozenset(entry["groups"]) for entry in there.values()}) > 1:
            raise InputError(
                f"{run / 'report' / 'report.json'}: structures with scores of different groups; evaluate it again"
            )


def _members(run: Path, name: str, chosen: Any, by_group: bool) -> dict[str, tuple[Path, int, str | None]]:
    """Return file name -> run folder, step and group of each network; the group is None for everybody."""
    schema = Table(other_fields=run_files.STEP) if by_group else run_files.STEP
    if fault := find_fault(chosen, schema, "run.step"):
        raise InputError(
            f"{run / 'report' / 'report.json'}: {fault.place} is {fault.value}, not {fault.expected}; finish the run "
            "with launch.py --mode=evaluate"
        )
    if not by_group:
        return {f"{name}{weights.SUFFIX}": (run, chosen, None)}
    members: dict[str, tuple[Path, int, str | None]] = {}
    folders = [
        folder for folder in (run / "stages").glob("group_*") if folder.name[len("group_") :].isdigit()
    ]
    for number, folder in enumerate(sorted(folders, key=lambda path: int(path.name[len("group_") :]))):
        group = _group_of(folder)
        if group not in chosen:
            raise InputError(
                f"{run / 'report' / 'report.json'}: run.step has no group {group!r}; evaluate it again"
            )
        members[f"{name}_{number}{weights.SUFFIX}"] = (folder, chosen[group], group)
    if not members:
        raise InputError(
            f"{run / 'stages'}: there is no folder of a group; give the folder of a finished run"
        )
    return members


def _by_structure(scored: dict[str, Any]) -> dict[str, Any]:
    """Dice on test cases, overall and by group: mean, interval, patients and cases."""
    kept = ("mean", "interval", "patients", "cases")

    def means(entry: dict[str, Any]) -> dict[str, Any]:
        entries = {"all": entry["overall"], **entry["groups"]}
        return {group: {key: value[key] for key in kept} for group, value in entries.items()}

    return {name: means(entry) for name, entry in scored["scores"]["dice"]["structures"].items()}


def _group_of(folder: Path) -> str:
    """Whose model a stage's folder holds: it was validated on that group alone."""
    with _checkpoints(folder) as checkpoints:
        names = {group for record in checkpoints.records() for group in record["groups"]}
    if len(names) != 1:
        raise InputError(
            f"{folder / 'checkpoints'}: scores of {len(names)} groups, where one group was validated"
        )
    return names.pop()


def _restored(folder: Path, step: int, shapes: dict[str, Any]) -> dict[str, Any]:
    """The variables of the bare network; parts that only training uses stay where they are."""
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    placed = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), shapes)
    like = TrainState(jnp.uint32(0), jnp.int32(0), placed["params"], placed["batch_stats"], (), ())
    with _checkpoints(folder) as checkpoints:
        variables = checkpoints.variables(step, like)
    return {name: tree for name, tree in variables.items() if traverse_util.flatten_dict(tree)}


def _checkpoints(folder: Path) -> Checkpoints:
    """Open the checkpoints of a run; orbax would make a folder that is missing."""
    if not (folder / "checkpoints").is_dir():
        raise InputError(f"{folder} holds no checkpoint; give the folder of a finished run")
    return Checkpoints(folder / "checkpoints")

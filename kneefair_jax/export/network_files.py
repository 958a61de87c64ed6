"""Export of a finished run's selected checkpoint: weights for `predict`, and a model card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import traverse_util

from kneefair_jax import anatomy, models, weights
from kneefair_jax.errors import InputError
from kneefair_jax.evaluation import case_table
from kneefair_jax.export import model_card
from kneefair_jax.export.model_card import EXTERNAL, OVERALL, TEST, Suppression, suppression
from kneefair_jax.predict import quality
from kneefair_jax.runtime import atomic, checked_files, output_folder, run_directory, run_files, written_files
from kneefair_jax.runtime.schema import Anything, Omittable, Table, Text, find_fault
from kneefair_jax.training.checkpoint import Checkpoints
from kneefair_jax.training.state import TrainState
from kneefair_jax.weights.network import CHANNELS, FITS, NETWORK

FOLDER = "export"  # of a run
NAME = "model"
GROUP_SPECIFIC = "group_specific"
# Heads that do nothing outside of training.
TRAINING_HEADS = ("none", "attribute_head", "adversarial")
# How images enter the network: `models.standardize`.
INPUT = {
    "range": "u8 / 255, or float in [0, 1]",
    "standardization": "each image: (x - mean) / (deviation + epsilon), over its height, width and channels",
    "epsilon": models.STANDARDIZE_EPSILON,
}
_MAX_NAME_LENGTH = 100
_RULE = "overall"  # the selection rule of configs without `select`
FALSE_ALARMS, MOST_FALSE_ALARMS = 0.01, 0.5
_TEXT = Text(100_000, printable=False)
_METHOD = Table({"name": _TEXT}, Anything())
_REMEDY = "give the folder of a finished run"
# The fields that the export reads; other versions may lack some.
_CONFIG = Table(
    {
        "mitigation": Table({"head": _METHOD, "schedule": _METHOD}, Anything()),
        "model": NETWORK,
        "data": Table({"channels": Omittable(CHANNELS), "source": Omittable(_TEXT)}, Anything()),
    },
    Anything(),
)
_ENVIRONMENT = Table({**run_files.ENVIRONMENT.fields, "started": _TEXT}, Anything())


class _Run(NamedTuple):
    """The checked files of a finished run."""

    config: dict[str, Any]
    report: dict[str, Any]
    environment: dict[str, Any]


class _Checkpoint(NamedTuple):
    """The selected checkpoint of one network.

    Attributes:
        folder: the run directory with its checkpoints.
        step: the selected step.
        group: the group that the network segments; None for all cases.
    """

    folder: Path
    step: int
    group: str | None


def export(
    run: Path,
    out: Path,
    name: str = NAME,
    *,
    half: bool = False,
    fit: str = FITS[0],
    license_id: str | None = None,
    overwrite: bool = False,
    false_alarms: float = FALSE_ALARMS,
) -> list[Path]:
    """Write the network of a run, or each group's network of a group-specific run, and one model card.

    Args:
        run: the run directory, evaluated.
        out: the folder of `{name}.safetensors` and `{name}.json`, or of `{name}_0`, `{name}_1`, ... of the
            groups, and of `{name}.md`.
        name: of the files.
        half: whether to round to float16.
        fit: how `predict` resizes radiographs to the working resolution, of `weights.FITS`.
        license_id: of the weights, for the card.
        overwrite: whether to replace earlier files of this name in `out`.
        false_alarms: share of the validation cases whose predicted Dice is below the limit of `predict`'s warnings.

    Returns:
        The `.safetensors` files.

    Raises:
        InputError: the folder holds files of this name, the run is not finished, or its network needs modules that
            only training has.
    """
    check_name(name)
    output_folder.require_regular_files(run, run_directory.OUTPUTS)
    output_folder.require_writable(out, "--out")
    kind = f"export-{name}"
    output_folder.require_regular_files(out, (f"{name}*", written_files.manifest(kind)))
    targets = [f"{name}{ending}" for ending in (weights.SUFFIX, ".json", ".md")]
    written_files.require_new(out, kind, "--out", targets, overwrite=overwrite)
    files = _read_run(run)
    if not 0 < false_alarms <= MOST_FALSE_ALARMS:
        raise InputError(
            f"--false-alarms {false_alarms}: give a share above 0 and at most {MOST_FALSE_ALARMS}"
        )
    about = _describe(files, fit)
    # Networks of single groups have few validation cases each; one calibration for all would favor a group.
    if files.config["mitigation"]["schedule"]["name"] != GROUP_SPECIFIC:
        about |= calibration(run, files.config.get("select", _RULE), false_alarms, about["structures"])
    checkpoints = _selected_checkpoints(run, name, files)
    model = models.create(about["network"], classes=len(about["structures"]) + 1)
    shapes = weights.variable_shapes(model, about["grid"])
    with written_files.replacement(out, kind, "--out", overwrite=overwrite) as stage:
        for file, checkpoint in checkpoints.items():
            variables = _restore(checkpoint, shapes)
            parameters = models.count(variables["params"])
            of_checkpoint = {"group": checkpoint.group, "step": checkpoint.step, "parameters": parameters}
            weights.save_network(stage / file, variables, about | of_checkpoint, half=half)
        text = model_card.model_card_text(name, *files, parameters=parameters, license_id=license_id)
        atomic.write_text(stage / f"{name}.md", text)
    return [out / file for file in checkpoints]


def calibration(run: Path, rule: str, false_alarms: float, structures: Sequence[str]) -> dict[str, Any]:
    """Return the field `quality` of a network's description, fitted on a run's validation cases.

    The cases selected the checkpoint, too, so their Dice is slightly high.

    Args:
        run: the run directory.
        rule: the selection rule of the checkpoint.
        false_alarms: as for `export`.
        structures: of the network; others, of masks that name them otherwise, are not calibrated.

    Returns:
        {"quality": ...}, or {} if no structure has enough cases (`quality.MIN_CASES`).
    """
    path = run / case_table.TABLE
    if not path.is_file():
        return {}
    table = case_table.read(path, (), ("dice",))
    if case_table.SOFT_DICE not in table:  # of an earlier version
        return {}
    table = case_table.read(path, (), ("dice", case_table.SOFT_DICE))
    cases = table[(table["split"] == "validation") & (table["model"] == rule)]
    names = [
        name
        for name, scores in cases.groupby("structure", observed=True, sort=False)
        if name in {*structures, *anatomy.whole_bones(structures)}
        and scores[[case_table.SOFT_DICE, "dice"]].notna().all(axis=1).sum() >= quality.MIN_CASES
    ]
    warned_structures = [name for name in names if quality.OPTIONAL_BONE not in name]
    if not warned_structures:
        return {}
    soft, dice = (
        {
            name: column.to_numpy(float)
            for name, column in cases.pivot(index="case_id", columns="structure", values=value)[names].items()
        }
        for value in (case_table.SOFT_DICE, "dice")
    )
    fields = quality.calibrate(soft, dice, soft, warned_structures, false_alarms)
    count = int(cases["case_id"].nunique())
    return {"quality": fields | {"cases": f"{count} validation cases of the run"}}


def exported(name: str | Path) -> str | Path:
    """Return a network's name; a run without weights is exported into its own folder first, with a line about it."""
    run = Path(name)
    if (run / "config.json").is_file() and not any((run / FOLDER).glob(f"*{weights.SUFFIX}")):
        folder = export(run, run / FOLDER)[0].parent
        print(
            f"exported: {folder}, as `kneefair export {run}` does; with --overwrite that command replaces it",
            flush=True,
        )
    return name


def copy(
    source: str | Path, out: Path, name: str, *, half: bool = False, overwrite: bool = False
) -> list[Path]:
    """Write the network of a shipped name or of a `.safetensors` file under a new name.

    Args:
        source: which network.
        out: as for `export`.
        name: of the files.
        half: whether to round to float16.
        overwrite: whether to replace earlier files of this name in `out`.

    Returns:
        The `.safetensors` files.
    """
    check_name(name)
    network = weights.load(source)
    output_folder.require_writable(out, "--out")
    kind = f"export-{name}"
    output_folder.require_regular_files(out, (f"{name}*", written_files.manifest(kind)))
    targets = [f"{name}{ending}" for ending in (weights.SUFFIX, ".json")]
    written_files.require_new(out, kind, "--out", targets, overwrite=overwrite, inputs=[Path(source)])
    with written_files.replacement(out, kind, "--out", overwrite=overwrite) as stage:
        weights.save_network(stage / targets[0], network.variables, network.about, half=half)
    return [out / targets[0]]


def check_name(name: str) -> None:
    """Refuse a name of files that would be in another folder.

    Raises:
        InputError: it is empty, too long, or has a folder or characters that cannot be printed.
    """
    if (
        name in ("", ".", "..")
        or name != Path(name).name
        or not name.isprintable()
        or len(name) > _MAX_NAME_LENGTH
    ):
        raise InputError(
            f"--name {name!r}: give a file name without a folder, of 1 to {_MAX_NAME_LENGTH} characters"
        )


def _read_run(run: Path) -> _Run:
    """Read the files of a run, and check that it is finished and that its network can be exported."""
    files = _Run(
        run_files.read_config(run / "config.json", _REMEDY, _CONFIG),
        run_files.read_report(run / "report" / "report.json", run_files.EXPORTED),
        checked_files.read_json(run / "environment.json", _ENVIRONMENT, _REMEDY),
    )
    if (head := files.config["mitigation"]["head"]["name"]) not in TRAINING_HEADS:
        raise InputError(
            f"{run}: its network has the head {head!r}, which needs the group of every image; "
            f"only networks with {', '.join(TRAINING_HEADS)} can be exported"
        )
    _require_scores(run, files.report)
    return files


def _describe(files: _Run, fit: str) -> dict[str, Any]:
    """Return the description of a run's networks, `weights.Network.about`, without the fields of each one."""
    config, report, environment = files
    hidden = suppression(report)
    external = report.get("external")
    return {
        "network": {key: value for key, value in config["model"].items() if key != "weights"},
        "structures": report["run"].get("classes", report["cohort"]["structures"]),
        "grid": (*report["run"]["grid"], config["data"].get("channels", 1)),
        "fit": fit,
        "input": INPUT,
        "dice": _dice_by_structure(report, hidden, TEST),
        "dice_external": _dice_by_structure(external, hidden, EXTERNAL) if external else None,
        "run": {
            **{key: report["run"].get(key) for key in ("config", "fingerprint", "steps_in_all", "times")},
            **{key: environment[key] for key in ("command", "commit", "device", "started", "versions")},
        },
    }


def _require_scores(run: Path, report: dict[str, Any]) -> None:
    """Refuse a report in which a structure has no score, or in which structures have different groups."""
    for cohort in filter(None, (report, report.get("external"))):
        scores = cohort["scores"]["dice"]["structures"]
        structures = cohort.get("structures") or report["cohort"]["structures"]
        if unscored := [structure for structure in structures if structure not in scores]:
            raise InputError(
                f"{run / 'report' / 'report.json'}: the structure {unscored[0]!r} has no score; finish the run with "
                "launch.py --mode=evaluate"
            )
        if len({frozenset(entry["groups"]) for entry in scores.values()}) > 1:
            raise InputError(
                f"{run / 'report' / 'report.json'}: structures have scores of different groups; evaluate the run again"
            )


def _selected_checkpoints(run: Path, name: str, files: _Run) -> dict[str, _Checkpoint]:
    """Return the selected checkpoint of each network, by the file to write."""
    step = files.report["run"]["step"]
    is_group_specific = files.config["mitigation"]["schedule"]["name"] == GROUP_SPECIFIC
    schema = Table(other_fields=run_files.STEP) if is_group_specific else run_files.STEP
    if fault := find_fault(step, schema, "run.step"):
        raise InputError(
            f"{run / 'report' / 'report.json'}: {fault.place} is {fault.value}, not {fault.expected}; finish the run "
            "with launch.py --mode=evaluate"
        )
    if not is_group_specific:
        return {f"{name}{weights.SUFFIX}": _Checkpoint(run, step, None)}
    prefix = "group_"
    folders = [
        folder for folder in (run / "stages").glob(f"{prefix}*") if folder.name.removeprefix(prefix).isdigit()
    ]
    checkpoints = {}
    for number, folder in enumerate(sorted(folders, key=lambda path: int(path.name.removeprefix(prefix)))):
        group = _validated_group(folder)
        if group not in step:
            raise InputError(
                f"{run / 'report' / 'report.json'}: run.step has no group {group!r}; evaluate the run again"
            )
        checkpoints[f"{name}_{number}{weights.SUFFIX}"] = _Checkpoint(folder, step[group], group)
    if not checkpoints:
        raise InputError(f"{run / 'stages'}: it has no folder of a group; {_REMEDY}")
    return checkpoints


def _dice_by_structure(cohort: dict[str, Any], hidden: Suppression, split: str) -> dict[str, Any]:
    """Return Dice on test cases by structure, overall and by group: mean, interval, patients and cases.

    Hidden counts are null, and so are the scores of small groups, as in the model card.
    """

    def entry_of(group: str, entry: dict[str, Any]) -> dict[str, Any]:
        is_hidden = (group, split) in hidden.hidden or 0 < (entry["patients"] or 0) < hidden.minimum
        is_small = (group, split) in hidden.small
        scores = {key: None if is_small else entry[key] for key in ("mean", "interval")}
        return scores | {key: None if is_hidden else entry[key] for key in ("patients", "cases")}

    def by_group(structure: dict[str, Any]) -> dict[str, Any]:
        entries = {OVERALL: structure["overall"], **structure["groups"]}
        return {group: entry_of(group, entry) for group, entry in entries.items()}

    structures = cohort["scores"]["dice"]["structures"]
    return {name: by_group(structure) for name, structure in structures.items()}


def _validated_group(folder: Path) -> str:
    """Return the group of the network in a stage's folder, which was validated on that group alone."""
    with _open_checkpoints(folder) as checkpoints:
        names: set[str] = {group for record in checkpoints.records() for group in record["groups"]}
    if len(names) != 1:
        raise InputError(
            f"{folder / 'checkpoints'}: scores of {len(names)} groups, but the network was validated on one"
        )
    return names.pop()


def _restore(checkpoint: _Checkpoint, shapes: dict[str, Any]) -> dict[str, Any]:
    """Return the variables of the network, without modules that only training uses."""
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    placed = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), shapes)
    like = TrainState(jnp.uint32(0), jnp.int32(0), placed["params"], placed["batch_stats"], (), ())
    with _open_checkpoints(checkpoint.folder) as checkpoints:
        variables = checkpoints.variables(checkpoint.step, like)
    return {name: tree for name, tree in variables.items() if traverse_util.flatten_dict(tree)}


def _open_checkpoints(folder: Path) -> Checkpoints:
    """Open the checkpoints of a run; orbax would create a missing folder."""
    if not (folder / "checkpoints").is_dir():
        raise InputError(f"{folder} has no checkpoint; {_REMEDY}")
    return Checkpoints(folder / "checkpoints")

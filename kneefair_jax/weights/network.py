"""A trained network as two files, `NAME.safetensors` and `NAME.json`: written, read and checked against each other.

Both may come from an unknown source, so the header of the tensors is checked before any tensor is in memory.
"""

import json
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from kneefair_jax import anatomy, models
from kneefair_jax.anatomy import VOID
from kneefair_jax.errors import InputError, describe
from kneefair_jax.runtime import atomic, checked_files, run_files
from kneefair_jax.runtime.schema import (
    Anything,
    Choice,
    Flag,
    Integer,
    ListOf,
    Nullable,
    Number,
    Omittable,
    Row,
    Table,
    Text,
    optional,
)

MOST_BYTES = 2**29  # of a file: 128 million weights as float32, five times those of the largest network
_TYPES = ("F16", "BF16", "F32", "F64")


SUFFIX = ".safetensors"
FOLDER = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}")))
EXPORT_FOLDER = "export"  # of a run directory, which `kneefair_jax.export` fills
_REMEDY = "copy or export both files again"

# The schema of `NAME.json`, which may come from another program.
SIDE = Integer(1, 4096)  # pixels along a side of the working grid
CHANNELS = Choice((1, 3))
NETWORK = Table(
    {
        "name": Choice(tuple(models.MODELS)),
        **optional(
            {
                "widths": ListOf(Integer(1, 4096), 1, 10),
                "convolutions": Integer(1, 10),
                "norm": Choice(("batch", "group")),
                "dtype": Choice(tuple(models.DTYPES)),
                "stem": Choice(tuple(models.STEMS)),
                "remat": Flag(),
                "weights": Text(printable=False),
            }
        ),
    }
)
STRUCTURES = ListOf(Text(200, non_empty=True), 1, VOID - 1, unique=True)
# How `predict` resizes an image of another shape to the working resolution: stretched, or padded to its aspect ratio.
FITS = ("stretch", "pad")
GRID = Row((SIDE, SIDE, CHANNELS))  # height, width, channels; `run.grid` of a report has no channels
_ODDS = Number(-1e6, 1e6)
# The calibration of predicted Dice: `predict.quality.Line` by structure, and `Total`.
LINE = Table({"intercept": _ODDS, "slope": Number(0, 1e6), "low": _ODDS, "high": _ODDS, "limit": _ODDS})
TOTAL = Table({"names": STRUCTURES, "limit": _ODDS, "suspect": _ODDS})
QUALITY = Table({"structures": Table(other_fields=LINE), "total": TOTAL}, other_fields=Anything())
# The other fields say how the network was trained and scored; no computation uses them.
DESCRIPTION = Table(
    {
        "network": NETWORK,
        "structures": STRUCTURES,
        "grid": GRID,
        "fit": Omittable(Choice(FITS)),
        "group": Omittable(Nullable(Text(200, non_empty=True))),
        "quality": Omittable(QUALITY),
    },
    other_fields=Anything(),
)


class Network(NamedTuple):
    """A trained network.

    Attributes:
        model: the Flax module.
        variables: f32 arrays, as `model.apply` takes them.
        about: `network` (the fields of `models.create`), `structures` (names of labels 1, 2, ...), `grid` (height,
            width and channels of its input), `fit` (one of `FITS`; absent, the first one), `group` (the group that it
            segments; None for all cases), `quality` (`QUALITY`; may be absent), and how it was trained and scored.
    """

    model: nn.Module
    variables: dict[str, Any]
    about: dict[str, Any]


def load(name: str | Path) -> Network:
    """Load a shipped network by its name, or a network from a `.safetensors` file.

    Raises:
        InputError: the file is missing, or the two files are damaged or do not match.
    """
    path = FOLDER / f"{name}{SUFFIX}" if name in NAMES else Path(name)
    if path.suffix != SUFFIX or not path.is_file():
        raise InputError(
            f"weights {str(name)!r}: give an existing {SUFFIX} file, or one of {', '.join(NAMES)}"
        )
    about_path = path.with_suffix(".json")
    about = checked_files.read_json(about_path, DESCRIPTION, _REMEDY)
    _check_quality(about, about_path)
    try:
        model = models.create(about["network"], classes=len(about["structures"]) + 1)
        variables = variable_shapes(model, about["grid"])
    except InputError as error:
        raise InputError(f"{about_path}: no such network ({error}); {_REMEDY}") from error
    flat = _read_tensors(path, variables)
    return Network(model, {"batch_stats": {}, **traverse_util.unflatten_dict(flat, sep="/")}, about)


def _check_quality(about: Mapping[str, Any], path: Path) -> None:
    """Refuse a calibration whose structures are not those of the network."""
    if "quality" not in about:
        return
    names = {*about["structures"], *anatomy.whole_bones(about["structures"])}
    lines = about["quality"]["structures"]
    if unknown := [name for name in lines if name not in names]:
        raise InputError(f"{path}: quality.structures has {unknown[0]!r}, which the network lacks; {_REMEDY}")
    if unknown := [name for name in about["quality"]["total"]["names"] if name not in lines]:
        raise InputError(f"{path}: quality.structures lacks {unknown[0]!r}; {_REMEDY}")


NetworksByGroup = dict[str | None, Network]  # the key None stands for all cases


def load_by_group(name: str | Path) -> NetworksByGroup:
    """Load the networks of a shipped name, of a `.safetensors` file, or of an exported run, by group.

    Raises:
        InputError: there are none, the run is not exported, its report selects other checkpoints than the exported
            ones, or two networks are for the same group.
    """
    folder = Path(name)
    if str(name) in NAMES or not folder.is_dir():
        network = load(name)
        return {network.about.get("group"): network}
    paths = sorted((folder / EXPORT_FOLDER).glob(f"*{SUFFIX}")) or sorted(folder.glob(f"*{SUFFIX}"))
    if not paths:
        raise InputError(f"{folder}: no exported weights; create them with: kneefair export {folder}")
    loaded = [load(path) for path in paths]
    networks = {network.about.get("group"): network for network in loaded}
    if len(networks) < len(loaded):
        raise InputError(
            f"{paths[0].parent}: {len(loaded)} networks for the same cases; name one of the files"
        )
    if paths[0].parent != folder:
        _require_selected(folder, networks)
    return networks


def _require_selected(run: Path, networks: NetworksByGroup) -> None:
    """Refuse exported networks of other steps than the run's report selects, after an evaluation by another rule."""
    path = run / "report" / "report.json"
    selected = run_files.read_report(path).get("run", {}).get("step") if path.exists() else None
    for group, network in networks.items():
        step = selected.get(group) if isinstance(selected, dict) else selected
        if step is not None and step != network.about.get("step"):
            raise InputError(
                f"{run / EXPORT_FOLDER}: has the weights of step {network.about.get('step')}, but {path} selects step "
                f"{step}; replace them with: kneefair export {run} --overwrite"
            )


def select_group(networks: NetworksByGroup, group: str | None) -> Network:
    """Return the network that segments a group's cases.

    Raises:
        InputError: each group has its own network, and `group` is none of them.
    """
    if None in networks:
        return networks[None]
    if group in networks:
        return networks[group]
    names = ", ".join(repr(name) for name in networks)
    subject = "no group" if group is None else f"group {group!r}"
    raise InputError(f"{subject}: these networks are each for one group; give one of {names} as group")


def save_network(
    path: Path, variables: Mapping[str, Any], about: Mapping[str, Any], *, half: bool = False
) -> None:
    """Write a network's two files, each atomically.

    Args:
        path: ends in `.safetensors`.
        variables: `params` and `batch_stats`.
        about: see `Network`.
        half: whether to round to float16: eleven significant bits, half of the bytes.

    Raises:
        InputError: a number is not finite, in float16 if `half`.
    """
    kind = np.float16 if half else np.float32
    with np.errstate(over="ignore"):  # reported below
        flat = {
            key: np.ascontiguousarray(leaf, kind)
            for key, leaf in traverse_util.flatten_dict(dict(variables), sep="/").items()
        }
    if nonfinite := [key for key, leaf in flat.items() if not np.isfinite(leaf).all()]:
        raise InputError(
            f"{path.name}: the network's {nonfinite[0]} is not finite as {kind.__name__}; no file was written"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(about, indent=2, sort_keys=True, allow_nan=False) + "\n"
    for target, content in ((path, save(flat)), (path.with_suffix(".json"), text.encode())):
        atomic.write_bytes(target, content)


def variable_shapes(model: nn.Module, grid: tuple[int, int, int]) -> dict[str, Any]:
    """Return a network's variables as `jax.ShapeDtypeStruct`, with `batch_stats`, which may be empty."""
    image = jax.ShapeDtypeStruct((1, *grid), np.float32)
    return {"batch_stats": {}, **jax.eval_shape(model.init, jax.random.key(0), image)}


def _read_tensors(path: Path, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the tensors of a network; all shapes are compared before the first tensor is read."""
    shapes = {key: leaf.shape for key, leaf in traverse_util.flatten_dict(variables, sep="/").items()}
    stored = tensor_shapes(path, _REMEDY)
    for key in sorted(shapes.keys() | stored.keys()):
        if shapes.get(key) != stored.get(key):
            raise InputError(
                f"{path}: the tensor {key} is {stored.get(key, 'absent')}, but the network of "
                f"{path.with_suffix('.json').name} has {shapes.get(key, 'none')}; export the run again"
            )
    flat = read_tensors(path, shapes, _REMEDY)
    if nonfinite := [key for key, tensor in flat.items() if not np.isfinite(tensor).all()]:
        raise InputError(f"{path}: the tensor {nonfinite[0]} is not finite; copy or export it again")
    return flat


def tensor_shapes(path: Path, remedy: str) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a file, by name, without reading a tensor.

    Args:
        path: a regular file, or a link to one.
        remedy: the end of the error message.

    Raises:
        InputError: the file is missing, is no regular file, is larger than `MOST_BYTES`, or holds a tensor that is not
            floating-point.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is {atomic.file_kind(status.st_mode)}, not a file; {remedy}")
        if status.st_size > MOST_BYTES:
            raise InputError(f"{path} is larger than {MOST_BYTES // 2**20} MiB; {remedy}")
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # not a dict
            types = {name: tensor.get_dtype() for name, tensor in slices.items()}
            tensor_shapes = {name: tuple(tensor.get_shape()) for name, tensor in slices.items()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({describe(error)}); {remedy}") from error
    if unusable := [name for name, kind in types.items() if kind not in _TYPES and tensor_shapes[name]]:
        raise InputError(
            f"{path}: the tensor {unusable[0]} is of the type {types[unusable[0]]}, not {', '.join(_TYPES)}; {remedy}"
        )
    return tensor_shapes


def read_tensors(path: Path, names: Collection[str], remedy: str) -> dict[str, np.ndarray]:
    """Return tensors as f32 arrays, by name.

    Args:
        path: a file that `shapes` accepts.
        names: the tensors to read.
        remedy: the end of the error message.

    Raises:
        InputError: a tensor cannot be read.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: np.asarray(file.get_tensor(name), np.float32) for name in names}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({describe(error)}); {remedy}") from error

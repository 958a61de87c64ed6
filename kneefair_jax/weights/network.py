"""A trained network as two files, `NAME.safetensors` and `NAME.json`: written, read and checked against each other."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util
from safetensors.numpy import save

from kneefair_jax import models
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic, json_files
from kneefair_jax.weights import tensors
from kneefair_jax.weights.description import DESCRIPTION

SUFFIX = ".safetensors"
FOLDER = Path(__file__).parent
_REMEDY = "copy or export both files again"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}")))


class Network(NamedTuple):
    """A trained network.

    Attributes:
        model: the function.
        variables: f32 arrays, as `model.apply` takes them.
        about: `network` (the fields of `models.create`), `structures` (names of labels 1, 2, ...), `grid` (H, W, C of
            its input), `fit` (of `description.FITS`; the first where it is absent), `group` (the one that it segments;
            None for everybody), and how it was made and scored.
    """

    model: nn.Module
    variables: dict[str, Any]
    about: dict[str, Any]


def load(name: str | Path) -> Network:
    """Loads a network that ships, by its name, or one from a `.safetensors` file.

    Raises:
        InputError: there is none, or the two files are damaged or do not belong together.
    """
    path = FOLDER / f"{name}{SUFFIX}" if name in NAMES else Path(name)
    if path.suffix != SUFFIX or not path.is_file():
        raise InputError(
            f"weights {str(name)!r}: give a {SUFFIX} file that there is, or one of {', '.join(NAMES)}"
        )
    about_path = path.with_suffix(".json")
    about = json_files.read(about_path, DESCRIPTION, _REMEDY)
    try:
        model = models.create(about["network"], classes=len(about["structures"]) + 1)
        variables = expected(model, about["grid"])
    except InputError as error:
        raise InputError(f"{about_path}: no such network ({error}); {_REMEDY}") from error
    flat = _read_fitting(path, variables)
    return Network(model, {"batch_stats": {}, **traverse_util.unflatten_dict(flat, sep="/")}, about)


def save_network(
    path: Path, variables: Mapping[str, Any], about: Mapping[str, Any], *, half: bool = False
) -> None:
    """Writes a network's two files, each whole or not at all.

    Args:
        path: ends in `.safetensors`.
        variables: `params` and `batch_stats`.
        about: see `Network`.
        half: whether numbers are rounded to float16: eleven bits, and half of the bytes.

    Raises:
        InputError: a number is not finite, or would not be as float16.
    """
    kind = np.float16 if half else np.float32
    with np.errstate(over="ignore"):  # said below
        flat = {
            key: np.ascontiguousarray(leaf, kind)
            for key, leaf in traverse_util.flatten_dict(dict(variables), sep="/").items()
        }
    if broken := [key for key, leaf in flat.items() if not np.isfinite(leaf).all()]:
        raise InputError(
            f"{path.name}: the network's {broken[0]} is not finite as {kind.__name__}; it is not written"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(about, indent=2, sort_keys=True, allow_nan=False) + "\n"
    for target, content in ((path, save(flat)), (path.with_suffix(".json"), text.encode())):
        atomic.write_bytes(target, content)


def expected(model: nn.Module, grid: tuple[int, int, int]) -> dict[str, Any]:
    """The variables of a network as `jax.ShapeDtypeStruct`, `batch_stats` included where there are none."""
    image = jax.ShapeDtypeStruct((1, *grid), np.float32)
    return {"batch_stats": {}, **jax.eval_shape(model.init, jax.random.key(0), image)}


def _read_fitting(path: Path, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the tensors of a network; their shapes are compared before any of them is read."""
    wanted = {key: leaf.shape for key, leaf in traverse_util.flatten_dict(variables, sep="/").items()}
    stored = tensors.shapes(path, _REMEDY)
    for key in sorted(wanted.keys() | stored.keys()):
        if wanted.get(key) != stored.get(key):
            raise InputError(
                f"{path}: the tensor {key} is {stored.get(key, 'absent')}, and the network of "
                f"{path.with_suffix('.json').name} has {wanted.get(key, 'none')}; export the run again"
            )
    flat = tensors.read(path, wanted, _REMEDY)
    if broken := [key for key, tensor in flat.items() if not np.isfinite(tensor).all()]:
        raise InputError(f"{path}: the tensor {broken[0]} is not finite; copy or export it again")
    return flat

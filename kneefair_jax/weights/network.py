"""A trained network as two files, `NAME.safetensors` and `NAME.json`: written, read and checked against each other."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from kneefair_jax import models
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic

SUFFIX = ".safetensors"
FOLDER = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}")))


class Network(NamedTuple):
    """A trained network.

    Attributes:
        model: the function.
        variables: f32 arrays, as `model.apply` takes them.
        about: `network` (the fields of `models.create`), `structures` (names of labels 1, 2, ...), `grid` (H, W, C of
            its input), `group` (the one that it segments; None for everybody), and how it was made and scored.
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
    if about_path.exists() and not about_path.is_file():  # a pipe would block whoever opens it
        raise InputError(f"{about_path}: not a file; copy or export {path.name} and it again")
    try:
        about = json.loads(about_path.read_text())
        flat = {key: tensor.astype(np.float32) for key, tensor in load_file(path).items()}
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"{path} and {about_path.name} beside it cannot be read ({error}); copy or export both again"
        ) from error
    if not isinstance(about, dict) or (missing := {"network", "structures", "grid"} - about.keys()):
        lacking = sorted(missing) if isinstance(about, dict) else "all it should say"
        raise InputError(f"{about_path}: lacks {lacking}; export the run again")
    model = models.create(about["network"], classes=len(about["structures"]) + 1)
    _check_fit(path, flat, expected(model, about["grid"]))
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


def _check_fit(path: Path, flat: Mapping[str, np.ndarray], variables: Mapping[str, Any]) -> None:
    wanted = {key: leaf.shape for key, leaf in traverse_util.flatten_dict(variables, sep="/").items()}
    there = {key: tensor.shape for key, tensor in flat.items()}
    for key in sorted(wanted.keys() | there.keys()):
        if wanted.get(key) != there.get(key):
            raise InputError(
                f"{path}: the tensor {key} is {there.get(key, 'absent')}, and the network of its json has "
                f"{wanted.get(key, 'none')}; export the run again"
            )
    if broken := [key for key, tensor in flat.items() if not np.isfinite(tensor).all()]:
        raise InputError(f"{path}: the tensor {broken[0]} is not finite; copy or export it again")

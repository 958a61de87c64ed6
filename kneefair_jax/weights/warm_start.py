"""A trained network's variables as the start of another run: `init_from`, which the structures need not share."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.errors import InputError
from kneefair_jax.weights import checkpoints
from kneefair_jax.weights.network import Network

HEAD = "head"  # the last layer of every network
SHARED = ("widths", "convolutions", "norm")


def find(name: str, model: Mapping[str, Any], channels: int) -> Network:
    """The network of a name that ships, of a `.safetensors` file, or of an exported run's folder.

    Args:
        name: `config.init_from`.
        model: `config.model`, which has to describe the same network.
        channels: of the input.

    Raises:
        InputError: there is none, there are several, or it is another network than the config's.
    """
    if model.get("weights"):
        raise InputError(
            f"config.init_from={name!r} and config.model.weights={model['weights']!r} are two starts; set one to ''"
        )
    found = checkpoints.find(name)
    if len(found) > 1:
        raise InputError(
            f"config.init_from={name!r}: its networks are each for one group; name one .safetensors file of them"
        )
    (network,) = found.values()
    theirs = {
        "model.name": network.about["network"]["name"],
        **{f"model.{field}": getattr(network.model, field) for field in SHARED},
        "data.channels": network.about["grid"][2],
    }
    ours = {
        "model.name": model["name"],
        **{f"model.{field}": model[field] for field in SHARED if field in model},
        "data.channels": channels,
    }
    differing = {field: value for field, value in ours.items() if _plain(value) != _plain(theirs[field])}
    if differing:
        told = ", ".join(f"{field} is {value!r}" for field, value in differing.items())
        flags = " ".join(f'--config.{field}="{theirs[field]}"' for field in differing)
        raise InputError(
            f"config.init_from={name!r} is another network than the config's, where {told}; give {flags}, or '' as "
            "init_from to start at random"
        )
    return network


def applied(network: Network, structures: Sequence[str], variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a run, all that the trained network has taken from it.

    The last layer is taken for the background and for each structure that both know, a union as the first of its
    classes and an overlap class as the bone in front, and stays as it was drawn for the others; where no structure is
    known, it stays altogether. So do parts that only the run has (`mitigation.head`).

    Args:
        network: of `find`.
        structures: names of labels 1, 2, ... of the run.
        variables: `params` and `batch_stats` as drawn, arrays; new ones are placed as they are.
    """
    channels = shared_channels(network.about["structures"], structures)

    def last_layer(drawn: jax.Array, trained: np.ndarray) -> np.ndarray:
        leaf = np.array(drawn)
        for here, there in channels.items():
            leaf[..., here] = trained[..., there]
        return leaf

    result = {}
    for kind, drawn in variables.items():
        taken = dict(network.variables.get(kind, {}))
        if HEAD in taken:
            taken[HEAD] = jax.tree.map(last_layer, drawn[HEAD], taken[HEAD])
        places = {name: jax.tree.map(lambda leaf: leaf.sharding, drawn[name]) for name in taken}
        # A copy: steps donate their state, and other stages may start from the same network.
        result[kind] = {**drawn, **jax.device_put(taken, places, may_alias=False)}
    return result


def shared_channels(trained: Sequence[str], structures: Sequence[str]) -> dict[int, int]:
    """Output channel here -> output channel of the trained network; empty where no structure is shared."""
    trained_as = {name: next(filter(list(trained).__contains__, _similar(name)), None) for name in structures}
    same = {
        label: 1 + list(trained).index(other)
        for label, (_, other) in enumerate(trained_as.items(), start=1)
        if other is not None
    }
    return {0: 0, **same} if same else {}


def _similar(name: str) -> tuple[str, ...]:
    """The classes whose channel a structure may start from: itself, the first of a union, the front of an overlap."""
    unions = anatomy.UNIONS.get(name, ())
    return (name, *(classes[0] for classes in unions), *anatomy.OVERLAPS.get(name, ())[:1])


def told(name: str, network: Network, structures: Sequence[str]) -> str:
    """One line: what a run starts from, and of which structures the last layer is new."""
    channels = shared_channels(network.about["structures"], structures)
    new = [structure for label, structure in enumerate(structures, start=1) if label not in channels]
    return f"starts from {name}" + (f"; the last layer is drawn anew for {', '.join(new)}" if new else "")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

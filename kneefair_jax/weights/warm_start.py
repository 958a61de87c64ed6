"""Initialization from a trained network (`init_from`), whose structures may differ from the run's."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.errors import InputError
from kneefair_jax.weights.network import Network, load_by_group

HEAD = "head"  # the last layer of every network
SHARED = ("widths", "convolutions", "norm")


def find(name: str, model: Mapping[str, Any], channels: int) -> Network:
    """Load the network of a shipped name, of a `.safetensors` file, or of an exported run, and check that it fits.

    Args:
        name: `config.init_from`.
        model: `config.model`, which must describe the same network.
        channels: of the input.

    Raises:
        InputError: there is no network, there are several, or it differs from the config's.
    """
    if model.get("weights"):
        raise InputError(
            f"config.init_from={name!r} and config.model.weights={model['weights']!r} both initialize the network; "
            "set one to ''"
        )
    networks = load_by_group(name)
    if len(networks) > 1:
        raise InputError(
            f"config.init_from={name!r}: its networks are each for one group; name one of its .safetensors files"
        )
    (network,) = networks.values()
    pretrained = {
        "model.name": network.about["network"]["name"],
        **{f"model.{field}": getattr(network.model, field) for field in SHARED},
        "data.channels": network.about["grid"][2],
    }
    config = {
        "model.name": model["name"],
        **{f"model.{field}": model[field] for field in SHARED if field in model},
        "data.channels": channels,
    }
    differences = {
        field: value for field, value in config.items() if _as_list(value) != _as_list(pretrained[field])
    }
    if differences:
        values = ", ".join(f"{field} is {value!r}" for field, value in differences.items())
        flags = " ".join(f'--config.{field}="{pretrained[field]}"' for field in differences)
        raise InputError(
            f"config.init_from={name!r} is another network than the config's, where {values}; give {flags}, or '' as "
            "init_from to initialize at random"
        )
    return network


def init_from_pretrained(
    network: Network, structures: Sequence[str], variables: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a run's variables with the values of a trained network wherever the network has them.

    The last layer takes the channels of the background and of each structure that both have; a union takes the channel
    of its first class, and an overlap class that of the bone in front. The other channels keep their initial values; if
    no structure is shared, the entire layer does. Modules that only the run has (`mitigation.head`) do too.

    Args:
        network: the result of `find`.
        structures: names of labels 1, 2, ... of the run.
        variables: initial `params` and `batch_stats`, arrays; the new arrays have the same sharding.
    """
    channels = shared_channels(network.about["structures"], structures)

    def last_layer(initial: jax.Array, trained: np.ndarray) -> np.ndarray:
        leaf = np.array(initial)
        for channel, trained_channel in channels.items():
            leaf[..., channel] = trained[..., trained_channel]
        return leaf

    result = {}
    for collection, initial in variables.items():
        trained = dict(network.variables.get(collection, {}))
        if HEAD in trained:
            trained[HEAD] = jax.tree.map(last_layer, initial[HEAD], trained[HEAD])
        shardings = {name: jax.tree.map(lambda leaf: leaf.sharding, initial[name]) for name in trained}
        # A copy: steps donate their state, and other stages may start from the same network.
        result[collection] = {**initial, **jax.device_put(trained, shardings, may_alias=False)}
    return result


def shared_channels(trained: Sequence[str], structures: Sequence[str]) -> dict[int, int]:
    """Map the run's output channels to those of the trained network; empty if no structure is shared."""
    trained_as = {name: next(filter(list(trained).__contains__, _similar(name)), None) for name in structures}
    channels = {
        label: 1 + list(trained).index(trained_name)
        for label, trained_name in enumerate(trained_as.values(), start=1)
        if trained_name is not None
    }
    return {0: 0, **channels} if channels else {}


def _similar(name: str) -> tuple[str, ...]:
    """The classes whose channel a structure may start from: itself, the first of a union, the front of an overlap."""
    unions = anatomy.UNIONS.get(name, ())
    return (name, *(classes[0] for classes in unions), *anatomy.OVERLAPS.get(name, ())[:1])


def describe(name: str, network: Network, structures: Sequence[str]) -> str:
    """Return one line with the network that initializes a run, and the structures whose last layer is new."""
    channels = shared_channels(network.about["structures"], structures)
    new = [structure for label, structure in enumerate(structures, start=1) if label not in channels]
    return f"starts from {name}" + (f"; the last layer starts at random for {', '.join(new)}" if new else "")


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

"""Initialization from a trained network (`init_from`), whose structures may differ from the run's, or from ImageNet.

`load_imagenet` reads the weights of a ResNet encoder from a file (`model.weights`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kneefair_jax import anatomy
from kneefair_jax.errors import InputError
from kneefair_jax.weights.network import Network, load_by_group, read_tensors, tensor_shapes

HEAD = "head"  # the last layer of every network
SHARED = ("widths", "convolutions", "norm", "stem")
# ImageNet weights: leaf of the network -> name in a torch state dict.
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_TO_SAFETENSORS = (
    "safetensors.torch.save_file(torch.load(PATH), NEW_PATH) writes the safetensors of a torch state dict"
)
_OTHER_NETWORK = "resnet18_unet takes the weights of a ResNet-18, resnet34_unet those of a ResNet-34"


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


def load_imagenet(path: str | Path, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of a `ResNetUNet` with those of its encoder from a file; the decoder's do not change.

    The file is a state dict in safetensors, named as in torchvision or timm (`layer1.0.conv1.weight`), or as in
    segmentation_models_pytorch (`encoder.layer1.0.conv1.weight`). Kernels change from OIHW to HWIO. If the network
    takes one channel, the first kernel is summed over its three channels, which equals repeating a gray image three
    times.

    ImageNet training subtracts (0.485, 0.456, 0.406) and divides by (0.229, 0.224, 0.225), the mean and deviation of
    all photographs. Here every image is standardized by its own mean and deviation, so intensities have the scale that
    the weights expect; the difference is a constant of at most 0.2 deviations per channel.

    Args:
        path: the state dict, in safetensors.
        variables: `params` and `batch_stats`, arrays or `jax.ShapeDtypeStruct`; new arrays have the same sharding.

    Raises:
        InputError: the file cannot be read, lacks a tensor, or has one of another shape or one that the network lacks.
    """
    state = _read_state(path)
    unused = {name for name in state if not name.startswith("fc.")}

    def pretrained_leaf(path_in_tree: tuple[jax.tree_util.DictKey, ...], leaf: Any) -> jax.Array:
        name = _tensor_name([key.key for key in path_in_tree])
        if name not in state:
            raise InputError(f"{path}: there is no tensor {name}; {_OTHER_NETWORK}")
        unused.discard(name)
        tensor = np.asarray(state[name])
        if tensor.ndim == 4:
            tensor = tensor.transpose(2, 3, 1, 0)
            if leaf.shape[2] == 1:
                tensor = tensor.sum(2, keepdims=True)
        if tensor.shape != leaf.shape:
            raise InputError(
                f"{path}: the tensor {name} of shape {state[name].shape} does not fit the network's array of shape "
                f"{leaf.shape}; {_OTHER_NETWORK}"
            )
        placed: jax.Array = jax.device_put(tensor, leaf.sharding)
        return placed

    result = {
        kind: {**tree, "encoder": jax.tree_util.tree_map_with_path(pretrained_leaf, tree["encoder"])}
        if "encoder" in tree
        else tree
        for kind, tree in variables.items()
    }
    if unused:
        raise InputError(f"{path}: the network has no place for the tensor {min(unused)}; {_OTHER_NETWORK}")
    return result


def _read_state(path: str | Path) -> dict[str, np.ndarray]:
    if not Path(path).exists():
        raise InputError(
            f"config.model.weights={str(path)!r}: there is no such file; give one, or '' to initialize at random"
        )
    shapes = tensor_shapes(Path(path), _TO_SAFETENSORS)
    state = read_tensors(
        Path(path), [name for name in shapes if not name.endswith("num_batches_tracked")], _TO_SAFETENSORS
    )
    prefixed = {
        name.removeprefix("encoder."): tensor for name, tensor in state.items() if name.startswith("encoder.")
    }
    return prefixed or state


def _tensor_name(keys: list[str]) -> str:
    """`["layer1_0", "bn1", "BatchNorm_0", "scale"]` -> `layer1.0.bn1.weight`."""
    *modules, leaf = (part for part in keys if part != "BatchNorm_0")
    return ".".join([*(module.replace("_", ".") for module in modules), _LEAVES[leaf]])

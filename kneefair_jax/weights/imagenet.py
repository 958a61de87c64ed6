"""ImageNet weights of a ResNet encoder, loaded from a file into the network's variables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kneefair_jax.errors import InputError
from kneefair_jax.weights import network

LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_REMEDY = (
    "safetensors.torch.save_file(torch.load(PATH), NEW_PATH) writes the safetensors of a torch state dict"
)
REMEDY = "resnet18_unet takes the weights of a ResNet-18, resnet34_unet those of a ResNet-34"


def load(path: str | Path, variables: Mapping[str, Any]) -> dict[str, Any]:
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
    state = _read(path)
    unused = {name for name in state if not name.startswith("fc.")}

    def pretrained_leaf(path_in_tree: tuple[jax.tree_util.DictKey, ...], leaf: Any) -> jax.Array:
        name = _tensor_name([key.key for key in path_in_tree])
        if name not in state:
            raise InputError(f"{path}: there is no tensor {name}; {REMEDY}")
        unused.discard(name)
        tensor = np.asarray(state[name])
        if tensor.ndim == 4:
            tensor = tensor.transpose(2, 3, 1, 0)
            if leaf.shape[2] == 1:
                tensor = tensor.sum(2, keepdims=True)
        if tensor.shape != leaf.shape:
            raise InputError(
                f"{path}: the tensor {name} of shape {state[name].shape} does not fit the network's array of shape "
                f"{leaf.shape}; {REMEDY}"
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
        raise InputError(f"{path}: the network has no place for the tensor {min(unused)}; {REMEDY}")
    return result


def _read(path: str | Path) -> dict[str, np.ndarray]:
    if not Path(path).exists():
        raise InputError(
            f"config.model.weights={str(path)!r}: there is no such file; give one, or '' to initialize at random"
        )
    shapes = network.tensor_shapes(Path(path), _REMEDY)
    state = network.read_tensors(
        Path(path), [name for name in shapes if not name.endswith("num_batches_tracked")], _REMEDY
    )
    prefixed = {
        name.removeprefix("encoder."): tensor for name, tensor in state.items() if name.startswith("encoder.")
    }
    return prefixed or state


def _tensor_name(keys: list[str]) -> str:
    """`["layer1_0", "bn1", "BatchNorm_0", "scale"]` -> `layer1.0.bn1.weight`."""
    *modules, leaf = (part for part in keys if part != "BatchNorm_0")
    return ".".join([*(module.replace("_", ".") for module in modules), LEAVES[leaf]])

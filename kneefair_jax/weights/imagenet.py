"""ImageNet weights of a ResNet, from a file on disk into the network's variables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kneefair_jax.errors import InputError
from kneefair_jax.weights import tensors

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
    """The variables of a `ResNetUNet`, those of its encoder taken from a file; the decoder's stay as they are.

    The file is a state dict in safetensors, named as in torchvision or timm (`layer1.0.conv1.weight`), or as in
    segmentation_models_pytorch (`encoder.layer1.0.conv1.weight`). Kernels change from OIHW to HWIO. Where the network
    takes one channel, the first kernel is summed over its three: the same as to show the network a grey image three
    times.

    ImageNet's networks saw channels less (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225): mean and deviation of all
    photographs. Here every image is standardised by its own, so intensities have the scale that the weights expect;
    what differs is a constant of at most 0.2 deviations a channel, and each film's own exposure, which drops out.

    Args:
        path: of the file.
        variables: `params` and `batch_stats`, arrays or `jax.ShapeDtypeStruct`; new arrays are placed as the old ones.

    Raises:
        InputError: the file cannot be read, lacks a tensor, has one of another shape or one that has no place here.
    """
    state = _read(path)
    unused = {name for name in state if not name.startswith("fc.")}

    def replaced(place: tuple[jax.tree_util.DictKey, ...], leaf: Any) -> jax.Array:
        name = _name([key.key for key in place])
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
        return jax.device_put(tensor, leaf.sharding)

    result = {
        kind: {**tree, "encoder": jax.tree_util.tree_map_with_path(replaced, tree["encoder"])}
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
            f"config.model.weights={str(path)!r}: there is no such file; give one, or '' to start at random"
        )
    found = tensors.shapes(Path(path), _REMEDY)
    state = tensors.read(
        Path(path), [name for name in found if not name.endswith("num_batches_tracked")], _REMEDY
    )
    prefixed = {
        name.removeprefix("encoder."): tensor for name, tensor in state.items() if name.startswith("encoder.")
    }
    return prefixed or state


def _name(place: list[str]) -> str:
    """`["layer1_0", "bn1", "BatchNorm_0", "scale"]` -> `layer1.0.bn1.weight`."""
    *modules, leaf = (part for part in place if part != "BatchNorm_0")
    return ".".join([*(module.replace("_", ".") for module in modules), LEAVES[leaf]])

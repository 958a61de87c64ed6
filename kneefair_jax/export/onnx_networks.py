"""The networks of `models` as ONNX nodes, from their structure and their weights.

Tensors are [N, C, H, W], where JAX has [N, H, W, C]. Batch normalization is part of the convolution before it, whose
output it scales. Numbers are float32, whatever type the network computes with.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from kneefair_jax.export.onnx_graph import Graph, Tensor
from kneefair_jax.export.segmentation import as_half
from kneefair_jax.models.resnet import ResNetUNet
from kneefair_jax.models.unet import BATCH_NORM_EPSILON, STEMS, UNet
from kneefair_jax.weights import Network

GROUP_NORM_EPSILON = 1e-6  # of `flax.linen.GroupNorm`
Weights = Mapping[str, Any]  # a module's `params` or `batch_stats`


def logits(graph: Graph, network: Network, image: Tensor, half: bool) -> Tensor:
    """Return f32[N, classes, H, W] of standardized f32[N, C, H, W] as large as the network's grid.

    Args:
        graph: to which nodes are added.
        network: a U-Net or a ResNet U-Net.
        image: of the graph.
        half: whether the file stores weights as float16.
    """
    height, width, _ = network.about["grid"]
    model = network.model
    variables = network.variables["params"], network.variables.get("batch_stats", {})
    layers = _Layers(graph, half)
    if isinstance(model, UNet):
        result = _unet(layers, model, variables, image, (height, width))
    else:
        assert isinstance(model, ResNetUNet)
        result = _resnet_unet(layers, model, variables, image, (height, width))
    return result.slice(0, height, 2).slice(0, width, 3)


class _Layers:
    """Layers with weights; those of several modules share a graph."""

    def __init__(self, graph: Graph, half: bool):
        self.graph, self._half = graph, half

    def weight(self, value: np.ndarray) -> Tensor:
        """Return weights, as the file stores them, in float32."""
        if not self._half:
            return self.graph.constant(value, np.float32)
        return self.graph.constant(as_half(value), np.float16).cast(np.float32)

    def convolution(
        self, x: Tensor, kernel: np.ndarray, bias: np.ndarray | None = None, stride: int = 1
    ) -> Tensor:
        """Convolve with a kernel f32[k, k, C, features], padded equally on all sides."""
        inputs = [x, self.weight(np.transpose(kernel, (3, 2, 0, 1)))]
        if bias is not None:
            inputs.append(self.weight(bias))
        pad = kernel.shape[0] // 2
        return self.graph.node("Conv", *inputs, pads=[pad] * 4, strides=[stride] * 2)

    def dense(self, x: Tensor, params: Weights) -> Tensor:
        """Apply a dense layer to the channels of each pixel."""
        return self.convolution(x, np.asarray(params["kernel"])[None, None], np.asarray(params["bias"]))

    def normalized(
        self, x: Tensor, kernel: np.ndarray, norm: Weights, statistics: Weights, stride: int = 1
    ) -> Tensor:
        """Convolve and normalize, with running statistics or, if there are none, over groups of channels."""
        if statistics:
            ((parameters, running),) = zip(norm.values(), statistics.values(), strict=True)
            deviation = np.sqrt(np.asarray(running["var"], np.float64) + BATCH_NORM_EPSILON)
            multiplier = parameters["scale"] / deviation
            shift = parameters["bias"] - running["mean"] * multiplier
            return self.convolution(x, kernel * multiplier, shift, stride)
        (parameters,) = norm.values()
        x = self.convolution(x, kernel, stride=stride)
        channels = kernel.shape[-1]
        groups = next(g for g in (8, 4, 2, 1) if channels % g == 0)
        shape = self.graph.node("Shape", x, dtype=np.int64)
        # The mean of the rows' means: one sum over all pixels in float32 would cost two digits, and so does
        # `InstanceNormalization` in onnxruntime.
        width = shape.slice(3, 4, 0)
        rows = self.graph.node("Concat", self.graph.constant([0, groups, -1], np.int64), width, axis=0)
        x = self.graph.node("Reshape", x, rows)
        x = x - x.reduce("ReduceMean", [3]).reduce("ReduceMean", [2])
        variance = (x * x).reduce("ReduceMean", [3]).reduce("ReduceMean", [2])
        x = x / self.graph.node("Sqrt", variance + GROUP_NORM_EPSILON)
        x = self.graph.node("Reshape", x, shape)
        scale, bias = (self.weight(np.reshape(parameters[name], (-1, 1, 1))) for name in ("scale", "bias"))
        return x * scale + bias

    def relu(self, x: Tensor) -> Tensor:
        return self.graph.node("Relu", x)

    def block(self, x: Tensor, name: str, variables: tuple[Weights, Weights], convolutions: int) -> Tensor:
        """Apply `models.unet.ConvBlock`."""
        params, statistics = (part.get(name, {}) for part in variables)
        for i in range(convolutions):
            kernel = np.asarray(params[f"Conv_{i}"]["kernel"])
            layer = f"Normalisation_{i}"
            x = self.relu(self.normalized(x, kernel, params[layer], statistics.get(layer, {})))
        return x

    def upsample(self, x: Tensor, params: Weights) -> Tensor:
        """Apply `models.unet.Upsample`."""
        return self.graph.node("DepthToSpace", self.dense(x, params["Dense_0"]), blocksize=2, mode="DCR")

    def concatenate(self, *parts: Tensor) -> Tensor:
        return self.graph.node("Concat", *parts, axis=1)

    def padded(self, x: Tensor, size: tuple[int, int], multiple: int) -> Tensor:
        """Repeat the last rows and columns up to a multiple of pixels."""
        pads = [0, 0, 0, 0, 0, 0, *(-length % multiple for length in size)]
        return self.graph.node("Pad", x, self.graph.constant(pads, np.int64), mode="edge") if any(pads) else x


def _unet(
    layers: _Layers, model: UNet, variables: tuple[Weights, Weights], x: Tensor, size: tuple[int, int]
) -> Tensor:
    params = variables[0]
    patch = STEMS[model.stem]
    block = partial(layers.block, variables=variables, convolutions=model.convolutions)
    x = layers.padded(x, size, patch * 2 ** (len(model.widths) - 1))
    if patch > 1:
        x = layers.graph.node("SpaceToDepth", x, blocksize=patch)
    skips = []
    for level in range(len(model.widths)):
        if level:
            skips.append(x)
            x = layers.graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        x = block(x, f"encoder_{level}")
    for level in reversed(range(len(skips))):
        x = layers.concatenate(skips[level], layers.upsample(x, params[f"up_{level}"]))
        x = block(x, f"decoder_{level}")
    if patch > 1:
        x = layers.relu(layers.upsample(x, params["up_stem"]))
    return layers.dense(x, params["head"])


def _resnet_unet(
    layers: _Layers, model: ResNetUNet, variables: tuple[Weights, Weights], x: Tensor, size: tuple[int, int]
) -> Tensor:
    params = variables[0]
    *skips, x = _resnet(
        layers, model.blocks, [part["encoder"] for part in variables], layers.padded(x, size, 32)
    )
    for level in reversed(range(len(model.widths))):
        x = layers.graph.node(
            "Resize",
            x,
            Tensor(layers.graph, "", np.float32),
            layers.graph.constant([1, 1, 2, 2], np.float32),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        if level:
            x = layers.concatenate(skips[level - 1], x)
        x = layers.block(x, f"decoder_{level}", variables, model.convolutions)
    return layers.convolution(x, np.asarray(params["head"]["kernel"]), np.asarray(params["head"]["bias"]))


def _resnet(layers: _Layers, blocks: Sequence[int], encoder: Sequence[Weights], x: Tensor) -> list[Tensor]:
    """Return the features of `models.resnet.ResNetEncoder`."""

    def normalized(
        x: Tensor, parts: Sequence[Weights], convolution: str, norm: str, stride: int = 1
    ) -> Tensor:
        params, statistics = parts
        kernel = np.asarray(params[convolution]["kernel"])
        return layers.normalized(x, kernel, params[norm], statistics[norm], stride)

    x = layers.relu(normalized(x, encoder, "conv1", "bn1", 2))
    features = [x]
    x = layers.graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for stage, count in enumerate(blocks, start=1):
        for number in range(count):
            parts = [part[f"layer{stage}_{number}"] for part in encoder]
            stride = 2 if stage > 1 and number == 0 else 1
            y = layers.relu(normalized(x, parts, "conv1", "bn1", stride))
            y = normalized(y, parts, "conv2", "bn2")
            if "downsample_0" in parts[0]:
                x = normalized(x, parts, "downsample_0", "downsample_1", stride)
            x = layers.relu(x + y)
        features.append(x)
    return features

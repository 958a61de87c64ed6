"""A segmentation as an ONNX model: `segmentation.segmentation_function` step by step, as ONNX nodes."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from kneefair_jax.export import onnx_networks
from kneefair_jax.export.onnx_graph import TYPES, Graph, Tensor
from kneefair_jax.export.segmentation import WEIGHT_BITS, Segmentation
from kneefair_jax.models.unet import STANDARDIZE_EPSILON

Span = tuple[Tensor, Tensor]  # start and extent on the grid, f64[]


def model(segmentation: Segmentation, half: bool = False) -> onnx.ModelProto:
    """Return the model `(image, is_eight_bit) -> (probabilities, mask)`, as `segmentation_function` describes it.

    Args:
        segmentation: networks, and how films enter them and masks leave.
        half: whether weights are stored as float16; the computation is in float32.
    """
    graph = Graph()
    grid = segmentation.grid
    image, is_eight_bit = graph.input("image", np.float32), graph.input("is_eight_bit", np.bool_)
    pixels, size, spans = working_grid(image, is_eight_bit, grid[:2], segmentation.fit)
    films = _standardized(pixels.reshape(0, 1, *grid[:2]))
    films = graph.node("Concat", *[films] * grid[2], axis=1)
    probabilities = _mean_probabilities(graph, segmentation, films, half)
    # NaN for a film with NaN or infinite pixels, otherwise 0.
    defect = (image - image).reduce("ReduceSum", [1, 2]).reshape(0, 1, 1, 1)
    probabilities = probabilities + defect
    outputs: dict[str, tuple[Tensor, Sequence[str | int]]] = {
        "probabilities": (
            probabilities.transpose(0, 2, 3, 1),
            ["batch", *grid[:2], segmentation.merge.shape[1]],
        ),
        "mask": (_labels(graph, probabilities, size, spans), ["batch", "height", "width"]),
    }
    inputs = [
        helper.make_tensor_value_info("image", TYPES[np.float32], ["batch", "height", "width"]),
        helper.make_tensor_value_info("is_eight_bit", TYPES[np.bool_], []),
    ]
    result = graph.model(inputs, outputs)
    onnx.checker.check_model(result)
    return result


def working_grid(
    image: Tensor, is_eight_bit: Tensor, grid: Sequence[int], fit: str
) -> tuple[Tensor, list[Tensor], list[Span]]:
    """Return films on the working grid, f32[B, h, w] of whole numbers, their size, and where they lie on it.

    See `segmentation.working_grid`.
    """
    graph = image.graph
    shape = graph.node("Shape", image, dtype=np.int64)
    size = [shape.slice(axis, axis + 1, 0).reshape().cast(np.float64) for axis in (1, 2)]
    spans = _place(graph, size, grid, fit)
    down, across = (
        _linear_weights(graph, _cells(graph, cells) - start, graph.range(length), extent, length)
        for cells, (start, extent), length in zip(grid, spans, size, strict=True)
    )
    pixels = graph.when(
        is_eight_bit, image.maximum(0).minimum(255), lambda branch: _eight_bits(branch, image)
    )
    pixels = _fixed_point_product(pixels, across.transpose(1, 0)).transpose(0, 2, 1)
    return _fixed_point_product(pixels, down.transpose(1, 0)).transpose(0, 2, 1), size, spans


def _cells(graph: Graph, count: int) -> Tensor:
    return graph.constant(np.arange(count), np.float64)


def _place(graph: Graph, size: Sequence[Tensor], grid: Sequence[int], fit: str) -> list[Span]:
    if fit == "stretch":
        return [(graph.constant(0, np.float64), graph.constant(cells, np.float64)) for cells in grid]
    ratios = [graph.constant(cells, np.float64) / length for length, cells in zip(size, grid, strict=True)]
    scale = ratios[0].minimum(ratios[1])
    spans = []
    for length, cells in zip(size, grid, strict=True):
        extent = graph.node("Round", scale * length).maximum(1).minimum(cells)
        start = graph.node("Floor", (graph.constant(cells, np.float64) - extent) / 2)
        spans.append((start, extent))
    return spans


def _linear_weights(graph: Graph, new: Tensor, old: Tensor, new_length: Tensor, old_length: Tensor) -> Tensor:
    scale = old_length / new_length
    new, old = new.reshape(-1, 1), old.reshape(1, -1)
    distance = graph.node("Abs", old + 0.5 - (new + 0.5) * scale) / scale.maximum(1)
    is_inside = (new >= 0) & (new < new_length) & (old >= 0) & (old < old_length)
    weight = graph.where(is_inside, (graph.constant(1, np.float64) - distance).maximum(0), 0)
    total = weight.reduce("ReduceSum", [1])
    return weight / graph.where(total > 0, total, 1)


def _fixed_point_product(pixels: Tensor, weight: Tensor) -> Tensor:
    units = pixels.graph.node("Floor", weight * 2**WEIGHT_BITS + 0.5)
    # Exact: products of 8 and 22 bits, whose sum is below 2**31.
    total = pixels.cast(np.float64) @ units
    rounded = pixels.graph.node("Floor", (total + 2 ** (WEIGHT_BITS - 1)) / 2**WEIGHT_BITS)
    return rounded.maximum(0).minimum(255).cast(np.float32)


def _eight_bits(graph: Graph, image: Tensor) -> Tensor:
    image = Tensor(graph, image.name, image.dtype)
    values = image.reshape(0, -1)
    count = graph.node("Shape", values, dtype=np.int64).slice(1, 2, 0).cast(np.float64)
    low, high = (_percentile(graph, values, count, share) for share in (0.5, 99.5))
    is_range = high > low
    low = graph.where(is_range, low, values.reduce("ReduceMin", [1]).cast(np.float64))
    high = graph.where(is_range, high, values.reduce("ReduceMax", [1]).cast(np.float64))
    start, extent = (part.cast(np.float32).reshape(0, 1, 1) for part in (low, (high - low).maximum(1e-12)))
    scaled = ((image - start) / extent).maximum(0).minimum(1)
    return graph.node("Round", scaled * 255)


def _percentile(graph: Graph, values: Tensor, count: Tensor, share: float) -> Tensor:
    """Return f64[B, 1]; only as many values are sorted as lie beyond the percentile."""
    last = count - 1
    position = last * (share / 100)
    lower_index = graph.node("Floor", position)
    above = (lower_index + 1).minimum(last)
    is_low = share < 50
    needed = above + 1 if is_low else count - lower_index
    ordered, _ = graph.nodes(
        "TopK", values, needed.cast(np.int64), outputs=2, axis=1, largest=int(not is_low)
    )
    lower, upper = (
        graph.node("Gather", ordered, (index if is_low else last - index).cast(np.int64), axis=1)
        for index in (lower_index, above)
    )
    step = (upper - lower).cast(np.float64)
    part = position - lower_index
    lower, upper = lower.cast(np.float64), upper.cast(np.float64)
    return graph.where(part < 0.5, lower + step * part, upper - step * (graph.constant(1, np.float64) - part))


def _standardized(pixels: Tensor) -> Tensor:
    image = pixels.cast(np.float64) / 255  # sums of float32 are less exact here
    centered = image - image.reduce("ReduceMean", [1, 2, 3])
    variance = (centered * centered).reduce("ReduceMean", [1, 2, 3])
    return (centered / (pixels.graph.node("Sqrt", variance) + STANDARDIZE_EPSILON)).cast(np.float32)


def _mean_probabilities(graph: Graph, segmentation: Segmentation, films: Tensor, half: bool) -> Tensor:
    """Return f32[N, C, h, w] of background and structures."""
    by_network = [
        graph.node("Softmax", onnx_networks.logits(graph, network, films, half), axis=1)
        for network in segmentation.networks
    ]
    total = by_network[0]
    for probabilities in by_network[1:]:
        total = total + probabilities
    mean = total / len(by_network)
    return graph.node("Conv", mean, graph.constant(segmentation.merge.T[:, :, None, None], np.float32))


def _labels(graph: Graph, probabilities: Tensor, size: Sequence[Tensor], spans: Sequence[Span]) -> Tensor:
    grid_shape = graph.node("Shape", probabilities, dtype=np.int64)
    down, across = (
        _linear_weights(
            graph,
            graph.range(length),
            graph.range(grid_shape.slice(axis, axis + 1, 0).reshape().cast(np.float64)) - start,
            length,
            extent,
        ).cast(np.float32)
        for axis, length, (start, extent) in zip((2, 3), size, spans, strict=True)
    )
    fine = down @ (probabilities @ across.transpose(1, 0))
    return graph.node("ArgMax", fine, dtype=np.int64, axis=1, keepdims=0).cast(np.uint8)

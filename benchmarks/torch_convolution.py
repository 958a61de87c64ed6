"""Speed of PyTorch's 3 x 3 convolution in its three directions, for `benchmarks.cpu_attempts`; torch alone is needed.

    python -m benchmarks.torch_convolution '[[128, 16, 16]]' 9

The last line of the output is JSON: for each layer (side, input and output channels), GFLOP/s by direction.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable

import torch

BATCH = 8
LAST = torch.channels_last


def seconds(function: Callable[[], object], repetitions: int) -> float:
    """The median time of a call, after one that is not timed."""
    function()
    times = []
    for _ in range(repetitions):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def rates(side: int, inputs: int, outputs: int, repetitions: int) -> dict[str, float]:
    """GFLOP/s of the directions of a layer, channels last."""
    x = torch.randn(BATCH, inputs, side, side).contiguous(memory_format=LAST)
    cotangent = torch.randn(BATCH, outputs, side, side).contiguous(memory_format=LAST)
    kernel = torch.randn(outputs, inputs, 3, 3).contiguous(memory_format=LAST)

    def gradient(*wanted: bool) -> Callable[[], object]:
        sizes = (
            [1, 1],
            [1, 1],
            [1, 1],
            False,
            [0, 0],
            1,
        )  # stride, padding, dilation, transposed, its padding, groups
        return lambda: torch.ops.aten.convolution_backward(cotangent, x, kernel, None, *sizes, wanted)

    directions = {
        "forward": lambda: torch.nn.functional.conv2d(x, kernel, padding=1),
        "input gradient": gradient(True, False, False),
        "weight gradient": gradient(False, True, False),
    }
    operations = 2 * 9 * inputs * outputs * BATCH * side**2
    return {name: operations / seconds(run, repetitions) / 1e9 for name, run in directions.items()}


if __name__ == "__main__":
    layers, count = json.loads(sys.argv[1]), int(sys.argv[2])
    print(json.dumps([rates(*layer, count) for layer in layers]))
